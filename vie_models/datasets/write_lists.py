"""Writes list files from the annotations of a dataset and a folder of its videos.

    OUT/  train.txt, val.txt (or train1.txt ...) with lines `path frames label`, classes.txt, left_out.txt (split, name, reason)

Nothing is downloaded, because we have no right to distribute the videos. Each dataset's annotations have a module beside this
one, which says where to find them.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from pathlib import Path

from ..failures import MAX_FAILED, check_failures
from ..files import replacing
from ..processes import map_in_processes
from ..video.frames import GRID_FPS, VideoError
from ..video.sources import IMAGE_SUFFIXES, decoding, open_video
from .annotations import Annotations, Entry, videos_in
from .encode import encode_video
from .lists import CLASSES

LEFT_OUT = "left_out.txt"


@dataclasses.dataclass(frozen=True)
class Count:
    """How many videos of a split are listed, missing and unreadable."""

    split: str
    """Name of the split."""
    listed: int
    """Number of videos that the annotations list."""
    missing: int
    """Number of videos that were not found."""
    unreadable: int
    """Number of videos that could not be read."""

    @property
    def written(self) -> int:
        """Number of videos in the list file."""
        return self.listed - self.missing - self.unreadable


# --- from annotations to lists ---------------------------------------------------------------------------------------


def write_lists(
    annotations: Annotations,
    videos: Path,
    out: Path,
    *,
    encode: Path | None = None,
    short_side: int = 320,
    workers: int = 4,
    max_failed: float = MAX_FAILED,
    progress: bool = False,
) -> list[Count]:
    """Writes the list files of a dataset. Paths in them are relative to `videos`, or to `encode` if it is given.

    Opens every video to count its frames at 25 frames per second. Missing and unreadable videos are listed in left_out.txt.
    An image counts as one frame and is not opened.

    Args:
        annotations: the result of kinetics, ucf101, ...
        videos: folder of the videos. It is searched for video files, images and folders of %06d.jpg frames by name.
        out: folder of the list files.
        encode: folder for re-encoded videos: H.264, 25 frames per second. Existing files are kept. Default: no re-encoding.
        short_side: longest short side of re-encoded videos, in pixels.
        workers: number of processes that read videos.
        max_failed: largest share of a split's videos that may be missing or unreadable, from 0 to 1.
        progress: show a progress bar, or a line a minute where there is no terminal.

    Returns:
        The counts of each split.

    Raises:
        TooManyFailuresError: of a split, more videos are missing or unreadable, or all are. Only left_out.txt is written then.
        ValueError: `encode` is given, and one of the files is an image.
    """
    found = _Finder(videos)
    paths = {entry: found(entry) for split in annotations.splits.values() for entry in split}
    sources = sorted({path for path in paths.values() if path is not None})
    if encode is not None and (image := next((path for path in sources if path.suffix.lower() in IMAGE_SUFFIXES), None)):
        raise ValueError(f"images cannot be re-encoded as videos, and {image} is an image: leave encode out")
    jobs = [(path, None if encode is None else encode / _as_mp4(path.relative_to(videos)), short_side) for path in sources]
    results = dict(zip(sources, map_in_processes(_measure, jobs, workers, progress=progress), strict=True))
    root = encode or videos
    out.mkdir(parents=True, exist_ok=True)
    counts, left_out, lists = [], [], {}
    for split, listed in annotations.splits.items():
        lines, missing, unreadable = [], 0, 0
        for entry in listed:
            source = paths[entry]
            if source is None:
                missing += 1
                left_out.append(f"{split}\t{entry.name}\tthere is no such video in {videos}")
            elif isinstance(result := results[source], str):
                unreadable += 1
                left_out.append(f"{split}\t{entry.name}\t{result}")
            else:
                path, frames = result
                lines.append(f"{path.relative_to(root)} {frames} {entry.label}\n")
        lists[f"{split}.txt"] = lines
        counts.append(Count(split, len(listed), missing, unreadable))
    _write(out / LEFT_OUT, [f"{line}\n" for line in left_out])
    for count in counts:
        if failed := count.listed - count.written:
            split, name, reason = next(line for line in left_out if line.startswith(f"{count.split}\t")).split("\t", 2)
            remedy = f"{out / LEFT_OUT} names all"
            what, first = f"videos of the split {split}, looked for in {videos},", f"{name}: {reason}"
            check_failures(failed, count.listed, max_failed, what=what, first=first, remedy=remedy)
    for name, lines in {**lists, CLASSES: [f"{name}\n" for name in annotations.classes]}.items():
        _write(out / name, lines)
    return counts


def _write(path: Path, lines: list[str]) -> None:
    with replacing(path) as file:
        file.write_bytes(os.fsencode("".join(lines)))


class _Finder:
    """Finds the videos of a folder by name."""

    def __init__(self, videos: Path) -> None:
        self._root = videos
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in videos_in(videos):
            self._by_stem[path.name if path.is_dir() else path.stem].append(path)

    def __call__(self, entry: Entry) -> Path | None:
        direct = self._root / entry.name
        if os.path.lexists(direct):  # a link that leads nowhere is found, too, and then said to be unreadable
            return direct
        found = self._by_stem.get(entry.name, [])
        of_class = [path for path in found if entry.folder in path.parent.parts]
        return (of_class or found or [None])[0]  # type: ignore[list-item]


def _as_mp4(path: Path) -> Path:
    return path if path.suffix == ".mp4" else path.with_name(f"{path.name}.mp4")


_Job = tuple[Path, Path | None, int]
_Result = tuple[Path, int] | str


def _measure(job: _Job) -> _Result:
    path, target, short_side = job
    try:
        if "\n" in str(path):
            raise VideoError(path, "its name has a line break, which a list cannot hold")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return path, 1
        if target is not None and not target.exists():
            encode_video(path, target, short_side)
        with decoding(path), open_video(target or path, GRID_FPS, threads=1) as video:
            frames = video.num_frames
            next(video.read([[0]]))
            return target or path, frames
    except (VideoError, OSError) as error:
        return str(error)
