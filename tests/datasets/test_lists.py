"""List files, right and wrong."""

import pytest
from support.videos import write_list

from vie_models.datasets.lists import read_list


@pytest.mark.parametrize(
    ("lines", "paths", "labels", "frames"),
    [
        (["a.mp4 30 1", "", "b c/d 7.mp4 250 0"], ["a.mp4", "b c/d 7.mp4"], [1, 0], [30, 250]),
        (["a.mp4 3", "my video 2 5"], ["a.mp4", "my video 2"], [3, 5], None),
        (["a.mp4", "the 3 bears.mp4"], ["a.mp4", "the 3 bears.mp4"], [-1, -1], None),
    ],
    ids=["path frames label", "path label", "path"],
)
def test_list_files(tmp_path, lines, paths, labels, frames):
    videos = read_list(write_list(tmp_path / "list", lines), "/root")
    assert [str(path) for path in videos.paths] == [f"/root/{path}" for path in paths]
    assert videos.labels.tolist() == labels
    assert (videos.frames if frames is None else videos.frames.tolist()) == frames


@pytest.mark.parametrize(
    ("lines", "message"),
    [([], "names no video"), (["a.mp4 1", "b.mp4 0", "a.mp4 0"], "a.mp4 twice"), (["a.mp4 30 -2"], "a label -2")],
)
def test_wrong_lists(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_list(write_list(tmp_path / "list", lines))


def test_ablations_of_the_list(tmp_path):
    videos = read_list(write_list(tmp_path / "list", [f"{i}.mp4 {40 * i + 10} {i % 3}" for i in range(10)]))
    part = videos.part(0.3, seed=1)
    assert len(part) == 3
    assert list(part.paths) == sorted(part.paths)
    assert part.labels.tolist() == [int(path.stem) % 3 for path in part.paths]
    assert list(videos.part(0.3, seed=1).paths) == list(part.paths) != list(videos.part(0.3, seed=2).paths)
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got 0"):
        videos.part(0, 0)

    binned = videos.binned()
    lengths = [last - first for first, last in binned.stretches.tolist()]
    assert [path.stem for path in binned.paths] == [str(i) for i in range(10) for _ in range(max(-(-(40 * i + 10) // 130), 1))]
    assert sum(lengths) == sum(videos.frames.tolist())
    assert all(42 <= length <= 130 for length, path in zip(lengths, binned.paths, strict=True) if int(path.stem))
    with pytest.raises(ValueError, match="needs their lengths"):
        read_list(write_list(tmp_path / "list", ["a.mp4 1"])).binned()
