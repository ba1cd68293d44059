"""What the page may open: the videos and features that were named, and what is dropped on the page. Each has an id.

An id is all that an address of the page can hold, so no address can name another file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from ..files import VIDEO_SUFFIXES, locked

MOST_VIDEOS = 2000
"""Of the videos of a folder, so many are listed."""
EXAMPLE = Path(__file__).with_name("example.mp4")
"""The example: real footage, cut by reproduce/example_video.py; NOTICE says whose it is."""
_PREFIX = f"vie-app-{os.getuid() if hasattr(os, 'getuid') else 'user'}-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A video or a folder of features."""

    id: str
    path: Path
    name: str
    """What the page calls it. It may hold HTML, and is put in as text."""
    size: int = 0
    dropped: bool = False


class Library:
    """The videos and features that the page may open.

    Args:
        named: video files, folders of videos, and folders of features. Nothing: the example.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder has neither videos nor features.
    """

    def __init__(self, named: Iterable[Path]) -> None:
        self.videos: dict[str, Item] = {}
        self.features: dict[str, Item] = {}
        for path in named:
            self._open(path)
        if not self.videos and not self.features:
            self.add(EXAMPLE, "Example: four places, each seen twice")

    def _open(self, path: Path) -> None:
        if path.is_file():
            self.add(path)
        elif not path.is_dir():
            raise FileNotFoundError(f"no video, folder or features at {path}: name one that is there")
        elif any(path.glob("manifest*.jsonl")) or (path / "index.json").exists():
            item = Item(id=_id(path), path=path.resolve(), name=path.resolve().name)
            self.features[item.id] = item
        else:
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
            if not found:
                raise ValueError(f"{path} has neither videos nor features: name a video, a folder of videos, or features")
            for file in found[:MOST_VIDEOS]:
                self.add(file, str(file.relative_to(path)))

    def add(self, path: Path, name: str | None = None, *, dropped: bool = False) -> Item:
        """Adds a video, and returns it; one that is there already stays as it is."""
        size = path.stat().st_size if path.exists() else 0
        item = Item(id=_id(path), path=path.resolve(), name=name or path.name, size=size, dropped=dropped)
        return self.videos.setdefault(item.id, item)


def _id(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


class Scratch:
    """A private folder for dropped videos and clips. It is removed at the end; those of killed servers, at the start."""

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            if left.is_dir() and not left.is_symlink() and _is_ours(left):
                _remove_if_dead(left)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = locked(self.folder / ".lock", f"{self.folder} is in use")
        self._lock.__enter__()

    def close(self) -> None:
        """Removes the folder."""
        self._lock.__exit__(None, None, None)
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()


def _remove_if_dead(folder: Path) -> None:
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:  # its server lives
        return
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)
