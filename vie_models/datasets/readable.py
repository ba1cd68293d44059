"""Whether the videos of a list can be read, found out before a job begins on them."""

from __future__ import annotations

import os
from pathlib import Path

from ..failures import check_failures
from ..video.frames import GRID_FPS, VideoError
from ..video.packed import INDEX, open_pack
from ..video.remote import is_url
from ..video.sources import decoding, open_video
from .lists import VideoList

_SAMPLE = 20  # videos that are opened, until one can be read


def check_readable(videos: VideoList, list_file: Path, root: Path, max_failed: float) -> None:
    """Looks for every file of a list, or of a pack, and decodes a frame of one.

    A file that is there may still be broken: whoever reads it counts that. The files of a data set are seldom broken; much more
    often they are somewhere else.

    Raises:
        NothingReadError: none of the videos is there, or none of some 20 can be decoded.
        TooManyFailuresError: a larger share than `max_failed` is not there.
    """
    remedy = "" if list_file.is_dir() else f"paths in the list start from --root {root}"

    def check(missing: list[tuple[str, str]], tried: int, max_failed: float) -> None:
        if missing:
            path, reason = missing[0]
            first = reason if path in reason else f"{path}: {reason}"
            check_failures(len(missing), tried, max_failed, what=f"videos of {list_file}", first=first, remedy=remedy)

    if list_file.is_dir():
        missing = [(row.path, row.damage or "has no frames") for row in open_pack(list_file).rows if not row.frames]
    else:
        names = (videos.paths.name(i) for i in range(len(videos)))
        missing = [(name, f"no video at {name}") for name in names if not _is_there(name)]
    check(missing, len(videos), max_failed)
    bad: list[tuple[str, str]] = []
    for i in range(0, len(videos), -(-len(videos) // _SAMPLE)):
        try:
            with decoding(videos.paths[i]), open_video(videos.paths[i], GRID_FPS, threads=1) as video:
                video.retrying(lambda video=video: next(video.read([[0]])))  # type: ignore[misc]
            return
        except (VideoError, OSError) as error:
            bad.append((videos.paths.name(i), getattr(error, "reason", None) or str(error)))
    check(bad, len(bad), 1.0)


def _is_there(name: str) -> bool:
    """Whether a file is there; addresses and videos in packs are taken to be."""
    return is_url(name) or INDEX in name or os.path.exists(name)  # noqa: PTH110  a Path for each of 240,000 takes seconds
