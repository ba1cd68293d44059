import json
import shutil

import av
import numpy as np
import pytest
from support.pages import Page, file_data
from support.videos import write_video

import vie_models as vie
from vie_models.app import jobs, searching
from vie_models.search import build_index

NAME = "vie_twopathway_tiny"


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Features of three videos of 8 s, each of its own colors."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "videos").mkdir()
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 256, (1, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        shaken = np.stack([np.roll(frames[0], 2 * k, 1) for k in range(200)])
        write_video(folder / "videos" / f"{number}.mp4", shaken)
    vie.Extractor(vie.create_model(NAME, pretrained=True), stride=1.0, workers=0).extract(
        folder / "videos", folder / "features"
    )
    return folder / "features"


def test_a_moment_finds_its_like(features, tmp_path):
    video = features.parent / "videos" / "1.mp4"
    copied = tmp_path / "copy.mp4"
    copied.write_bytes(video.read_bytes())
    assert searching.about(str(features)) == (18, 3, NAME, ["both", "appearance", "motion"])
    for by in searching.PATHWAYS:
        found = searching.search(str(features), copied, 2.0, 2.56, by, 4, str(tmp_path / "previews"))
        assert found[0].name == "1.mp4"
        assert found[0].similarity > 0.95
        assert found[0].start >= 4.56, "the moment itself, in a copy of the video, is not among what is like it"
        assert all(one.preview for one in found)
        assert [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)
    with pytest.raises(ValueError, match="a search goes by both, appearance, motion, got 'color'"):
        searching.search(str(features), copied, 2.0, 2.56, "color", 4, str(tmp_path))


@pytest.mark.parametrize(("setting", "value"), [("weights", "0" * 64), ("model", "vie_trn")])
def test_features_of_other_weights_are_refused_at_once(features, tmp_path, setting, value):
    shutil.copytree(build_index(features).folder, tmp_path / "index")
    facts = json.loads((tmp_path / "index" / "index.json").read_text())
    facts["settings"][setting] = value
    (tmp_path / "index" / "index.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"the page searches in features of published weights only: .*weights"):
        searching.about(str(tmp_path / "index"))


def test_the_nearest_videos(features, tmp_path):
    video = features.parent / "videos" / "1.mp4"
    found = searching.search(str(features), video, 0.0, 8.0, "both", 3, str(tmp_path / "previews"), videos=True)
    assert sorted(one.name for one in found) == ["0.mp4", "2.mp4"]


def test_the_beginning_of_a_video_is_known_as_the_video(features, tmp_path):
    whole = features.parent / "videos" / "1.mp4"
    beginning = tmp_path / "beginning.mp4"
    with av.open(str(whole)) as source, av.open(str(beginning), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and packet.pts * packet.time_base < 7:
                packet.stream = stream
                target.mux(packet)
    asked = (str(features), beginning, 2.0, 2.56, "both", 1, str(tmp_path / "previews"))
    (other,) = searching.search(*asked)
    assert (other.name, other.start) == ("1.mp4", 2.0)
    features, _, start, length, by, count, folder = asked
    (found,) = jobs.search(features, str(beginning), str(whole), start, length, by, count, folder)
    assert found["name"] == "1.mp4"
    assert found["start"] >= 4.56
    found = jobs.search(features, str(beginning), str(whole), 0.0, 7.0, by, 3, folder, videos=True)
    assert sorted(one["name"] for one in found) == ["0.mp4", "2.mp4"]


def test_a_layer_is_named(features, tmp_path):
    model = vie.create_model(NAME, pretrained=True)
    layers = ["dynamic.encode_6"]
    vie.Extractor(model, layers=layers, stride=4.0, workers=0).extract(features.parent / "videos", tmp_path / "layers")
    build_index(tmp_path / "layers", layers[0])
    assert searching.about(str(tmp_path / "layers"))[2:] == (f"the layer {layers[0]} of {NAME}", ["both"])


def test_a_video_that_is_gone_has_a_reason(features, tmp_path):
    video = features.parent / "videos" / "2.mp4"
    away = tmp_path / "away.mp4"
    video.rename(away)
    try:
        found = searching.search(str(features), away, 0.0, 2.56, "both", 3, str(tmp_path / "previews"))
    finally:
        away.rename(video)
    gone = [one for one in found if one.name == "2.mp4"]
    assert gone
    assert {one.preview for one in gone} == {None}
    assert all(one.reason for one in gone)


def test_the_page_searches(features, tmp_path):
    pytest.importorskip("gradio", reason="the page needs gradio")
    with Page(tmp_path, str(features)) as page:
        assert any("18 moments" in line for line in page.lines)
        config = page.config()
        types = {one["id"]: one["type"] for one in config["components"]}
        opened = next(
            one
            for one in config["dependencies"]
            if [types[number] for number in one["inputs"]] == ["file"]
            and "slider" in [types[number] for number in one["outputs"]]
        )
        _, path = page.upload("v.mp4", (features.parent / "videos" / "0.mp4").read_bytes())
        answer = page.ask_number(opened["id"], [file_data(path)])
        assert answer["success"], answer
        assert "The moment: 2.2 to 4.7 s" in str(answer["output"]["data"])
