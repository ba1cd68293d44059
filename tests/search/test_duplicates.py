"""Near-duplicates: rows with a shift and a speed, and planted copies of rendered videos."""

import json
import re

import numpy as np
import pytest
from support.features import names, write_features
from support.scenes import scene
from support.videos import write_video

import vie_models as vie
from vie_models.cli import main
from vie_models.search import build_index, find_duplicates
from vie_models.search.duplicates import BACKGROUND, RATIO, THRESHOLD, aligned


def walk(seed, clips=20, dim=32):
    """Rows that change slowly, as clips of a video do."""
    steps = np.random.default_rng(seed).normal(size=(clips, dim)) * 0.4
    steps[0] *= 2.5
    return steps.cumsum(0).astype(np.float32)


def noisy(rows, seed=0, noise=0.02):
    return (rows + noise * np.random.default_rng(seed).normal(size=rows.shape)).astype(np.float32)


@pytest.fixture
def features(tmp_path):
    """Twelve unlike videos of 20 clips."""
    for number, name in enumerate(names(0, 12)):
        write_features(tmp_path / "features", [name], arrays={"embedding": walk(number)})
    return tmp_path / "features"


def test_none_is_found_where_there_is_none(features):
    assert find_duplicates(build_index(features)) == []


def test_a_part_of_another_video(features):
    write_features(features, ["copy.mp4"], arrays={"embedding": noisy(walk(4)[8:16])})
    (pair,) = find_duplicates(build_index(features))
    assert (pair.first.name, pair.second.name) == ("copy.mp4", "v004.mp4")
    assert (pair.first.start, pair.first.end) == (0, 9)
    assert (pair.second.start, pair.second.end) == (8, 17)
    assert (pair.matches, pair.speed) == (8, 1.0)
    assert 0.99 < pair.similarity < 1


def test_a_slower_copy(features):
    rows = walk(50, clips=40)
    times = 0.9 * np.arange(40)
    slow = np.stack([np.interp(times, np.arange(40), column) for column in rows.T], 1)
    write_features(features, ["a.mp4"], arrays={"embedding": rows})
    write_features(features, ["b.mp4"], arrays={"embedding": noisy(slow)})
    (pair, *_) = find_duplicates(build_index(features))
    assert (pair.first.name, pair.second.name) == ("a.mp4", "b.mp4")
    assert pair.speed == pytest.approx(1 / 0.9)
    assert pair.matches > 20


def test_black_frames_are_no_duplicates(features):
    for number in range(BACKGROUND + 3):
        rows = walk(100 + number)
        rows[5:9] = 1.0  # black
        write_features(features, [f"black{number:02d}.mp4"], arrays={"embedding": rows})
    index = build_index(features)
    assert find_duplicates(index) == []
    assert len(find_duplicates(index, ratio=1.0, threshold=0.99)) > 50  # without the ratio, all of them


def test_rows_that_many_videos_share_exactly_are_no_duplicates(tmp_path):
    for dim in (8, 100, 256):
        same = np.tile(np.random.default_rng(dim).normal(size=(1, dim)).astype(np.float32), (7, 1))
        features = write_features(tmp_path / str(dim), names(0, 15), arrays={"embedding": same})
        assert find_duplicates(build_index(features)) == []


def test_an_exact_copy(features):
    write_features(features, ["copy.mp4"], arrays={"embedding": walk(4)})
    (pair,) = find_duplicates(build_index(features))
    assert (pair.first.name, pair.second.name, pair.matches) == ("copy.mp4", "v004.mp4", 20)


def test_what_does_not_agree_in_time_is_no_duplicate(features):
    backwards = noisy(walk(4)[::-1])
    write_features(features, ["backwards.mp4"], arrays={"embedding": backwards})
    pairs = find_duplicates(build_index(features), matches=4)
    assert pairs == []


def test_alignment():
    first, second = np.array([0.0, 1, 2, 3, 0, 2]), np.array([10.0, 11, 12, 13, 3, 9])
    kept, speed = aligned(first, second, np.full(6, 0.9), tolerance=0.3)
    assert (kept.tolist(), speed) == ([0, 1, 2, 3], 1.0)
    kept, speed = aligned(first[:4], 20 + first[:4] / 0.9, np.full(4, 0.9), tolerance=0.02)
    assert (len(kept), speed) == (4, 1 / 0.9)
    still = np.repeat(np.arange(5.0), 5), np.tile(np.arange(5.0), 5)  # every clip is like every other
    kept, speed = aligned(*still, np.ones(25), tolerance=0.48)
    assert speed == 1.0
    assert still[0][kept].tolist() == still[1][kept].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_with_faiss(features, kind):
    pytest.importorskip("faiss", reason="faiss is not installed")
    write_features(features, ["copy.mp4"], arrays={"embedding": noisy(walk(4)[8:16])})
    (exact,) = find_duplicates(build_index(features))
    (found,) = find_duplicates(build_index(features, kind=kind))
    assert (found.first, found.second, found.matches) == (exact.first, exact.second, exact.matches)
    assert found.similarity == pytest.approx(exact.similarity, abs=1e-6)


def test_planted_copies_of_videos(library, tmp_path, model, capsys):
    features = tmp_path / "features"
    extractor = vie.Extractor(model, stride=0.5, workers=0)
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in (library / "videos").iterdir():
        (videos / path.name).symlink_to(path)
    extractor.extract(videos, features)
    assert find_duplicates(build_index(features), 0.95) == []
    write_video(videos / "z-mirrored.mp4", np.ascontiguousarray(scene(6)[:, :, ::-1]))
    write_video(videos / "z-small.mp4", np.ascontiguousarray(scene(9)[:, ::2, ::2]))
    extractor.extract(videos, features)
    found = find_duplicates(build_index(features), 0.95)  # to the encoder, some scenes are more alike than real videos are
    assert {(pair.first.name, pair.second.name) for pair in found} == {
        ("scene06.mp4", "z-mirrored.mp4"),
        ("scene09.mp4", "z-small.mp4"),
    }
    sheet = tmp_path / "d.png"
    assert main(["duplicates", str(features), "--threshold", "0.95", "--json", "--sheet", str(sheet)]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["second"]["name"] for line in lines] == [pair.second.name for pair in found]
    assert "2 pairs of videos" in printed.err
    assert sheet.exists()
    assert main(["duplicates", str(features), "--threshold", "0.95"]) == 0
    assert "scene06.mp4 0.00-" in capsys.readouterr().out


def test_numbers_out_of_range(features):
    index = build_index(features)
    for arguments in ({"threshold": 0}, {"threshold": 1.1}, {"ratio": 0}, {"matches": 0}):
        with pytest.raises(ValueError, match="must be"):
            find_duplicates(index, **arguments)


def test_the_help_names_the_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["duplicates", "--help"])
    text = " ".join(re.sub("[^ -~]", " ", capsys.readouterr().out).split())
    assert f"Default: {THRESHOLD:g}," in text
    assert f"Default: {RATIO:g}," in text
