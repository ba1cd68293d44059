"""List files, right and wrong."""

import os
import warnings

import numpy as np
import pytest
from support.videos import write_list, write_video

from vie_models.datasets.lists import read_list, warn_of_shared

TWELVE = [f"{name}_{i}.mp4 {label}" for label, name in enumerate(("blue", "green", "red")) for i in range(4)]


def read_text(tmp_path, content, root="/root"):
    file = tmp_path / "list.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_list(file, root)


@pytest.mark.parametrize(
    ("lines", "paths", "labels", "frames"),
    [
        (["a.mp4 30 1", "", "b c/d 7.mp4 250 0"], ["a.mp4", "b c/d 7.mp4"], [1, 0], [30, 250]),
        (["a.mp4 3", "my video 2 5"], ["a.mp4", "my video 2"], [3, 5], None),
        (["a.mp4", "the 3 bears.mp4"], ["a.mp4", "the 3 bears.mp4"], [-1, -1], None),
        (["my video 2\t5", "other, too\t-1"], ["my video 2", "other, too"], [5, -1], None),
        (["frames/x 250 0", "frames/y z 17 399"], ["frames/x", "frames/y z"], [0, 399], [250, 17]),
        (["a, b.MP4 0", "it's.mkv 1"], ["a, b.MP4", "it's.mkv"], [0, 1], None),
    ],
    ids=["path frames label", "path label", "path", "tabs", "folders", "commas within"],
)
def test_list_files(tmp_path, lines, paths, labels, frames):
    videos = read_list(write_list(tmp_path / "list", lines), "/root")
    assert [str(path) for path in videos.paths] == [f"/root/{path}" for path in paths]
    assert videos.labels.tolist() == labels
    assert (videos.frames if frames is None else videos.frames.tolist()) == frames


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + "\n".join(TWELVE),
        "\r\n".join(TWELVE) + "\r\n",
        "\r".join(TWELVE),
        "\n\n \n".join(TWELVE),
        "\n".join(TWELVE).replace(" ", "\t"),
        "\n".join(TWELVE[:6]) + "\n\ufeff" + "\n".join(TWELVE[6:]),
    ],
    ids=["mark", "CRLF", "CR", "empty lines", "tabs", "two files with marks"],
)
def test_texts_that_are_lists(tmp_path, content):
    videos = read_text(tmp_path, content)
    assert [path.name for path in videos.paths] == [line.split()[0] for line in TWELVE]
    assert videos.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def changed(number, old, new, lines=TWELVE):
    """The lines with one replacement, in line `number`, or in all if it is 0."""
    return "\n".join(line.replace(old, new) if number in (0, i) else line for i, line in enumerate(lines, 1))


FRAMES = [line.replace(" ", " 250 ") for line in TWELVE]


@pytest.mark.parametrize(
    ("content", "line", "remedy"),
    [
        (changed(12, " 2", ""), 12, "on every line"),
        (changed(5, " 250 1", " 1", FRAMES), 5, "on every line"),
        (changed(7, ".mp4", ".mp4 9", [line.split()[0] for line in TWELVE]), 7, "on every line"),
        (changed(9, " 2", "", [line.replace(".mp4", "") for line in TWELVE]), 9, "on every line"),
        (changed(0, " ", ","), 1, "blanks or tabs"),
        (changed(0, " ", ", "), 1, "blanks or tabs"),
        (changed(0, ".mp4 ", ";"), 1, "blanks or tabs"),
        (changed(0, "blue_1.mp4 0", "0,blue_1.mp4"), 2, "blanks or tabs"),
        ("path,label\n" + changed(0, " ", ","), 1, "remove the line"),
        ("video_path\tlabel\n" + changed(0, " ", "\t"), 1, "remove the line"),
        ("# my list\n" + changed(0, "", ""), 1, "remove the line"),
        (changed(4, "blue_3", "# blue_3"), 4, "remove the line"),
        ("\n".join(f'"{line.split()[0]}" {line.split()[1]}' for line in TWELVE), 1, "remove them"),
        (changed(3, "blue_2.mp4", "'blue_2.mp4'"), 3, "remove them"),
        (changed(6, " 1", f" {10**9}"), 6, "below 100000"),
        (changed(6, " 1", f" {10**20}"), 6, "below 100000"),
        (changed(8, " 1", " -2"), 8, "must be 0 or more, or -1"),
        (changed(0, " 2", " ²"), 9, "digits from 0 to 9"),
        (changed(0, " 2", " ²").replace(".mp4", ""), 9, "digits from 0 to 9"),
        (changed(0, " 2", " \uff12"), 9, "digits from 0 to 9"),
        (changed(10, " 2", " 2.0"), 10, "digits from 0 to 9"),
        (changed(10, " 2", " --2"), 10, "digits from 0 to 9"),
        (changed(0, " 1", " cat"), 5, "classes.txt"),
        (changed(0, "", "").replace(" ", " 0 "), 1, "a list for each"),
        (changed(0, "", "").replace(" ", " 30 1 "), 1, "has one label"),
        (changed(11, " 250 ", " -250 ", FRAMES), 11, "number of frames"),
        ("\n".join([*TWELVE, "./blue_2.mp4 0"]), 13, "stands on line 3"),
        ("\n".join(TWELVE).replace("red_1", "r\xe9d").encode("latin-1"), 10, "save the list as UTF-8"),
    ],
)
def test_wrong_lines(tmp_path, content, line, remedy):
    """The message names the line and what to do."""
    with pytest.raises(ValueError, match=rf"list\.txt, line {line}: ") as raised:
        read_text(tmp_path, content)
    assert remedy in str(raised.value)


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_said(tmp_path, coding):
    with pytest.raises(ValueError, match=r"list\.txt is UTF-16: save it as UTF-8"):
        read_text(tmp_path, "\n".join(TWELVE).encode(coding))


