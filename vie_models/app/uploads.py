"""The folder of uploaded videos: what may stay in it, for how long, and what of it is read.

Only the worker opens an upload. The formats that it may have are named here, because some that FFmpeg knows are lists of other
files or addresses (HLS, DASH, concat), and would have it read those.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .worker import Worker

FORMATS = frozenset(
    ["3g2", "3gp", "asf", "avi", "flv", "gif", "ivf", "m4a", "m4v", "matroska", "mj2", "mov", "mp4", "mpeg", "mpegts"]
    + ["mpegvideo", "mxf", "ogg", "webm", "yuv4mpegpipe"]
    + ["aac", "flac", "mp3", "wav"]  # to say of them that they have only sound
)
"""FFmpeg's names of containers that hold their frames themselves."""
MOST_PIXELS = 2**25
"""Largest frame that is decoded: one of 8K fits."""


class UploadError(ValueError):
    """An upload is refused; the text is a sentence for the person who sent it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upload:
    """A video that passed the checks."""

    path: Path
    """What to read: the upload, or the beginning of it, as `note` says."""
    sent: Path
    """The upload itself."""
    name: str
    """Its name as the sender's machine has it. It may hold HTML."""
    seconds: float
    """What the container says of the length of `path`; nan if it says nothing."""
    width: int
    height: int
    codec: str
    note: str | None
    """A sentence to show, or None."""


class Uploads:
    """The folder of uploads and its rules.

    Args:
        worker: opens the videos.
        folder: where the uploads lie. Everything in it is removed when it is old.
        max_bytes: largest upload.
        max_seconds: how much of a video is read, from its beginning.
        keep_seconds: how long an upload stays.
    """

    def __init__(
        self,
        worker: Worker,
        folder: Path,
        *,
        max_bytes: float = 500e6,
        max_seconds: float = 600.0,
        keep_seconds: float = 3600.0,
    ) -> None:
        for name, value in (("max_bytes", max_bytes), ("max_seconds", max_seconds), ("keep_seconds", keep_seconds)):
            if not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        self.worker, self.folder = worker, folder.resolve()
        self.max_bytes, self.max_seconds, self.keep_seconds = int(max_bytes), max_seconds, keep_seconds
        self._closed = threading.Event()
        threading.Thread(target=self._keep_clean, daemon=True).start()

    def check(self, path: str | os.PathLike[str]) -> Upload:
        """Looks at an upload before anything else reads it: its size, its headers and its first frame.

        Raises:
            UploadError: it is not a video that the page can read.
        """
        given = Path(path)
        file = given.resolve()
        if not file.is_relative_to(self.folder):
            raise UploadError(f"{given.name} is not an upload")
        if not file.is_file():
            raise UploadError(f"{given.name} is gone: uploads are removed after {_time(self.keep_seconds)}; send it again")
        size = file.stat().st_size
        if size > self.max_bytes:
            raise UploadError(f"{given.name} has {size / 1e6:.0f} MB; at most {self.max_bytes / 1e6:.0f} MB are taken")
        if size == 0:
            raise UploadError(f"{given.name} is empty")
        beginning = file.with_name(f"first-{self.max_seconds:g}-s-of-{file.stem[:80]}.mkv")
        try:
            facts = self.worker.call(f"{__name__}:inspect", file, beginning, self.max_seconds)
        except ValueError as error:
            raise UploadError(str(error)) from error
        return Upload(
            path=beginning if facts["cut"] else file,
            sent=file,
            name=given.name,
            seconds=float(facts["seconds"]),
            width=int(facts["width"]),
            height=int(facts["height"]),
            codec=str(facts["codec"]),
            note=f"only its first {_time(self.max_seconds)} are looked at" if facts["cut"] else None,
        )

    def size(self) -> int:
        """Returns the bytes that all uploads take on the disk."""
        return sum(_size(path) for path in self.folder.rglob("*"))

    def sweep(self, keep_seconds: float | None = None) -> None:
        """Removes what is older than `keep_seconds` (default: that of the uploads)."""
        oldest = time.time() - (self.keep_seconds if keep_seconds is None else keep_seconds)
        for path in sorted(self.folder.rglob("*"), reverse=True):  # what is inside a folder comes before it
            try:
                if path.is_dir() and not path.is_symlink():
                    if path.stat().st_mtime < oldest:
                        path.rmdir()
                elif path.lstat().st_mtime < oldest:
                    path.unlink()
            except OSError:  # a folder that is not empty, or somebody was faster
                continue

    def close(self) -> None:
        """Removes the folder."""
        self._closed.set()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep_clean(self) -> None:
        while not self._closed.wait(min(self.keep_seconds / 4, 60.0)):
            self.sweep()


