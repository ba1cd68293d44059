"""Searches folders for videos. Whatever looks like a video is found, even if it cannot be read: whoever reads it says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .frames import FrameFolder


def files_below(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Yields what a folder and its subfolders hold, sorted by name: files, links that lead nowhere, and folders of frames.

    Also yields folders that may not be read, and pipes and the like, which the caller must not open. Leaves out hidden names,
    and links to a folder above them.

    Args:
        folder: where to search.
        leave_out: a folder that is not searched.
    """
    yield from _below(folder, leave_out, [])


def _below(folder: Path, leave_out: Path | None, above: list[os.stat_result]) -> Iterator[Path]:
    try:
        here = folder.stat()
        entries = sorted(folder.iterdir())
    except PermissionError:
        yield folder
        return
    if any(os.path.samestat(here, other) for other in above):
        return
    if folder / FrameFolder.FIRST in entries:
        yield folder
        return
    for path in entries:
        if path.name.startswith("."):
            continue
        if not os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises where a link leads into a folder that may not be read
            yield path
        elif not (leave_out and leave_out.exists() and leave_out.samefile(path)):
            yield from _below(path, leave_out, [*above, here])