def test_what_is_no_list(tmp_path):
    with pytest.raises(ValueError, match="names no video"):
        read_text(tmp_path, "\n\n")
    video = write_video(tmp_path / "a.mp4", np.zeros((3, 48, 64, 3), np.uint8))
    for file in (video, video.rename(tmp_path / "renamed.txt")):
        file.exists() or file.write_bytes((tmp_path / "renamed.txt").read_bytes())
        with pytest.raises(ValueError, match="is no list file: give a text file"):
            read_list(file)
    with pytest.raises(ValueError, match=r"is a folder.*vie data folder"):
        read_list(tmp_path)
    with pytest.raises(FileNotFoundError, match="no list file"):
        read_list(tmp_path / "none")


def test_what_looks_wrong_is_right_if_it_exists(tmp_path):
    names = ["# 1.mp4", '"quoted".mp4', "a.mp4,0", "b.mp4 ²", "clip 1.0", "header", "3 bears.mp4", "bears.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in read_list(write_list(tmp_path / "l", names), tmp_path).paths] == names
    strange = os.fsencode(tmp_path) + b"/r\xe9d.mp4"
    with open(strange, "wb"):  # noqa: PTH123  pathlib takes no bytes
        pass
    assert [os.fsencode(path) for path in read_text(tmp_path, b"r\xe9d.mp4 1\n", tmp_path).paths] == [strange]
    with pytest.raises(ValueError, match=r"line 1: .*the label goes behind the path"):
        read_list(write_list(tmp_path / "l", ["0 bears.mp4"]), tmp_path)


@pytest.mark.parametrize(
    ("lines", "paths", "labels"),
    [
        (["clip 1", "clip 2"], ["clip 1", "clip 2"], [-1, -1]),
        (["clip 1 0", "clip 2 1"], ["clip 1", "clip 2"], [0, 1]),
        (["clip 1 0", "clip 2 1", "intro 0"], ["clip 1", "clip 2", "intro"], [0, 1, 0]),
        (["intro 5 0", "clip 1 5 0"], ["intro", "clip 1"], [0, 0]),
    ],
)
def test_folders_on_disk_decide_where_paths_end(tmp_path, lines, paths, labels):
    for name in ("clip 1", "clip 2", "intro"):
        (tmp_path / name).mkdir()
    videos = read_list(write_list(tmp_path / "list", lines), tmp_path)
    assert [path.name for path in videos.paths] == paths
    assert videos.labels.tolist() == labels


def test_a_second_label_is_no_number_of_frames(tmp_path):
    """Labels from 1 look like frames; the videos themselves tell."""
    for i in range(3):
        write_video(tmp_path / f"{i}.mp4", np.zeros((30, 48, 64, 3), np.uint8))
    with pytest.raises(ValueError, match=r"line 1: 2 is not the number of frames .* the video has 30"):
        read_list(write_list(tmp_path / "list", [f"{i}.mp4 {2 + i} {i}" for i in range(3)]), tmp_path)
    assert read_list(write_list(tmp_path / "list", [f"{i}.mp4 {25 + i} {i}" for i in range(3)]), tmp_path).frames.sum() == 78
    assert read_list(write_list(tmp_path / "list", ["none.mp4 2 0"]), tmp_path).frames.tolist() == [2]


def test_videos_in_both_lists_are_warned_of(tmp_path):
    train = read_list(write_list(tmp_path / "train", ["a.mp4 0", "b/../b/c.mp4 0", "https://x.org/d.mp4 1"]), "/root/x")
    new = read_list(write_list(tmp_path / "new", ["b/a.mp4 0", "https://x.org/e.mp4 1"]), "/root/x")
    both = read_list(write_list(tmp_path / "val", ["e.mp4 0", "/root/x/b/c.mp4 1", "https://x.org/d.mp4 1"]), "/root/x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_shared(train, new, root="/root/x", names=("train", "new"))
    with pytest.warns(UserWarning, match=r"2 of the 3 videos of val are in train, too, such as /root/x/b/c\.mp4"):
        warn_of_shared(train, both, root="/root/x", names=("train", "val"))


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
