"""Searching by examples, on rendered videos."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support.scenes import scene
from support.videos import write_video

import vie_models as vie
from vie_models.cli import main
from vie_models.cli.search import _moment
from vie_models.search import Example, build_index, contact_sheet, embed_example, find, open_index, thumbnail
from vie_models.video.sources import open_video


@pytest.fixture
def index(library):
    return open_index(library / "features")


@pytest.fixture
def two_scenes(library, tmp_path):
    """A video of two scenes of the library, one after the other."""
    return write_video(tmp_path / "two.mp4", np.concatenate([scene(3), scene(8)]), codec="libx264")


def test_a_moment_finds_its_scene(index, two_scenes, model):
    for at, name in ((1.8, "scene03.mp4"), (5.4, "scene08.mp4")):
        hits = find(index, Example(two_scenes, at=at), 3, model=model, overlaps=True)
        assert {hit.name for hit in hits} == {name}
        assert hits[0].similarity > 0.99
    long = embed_example(index, Example(two_scenes, at=3.6, window=7.2), model)
    clips = [embed_example(index, Example(two_scenes, at=at), model) for at in (1.28, 3.6, 5.92)]
    mean = np.mean(clips, 0) / np.linalg.norm(np.mean(clips, 0))
    np.testing.assert_allclose(long, mean, atol=1e-5)  # three clips, end to end


def test_a_moment_is_embedded_as_the_features_were(index, library, model):
    video = library / "videos" / "scene05.mp4"
    (row, *_) = index.rows_in(video, 0.5, 1.0)[1:]
    at = float(index.start[row] + index.end[row]) / 2
    np.testing.assert_allclose(embed_example(index, Example(video, at=at), model), index.rows[row], atol=1e-5)
    rows = index.rows_in(video)
    mean = np.mean(index.rows[rows], 0)
    np.testing.assert_allclose(embed_example(index, Example(video), model), mean / np.linalg.norm(mean), atol=1e-5)


def test_an_example_is_placed_as_the_clips_of_an_earlier_version(library, model):
    """They lay as in the paper, which their settings do not say."""
    video, index = library / "videos" / "scene05.mp4", open_index(library / "features")
    paper = vie.Extractor(model, placement="paper", workers=0)
    index.settings = {key: value for key, value in paper.settings().items() if key != "placement"}
    mean = paper.features(video)[0]["embedding"].mean(0)
    np.testing.assert_allclose(embed_example(index, Example(video), model), mean / np.linalg.norm(mean), atol=1e-5)


def test_the_example_itself_is_left_out(index, library, model, tmp_path):
    shutil.copy(library / "videos" / "scene05.mp4", tmp_path / "other name.mp4")  # it is known by its content
    example = Example(tmp_path / "other name.mp4")
    assert "scene05.mp4" not in {hit.name for hit in find(index, example, len(index), model=model)}
    assert find(index, example, 1, model=model, keep_own=True)[0].name == "scene05.mp4"
    hits = find(index, dataclasses.replace(example, at=1.3), len(index), model=model, overlaps=True)
    assert all(hit.start >= 2.5 for hit in hits if hit.name == "scene05.mp4")


@pytest.mark.parametrize(("at", "first", "last"), [(0.1, 0.0, 2.56), (7.9, 5.44, 8.0), (4.0, 2.72, 5.28)])
def test_what_overlaps_the_example_near_an_end_is_left_out(tmp_path, model, at, first, last):
    video = write_video(tmp_path / "long.mp4", scene(3, frames=200), codec="libx264")
    vie.Extractor(model, stride=0.5, workers=0).extract(video, tmp_path / "features")
    index = build_index(tmp_path / "features")
    hits = find(index, Example(video, at=at), 50, model=model, overlaps=True)
    apart = sum(start >= last or end <= first for start, end in zip(index.start, index.end, strict=True))
    assert apart - 1 <= len(hits) <= apart  # where the video ends, the index does not say
    assert all(hit.start >= last or hit.end <= first for hit in hits)


def test_clips_that_overlap_a_better_one_are_left_out(index, library, model):
    example = Example(library / "videos" / "scene05.mp4", at=1.3)
    every = find(index, example, len(index), model=model, overlaps=True)
    hits = find(index, example, len(index), model=model)
    assert len({hit.name for hit in hits}) == len(hits) == 13  # a video of 3.6 s has room for one window of 2.56 s
    best = {hit.name: hit for hit in reversed(every)}
    assert all(best[hit.name] == hit for hit in hits)
    assert find(index, example, 5, model=model) == hits[:5]


def test_only_the_best_clip_of_each_video(index, library, model):
    example = Example(library / "videos" / "scene05.mp4", at=1.3)
    every = find(index, example, len(index), model=model, keep_own=True, overlaps=True)
    hits = find(index, example, 4, model=model, keep_own=True, overlaps=True, videos=True)
    first = {hit.name: hit for hit in reversed(every)}
    assert hits == sorted(first.values(), key=lambda hit: -hit.similarity)[:4]
    assert hits[0].name == "scene05.mp4"
    assert find(index, example, 4, model=model, keep_own=True, videos=True) == hits


def test_videos_are_other_videos(tmp_path, model, monkeypatch):
    (tmp_path / "videos").mkdir()
    for number in range(3):
        write_video(tmp_path / "videos" / f"{number}.mp4", scene(number, frames=200), codec="libx264")
    vie.Extractor(model, stride=0.1, workers=0).extract(tmp_path / "videos", tmp_path / "features")
    index = build_index(tmp_path / "features")
    asked = []
    nearest = index.nearest
    monkeypatch.setattr(
        index, "nearest", lambda query, k, *args, **kwargs: asked.append(k) or nearest(query, k, *args, **kwargs)
    )
    hits = find(index, Example(tmp_path / "videos" / "1.mp4", at=2.0), 20, model=model, videos=True)
    assert sorted(hit.name for hit in hits) == ["0.mp4", "2.mp4"]
    assert max(asked) < len(index), "there are no more videos to look for"


def test_several_examples_and_minus(index, library, model):
    one, two = (library / "videos" / f"scene{i:02d}.mp4" for i in (2, 9))
    both = find(index, [Example(one), Example(two)], len(index), model=model, keep_own=True, overlaps=True)
    vectors = [embed_example(index, Example(video), model) for video in (one, two)]
    middle = sum(vectors) / np.linalg.norm(sum(vectors))
    assert both[0].similarity == pytest.approx(float(index.rows[both[0].row] @ middle), abs=1e-5)
    apart = find(index, [Example(one), Example(two, minus=True)], len(index), model=model, keep_own=True, overlaps=True)
    difference = (vectors[0] - vectors[1]) / np.linalg.norm(vectors[0] - vectors[1])
    assert [hit.row for hit in apart[:5]] == np.argsort(-(index.rows @ difference))[:5].tolist()
    assert np.mean([hit.similarity for hit in apart if hit.name == "scene02.mp4"]) > 0.3
    assert np.mean([hit.similarity for hit in apart if hit.name == "scene09.mp4"]) < -0.3
    with pytest.raises(ValueError, match="at least one example must be given that is not subtracted"):
        find(index, [Example(one, minus=True)], model=model)
    with pytest.raises(ValueError, match="examples that cancel one another"):
        find(index, [Example(one), Example(one, minus=True)], model=model)


def test_a_pathway_alone(index, library, model):
    video = library / "videos" / "scene02.mp4"
    for pathway, part in (("static", slice(0, 128)), ("dynamic", slice(128, 256))):
        hit = find(index, Example(video), 1, model=model, pathway=pathway)[0]
        query = embed_example(index, Example(video), model)[part]
        row = index.rows[hit.row][part]
        assert hit.similarity == pytest.approx(float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)), abs=1e-4)


def test_what_cannot_be_searched(index, library, model, tmp_path):
    video = library / "videos" / "scene02.mp4"
    for arguments, reason in (
        ({"at": -1.0}, "at must be >= 0 seconds, got -1"),
        ({"window": 2.0}, "window must come with at"),
        ({"at": 1.0, "window": 0.0}, "window must be > 0"),
    ):
        with pytest.raises(ValueError, match=reason):
            Example(video, **arguments)
    with pytest.raises(ValueError, match=r"at must lie in the video: .* lasts 3.60 s, got 9 s"):
        find(index, Example(video, at=9.0), model=model)
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        find(index, Example(video), 0, model=model)
    with pytest.raises(ValueError, match="made by vie_twopathway_tiny with other weights than these of vie_single_tiny"):
        find(index, Example(video), model=vie.create_model("vie_single_tiny", pretrained=True))
    with pytest.raises(ValueError, match="with other weights"):
        find(index, Example(video), model=vie.create_model("vie_twopathway_tiny"))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(vie.VideoError, match="cannot be opened as a video"):
        find(index, Example(tmp_path / "broken.mp4", at=1.0), model=model)
    with pytest.raises(FileNotFoundError):
        find(index, Example(tmp_path / "none.mp4"), model=model)


def test_unlike_clips_are_left_out(index, library, model):
    example = Example(library / "videos" / "scene02.mp4", at=1.8)
    every = find(index, example, 42, model=model, overlaps=True)
    percentiles = [hit.percentile for hit in every]
    assert percentiles == sorted(percentiles, reverse=True)
    assert percentiles == index.percentiles([hit.similarity for hit in every]).tolist()
    middle = percentiles[len(every) // 2]
    cut = find(index, example, 42, model=model, overlaps=True, percentile=middle)
    assert cut == [hit for hit in every if hit.percentile >= middle]
    assert 0 < len(cut) < len(every)
    with pytest.raises(ValueError, match="from 0 to 100, got 101"):
        find(index, example, model=model, percentile=101)


def test_pictures(index, library, tmp_path, model):
    video = library / "videos" / "scene02.mp4"
    picture = thumbnail(video, 1.0, 48)
    assert picture.size == (64, 48)
    expected = np.asarray(Image.fromarray(scene(2)[25]).resize((64, 48), Image.Resampling.BILINEAR), float)
    assert abs(np.asarray(picture, float) - expected).mean() < 8
    assert np.array_equal(np.asarray(thumbnail(video, 99.0)), np.asarray(thumbnail(video, 3.56)))
    for path in (tmp_path / "gone.mp4", tmp_path):
        assert np.asarray(thumbnail(path, 1.0))[0, 0].tolist() == [128, 128, 128]
    hits = find(index, Example(video), 7, model=model)
    hits[2] = dataclasses.replace(hits[2], path=str(tmp_path / "gone.mp4"))
    sheet = Image.open(contact_sheet(hits, tmp_path / "new" / "sheet.png", columns=3, title="seven"))
    one = Image.open(contact_sheet(hits[:1], tmp_path / "one.png", columns=3))
    assert sheet.size[0] == 3 * (one.size[0] - 8) + 8
    assert sheet.size[1] > 3 * (one.size[1] - 8)
    framed = Image.open(contact_sheet(hits[:1], tmp_path / "framed.png", query=hits[1])).convert("RGB")
    assert framed.size[0] == 2 * (one.size[0] - 8) + 8
    assert (214, 39, 40) in {color for _, color in framed.getcolors(1 << 20)}
    assert one.convert("RGB").getpixel((10, 50)) == (255, 255, 255), "no pillars beside pictures of 4:3"
    with pytest.raises(ValueError, match="there are no clips to draw"):
        contact_sheet([], tmp_path / "none.png")


@pytest.mark.parametrize("name", ["video_0.mov", "video_90.mov", "video_180.mov"])
def test_pictures_are_upright(clips_folder, name):
    with open_video(clips_folder / name, 25.0) as video:
        frame = next(video.read([[0]]))[0]
    picture = thumbnail(clips_folder / name, 0.0, 60)
    small = Image.fromarray(frame).resize(picture.size)
    assert picture.size == (round(60 * frame.shape[1] / frame.shape[0]), 60)
    assert abs(np.asarray(picture, float) - np.asarray(small, float)).mean() < 5


def test_the_command(library, two_scenes, tmp_path, capsys):
    features = str(library / "features")
    assert main(["index", features]) == 0
    assert "exact index of 42 clips of 14 videos, 256 numbers each" in capsys.readouterr().out
    assert (
        main(["search", features, str(two_scenes), "--at", "1.8", "-k", "3", "--overlaps", "--sheet", str(tmp_path / "s.png")])
        == 0
    )
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].split() == ["cosine", "percentile", "start,", "s", "end,", "s", "video"]
    assert [line.split()[-1] for line in printed.out.splitlines()[1:]] == ["scene03.mp4"] * 3
    assert (tmp_path / "s.png").exists()
    minus = ["--minus", str(library / "videos" / "scene08.mp4"), "--and", f"{two_scenes}@2.0"]
    assert main(["search", features, str(two_scenes), *minus, "--json", "-k", "1", "--pathway", "static"]) == 0
    hit = json.loads(capsys.readouterr().out)
    assert hit["similarity"] > 0
    assert set(hit) == {"row", "name", "path", "start", "end", "similarity", "percentile"}


def test_names_that_look_like_something_else(tmp_path, model, capsys):
    """A line break and a moment."""
    videos = [tmp_path / "new\nline.mp4", tmp_path / "clip@2"]
    for number, video in enumerate(videos):
        write_video(tmp_path / "video.mp4", scene(number), codec="libx264").rename(video)
    vie.Extractor(model, clips=1, workers=0).extract(videos, tmp_path / "features")
    build_index(tmp_path / "features")
    one, two = map(str, videos)
    assert main(["search", str(tmp_path / "features"), one, "--and", two, "--keep-own"]) == 0
    assert sorted(line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]) == ["clip@2", "new?line.mp4"]
    assert _moment(two) == (two, None)
    assert _moment(f"{two}@2") == (two, 2.0)


def test_the_command_says_what_is_wrong(library, tmp_path, capsys):
    features, video = str(library / "features"), str(library / "videos" / "scene02.mp4")
    for arguments, reason in (
        (["index", str(tmp_path)], "is it the output folder of `vie extract`"),
        (["search", str(tmp_path), video], "no index in"),
        (["index", features, "--array", "encode_6"], "array must be one of embedding, which"),
        (["search", features, video, "-k", "0"], "k must be >= 1, got 0"),
        (["search", features, str(tmp_path / "none.mp4")], "none.mp4"),
        (["search", features, video, "--model", "vie_single_tiny"], "with other weights than these of vie_single_tiny"),
        (["search", features, video, "--percentile", "101"], "percentile must be from 0 to 100, got 101"),
        (["duplicates", features, "--percentile", "-1"], "percentile must be from 0 to 100, got -1"),
        (["duplicates", features, "--threshold", "2"], "threshold must be in (0, 1], got 2"),
        (["cluster", features, "-k", "1000", "-o", str(tmp_path)], "k must be from 1 to the 42 rows"),
        (["segment", "vie_twopathway_tiny", video, "--kernel", "0.1"], "kernel must be at least the stride"),
    ):
        assert main(arguments) == 2
        assert reason in capsys.readouterr().err
    assert main(["search", features, video, "--percentile", "99.9"]) == 0
    assert "--percentile 0 shows" in capsys.readouterr().err


def test_an_index_elsewhere(library, tmp_path):
    out = tmp_path / "elsewhere"
    assert len(build_index(library / "features", out=out)) == 42
    assert open_index(out).features.samefile(library / "features")
