"""Writes packs (video/packed.py): every video of a list decoded once, small and upright, in shards with an index.

Worker processes decode. This process writes what they send to a file per video, and appends these to the shards in the order of
the list (pack_writer.py), so that the bytes do not depend on who was first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..failures import MAX_FAILED, check_failures, check_max_failed
from ..files import sha256_of
from ..processes import map_in_processes
from ..video.frames import GRID_FPS, Video, VideoError
from ..video.packed import INDEX, PackHeader, PackRow
from ..video.reader import VideoReader
from ..video.sampling import ClipRead, VideoRead
from ..video.sources import PathOrURL, decoding, open_video, path_or_url
from .encode import shrink
from .lists import CLASSES, VideoList, read_list
from .pack_writer import SHARD_BYTES, PackWriter, check_hash
from .readable import check_readable

_CHUNK = 1 << 22  # bytes of raw frames that a worker sends at once


@dataclasses.dataclass(frozen=True)
class PackSize:
    """How large a pack will be, estimated from some of its videos."""

    videos: int
    sampled: int
    """Number of videos that were looked at."""
    size: int
    """Bytes."""
    free: int
    """Bytes free on the disk."""


class Packing:
    """A pack that is being written.

    Args:
        train_list: a list file.
        out: folder of the pack.
        root: folder that the paths of the list are relative to.
        header: coding and size of the frames.
        max_failed: largest share of the videos that may be unreadable, from 0 to 1.
        shard_bytes: a shard that has so many bytes is full.

    Raises:
        TooManyFailuresError: a larger share is not there, or no video can be read.
        FileNotFoundError, ValueError: as `read_list`.
    """

    def __init__(
        self,
        train_list: Path,
        out: Path,
        *,
        root: Path = Path(),
        header: PackHeader,
        max_failed: float = MAX_FAILED,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        check_max_failed(max_failed)
        if header.short_side < 1:
            raise ValueError(f"short_side must be at least 1 pixel, got {header.short_side}")
        if (header.coding == "jpeg") != (header.quality is not None) or not 1 <= (header.quality or 1) <= 100:
            raise ValueError(f"quality must be from 1 to 100 for the coding jpeg, and None for raw, got {header.quality}")
        self.list, self.out, self.root, self.header, self.shard_bytes = train_list, out, root, header, shard_bytes
        self.max_failed = max_failed
        self.videos: VideoList = read_list(train_list, root)
        check_readable(self.videos, train_list, root, max_failed)
        self._reading = _Frames(header)

    def size(self, samples: int = 60) -> PackSize:
        """Estimates the size of the pack from videos at even distances in the list. Decodes one frame of each."""
        which = range(0, len(self.videos), max(len(self.videos) // samples, 1))
        sizes = []
        for i in which:
            path = self.videos.paths[i]
            with contextlib.suppress(VideoError, OSError), decoding(path), open_video(path, GRID_FPS, threads=1) as video:
                (frame,) = next(video.read([[0]]))
                sizes.append(video.num_frames * len(self._reading.coded(frame)))
        there = next(folder for folder in (self.out, *self.out.absolute().parents) if folder.exists())
        mean = sum(sizes) / max(len(sizes), 1)
        return PackSize(len(self.videos), len(which), round(mean * len(self.videos)), shutil.disk_usage(there).free)

    def write(self, *, workers: int = 4, time_limit: float = 300.0, progress: bool = False) -> list[PackRow]:
        """Writes the pack, or what is missing of it, and returns the rows of its index.

        Args:
            workers: processes that decode; 0 decodes in this process.
            time_limit: seconds without progress after which a video counts as unreadable.
            progress: show a progress bar, or a line a minute where there is no terminal.

        Raises:
            TooManyFailuresError: more videos than `max_failed` allows are unreadable; the pack is finished all the same.
            ValueError: the pack was begun with other settings or another list, or a source changed since.
            BlockingIOError: another process writes this pack.
            OSError: the pack could not be written; what was written is kept.
        """
        listed = [(self._name(i), int(self.videos.labels[i])) for i in range(len(self.videos))]
        with PackWriter(self.out, self.header, listed, self.list, self.shard_bytes) as writer:
            self._check_sources(writer.rows, workers, progress)
            if not writer.finished:
                names = self.list.with_name(CLASSES)
                classes = names.read_bytes() if names.exists() else None
                writer.write(self._packed(writer, workers, time_limit), classes=classes, progress=progress)
            self._check_failures(writer.rows)
        return writer.rows

    def _check_failures(self, rows: list[PackRow]) -> None:
        if failed := [row for row in rows if not row.frames]:
            check_failures(
                len(failed),
                len(rows),
                self.max_failed,
                what=f"videos of {self.list}",
                first=f"{failed[0].path}: {failed[0].damage}",
                remedy=f"paths in the list start from --root {self.root}, and {self.out / INDEX} has all reasons (remove "
                f"{self.out} before you pack repaired videos)",
            )

    def _check_sources(self, rows: list[PackRow], workers: int, progress: bool) -> None:
        """ValueError where a video is not the file that was packed."""
        paths = [self.videos.paths[i] for i in range(len(rows))]
        for row, path, found in zip(rows, paths, map_in_processes(_hash, paths, workers, progress=progress), strict=True):
            check_hash(path, row.sha256, found)

    def _packed(self, writer: PackWriter, workers: int, time_limit: float) -> Generator[PackRow]:
        """The rows to come, in order, each once its coded frames wait for the writer."""
        first = turn = len(writer.rows)
        done: dict[int, PackRow] = {}
        paths = [self.videos.paths[i] for i in range(first, len(self.videos))]
        with VideoReader(
            paths, self._reading, workers=min(workers, len(paths)), threads=1, time_limit=time_limit
        ) as reader:  # fmt: skip
            for number, row in self._decoded(reader, first, writer):
                done[number] = row
                while turn in done:
                    yield done.pop(turn)
                    turn += 1

    def _decoded(self, reader: VideoReader, first: int, writer: PackWriter) -> Iterator[tuple[int, PackRow]]:
        """(number in the list, row without its place) of each video, once its coded frames wait in a file."""
        sizes: dict[int, list[int]] = {}
        for number, message in reader:
            i = first + number
            part = writer.part(i)
            if message is None:
                sizes.pop(i, None)
                part.unlink(missing_ok=True)
            elif isinstance(message, ClipRead):
                sizes.setdefault(i, []).append(message.pixels.size)
                with part.open("ab") as file:
                    file.write(message.pixels.data)
            else:
                frames, row = sizes.pop(i, []), PackRow(self._name(i), int(self.videos.labels[i]), None)
                if isinstance(message, VideoRead) and frames:
                    facts: Any = message.metadata
                    if self.header.coding == "jpeg":
                        _prepend(part, np.cumsum([8 * (len(frames) + 1), *frames]).astype("<u8").tobytes())
                    number_of, height, width = facts["packed"]
                    row = dataclasses.replace(
                        row, sha256=facts["sha256"], frames=number_of, height=height, width=width, damage=message.damage
                    )
                else:
                    part.unlink(missing_ok=True)
                    reason = message.reason if isinstance(message, VideoError) else "has no frames"
                    row = dataclasses.replace(row, sha256=_hash(self.videos.paths[i]), damage=reason)
                yield i, row

    def _name(self, i: int) -> str:
        """The path of a video as the list has it."""
        path: PathOrURL = self.videos.paths[i]
        if isinstance(path, str):
            return path
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()


@dataclasses.dataclass(frozen=True)
class _Frames:
    """What workers do with a video: every frame of the grid, small and coded."""

    header: PackHeader
    fps: float = GRID_FPS

    def read(self, video: Video) -> Iterator[ClipRead | None]:
        """Raw frames, some at a time; or JPEG files, one at a time."""
        video.metadata["sha256"] = _hash(path_or_url(str(video.name)))
        held: list[np.ndarray] = []
        for count, (_, frames) in enumerate(video.read_windows(itertools.count(), [0], 1, self._small), 1):
            video.metadata["packed"] = (count, *frames.shape[1:3])
            if self.header.coding == "jpeg":
                yield _message(self.coded(frames[0], shrunk=True))
                continue
            held.append(frames)
            if len(held) * frames.size >= _CHUNK:
                yield _message(np.concatenate(held).reshape(-1))
                held = []
        if held:
            yield _message(np.concatenate(held).reshape(-1))

    def coded(self, frame: np.ndarray, *, shrunk: bool = False) -> np.ndarray:
        """A frame, uint8 [H, W, 3], as it lies in the pack: uint8 [bytes]."""
        frame = frame if shrunk else self._small(frame)
        if self.header.coding == "raw":
            return frame.reshape(-1)
        import torch
        from torchvision.io import encode_jpeg

        assert self.header.quality is not None
        return encode_jpeg(torch.from_numpy(frame).permute(2, 0, 1).contiguous(), self.header.quality).numpy()

    def _small(self, frame: np.ndarray) -> np.ndarray:
        return shrink(frame, self.header.short_side)


def _message(content: np.ndarray) -> ClipRead:
    return ClipRead((), False, 0.0, 0.0, content)


def _prepend(path: Path, start: bytes) -> None:
    content = path.read_bytes()
    path.write_bytes(start + content)


def _hash(path: PathOrURL) -> str | None:
    """SHA-256 of a video file, or of the names and contents of a folder of frames; None for an address or a missing file."""
    if isinstance(path, str):
        return None
    try:
        if path.is_file():
            return sha256_of(path)
        if not path.is_dir():  # reading a pipe could block for ever
            return None
        digest = hashlib.sha256()
        for file in sorted(path.glob("*.jpg")):
            digest.update(f"{file.name} {sha256_of(file)}\n".encode())
        return digest.hexdigest()
    except OSError:
        return None