def private_folder() -> Path:
    """Makes a temporary folder for one server, and removes those of servers that were killed.

    Each folder has a lock that its server holds as long as it lives.
    """
    from filelock import FileLock, Timeout

    for old in Path(tempfile.gettempdir()).glob("vie-app-*"):
        if old.is_symlink() or not old.is_dir() or old.stat().st_uid != os.getuid():
            continue
        try:
            with FileLock(old / "lock", timeout=0):
                shutil.rmtree(old, ignore_errors=True)
        except (Timeout, OSError):
            continue
    folder = Path(tempfile.mkdtemp(prefix="vie-app-"))
    lock = FileLock(folder / "lock")
    lock.acquire()
    _HELD.append(lock)
    (folder / "uploads").mkdir()
    return folder / "uploads"


_HELD: list[Any] = []  # locks of this process, which it holds until it ends


def inspect(path: str, beginning: str, max_seconds: float) -> dict[str, object]:
    """Runs in the worker: checks a video, and copies its first seconds to `beginning` if it is longer."""
    from ..video.decode import VideoFile
    from ..video.frames import VideoError

    name = Path(path).name
    _check_format(path)
    video = VideoFile(path, 25.0)
    with video:
        facts = video.metadata
        width, height = facts["width"], facts["height"]
        if width * height > MOST_PIXELS:
            raise VideoError(
                name, f"claims frames of {width} x {height}; at most {MOST_PIXELS / 1e6:.0f} million pixels are read"
            )
        number = video._stream.index
        next(video._shown(None))  # at least one frame can be decoded, or this says why not
    cut = _cut(path, number, beginning, max_seconds)
    seconds = facts["claimed_duration"] or float("nan")
    return {
        "width": width,
        "height": height,
        "codec": facts["codec"],
        "cut": cut,
        "seconds": max_seconds if cut else seconds,
    }


def _check_format(path: str) -> None:
    import av

    from ..video.frames import VideoError

    name = Path(path).name
    try:
        options = {"format_whitelist": ",".join(sorted(FORMATS)), "protocol_whitelist": "file"}
        with av.open(path, container_options=options, metadata_errors="replace") as container:
            known = container.format.name
    except (av.error.FFmpegError, OverflowError) as error:
        raise VideoError(name, f"is not a video that this page reads: {getattr(error, 'strerror', None) or error}") from error
    if not FORMATS.issuperset(known.split(",")):
        raise VideoError(name, f"is of the format {known}, which this page does not read")


def _cut(path: str, number: int, beginning: str, max_seconds: float) -> bool:
    """Copies the packets of a stream's first seconds, without decoding, if there are later ones. Returns whether there are."""
    import av

    with av.open(path, metadata_errors="replace") as source:
        stream = source.streams[number]
        if not any(since * stream.time_base >= max_seconds for _, since in _packets(source, stream)):
            return False
    temporary = f"{beginning}.part"
    with av.open(path, metadata_errors="replace") as source, av.open(temporary, "w", format="matroska") as target:
        stream = source.streams[number]
        copy = (
            target.add_stream_from_template(stream)
            if hasattr(target, "add_stream_from_template")
            else target.add_stream(template=stream)
        )
        for packet, since in _packets(source, stream):
            left = int(max_seconds / stream.time_base) - since
            if left <= 0:
                break
            if packet.duration and packet.duration > left:  # one frame may stand for days
                packet.duration = left
            packet.stream = copy
            target.mux(packet)
    Path(temporary).replace(beginning)
    return True


def _packets(source: Any, stream: Any) -> Iterator[tuple[Any, int]]:
    """Yields the packets that have a time, and how long after the first each comes, in the stream's units."""
    first = None
    for packet in source.demux(stream):
        time_stamp = packet.dts if packet.dts is not None else packet.pts
        if time_stamp is None or not packet.size:
            continue
        first = time_stamp if first is None else first
        yield packet, time_stamp - first


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
