"""Appends videos to the shards and the index of a pack (video/packed.py), in order.

Whoever makes the frames puts those of each video into a file of its own, where they wait for their turn. A line of the index is
written after its frames: a killed job continues after the last whole line, and cuts off what follows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType

from ..files import locked
from ..progress import Progress
from ..video.packed import INDEX, PackHeader, PackRow, shard_name
from .lists import CLASSES

SHARD_BYTES = 1_000_000_000
"""A shard that has so many bytes is full."""


class PackWriter:
    """A pack that this process writes, and no other. Use it in a `with` statement.

    Args:
        out: folder of the pack; it is made.
        header: coding and size of the frames.
        listed: path and label of each video, in order.
        source: what the videos come from, for messages.
        shard_bytes: a shard that has so many bytes is full.

    Attributes:
        rows: the rows that the pack has.
        finished: whether these are all.

    Raises:
        ValueError: on entry, if the pack was begun with another header or list.
        BlockingIOError: on entry, if another process writes this pack.
        OSError: on exit, if the disk was full; what was written is kept.
    """

    def __init__(
        self, out: Path, header: PackHeader, listed: Sequence[tuple[str, int]], source: object, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self.out, self.header, self.listed, self.source, self.shard_bytes = out, header, listed, source, shard_bytes
        self.rows: list[PackRow] = []
        self.finished = False
        self._end = (0, 0)  # shard and offset where the next video begins
        self._scratch = out / ".waiting"

    def __enter__(self) -> PackWriter:
        busy = f"another process is writing {self.out}: wait for it, or choose another folder"
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.out / f".{INDEX}.lock", busy))
            self.finished = (self.out / INDEX).exists()
            self.rows = self._read(self.out / (INDEX if self.finished else f".{INDEX}"))
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir()
            # Workers of a killed job may still be at work. They know another folder.
            self.waiting = Path(tempfile.mkdtemp(dir=self._scratch))
            self._lock = stack.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            shutil.rmtree(self._scratch, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                error.errno,
                f"{self.out} could not be written: {error.strerror}. Make room, and start the same command again: it continues "
                "where it stopped",
            ) from error

    def part(self, number: int) -> Path:
        """The file where the coded frames of a video wait for their turn."""
        return self.waiting / str(number)

    def write(self, made: Generator[PackRow], *, classes: bytes | None = None, progress: bool = False) -> None:
        """Appends all videos that are missing, and finishes the pack.

        Args:
            made: the rows to come, in order, without their places. The frames of a row that has some wait in their part. It is
                closed in any case.
            classes: content of classes.txt, if there are names for the labels.
            progress: show a progress bar, or a line a minute where there is no terminal.
        """
        unfinished = self.out / f".{INDEX}"
        self._cut()
        lines = [self.header.to_json(), *map(_line, self.rows)]
        size, failed = sum(row.size for row in self.rows), sum(not row.frames for row in self.rows)
        unfinished.write_text("".join(f"{line}\n" for line in lines))
        bar = Progress(len(self.listed), "video", initial=len(self.rows), show=progress)
        with unfinished.open("a") as index, bar, contextlib.closing(made):
            for row in made:
                row = self._append(row)
                index.write(_line(row) + "\n")
                index.flush()
                self.rows.append(row)
                size, failed = size + row.size, failed + (not row.frames)
                bar.note(f"{size / 1e9:.2f} GB, {failed} failed")
                bar.update()
        if classes is not None:
            (self.out / CLASSES).write_bytes(classes)
        for path in (*self._shards(), unfinished):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        unfinished.rename(self.out / INDEX)
        self.finished = True

    def _append(self, row: PackRow) -> PackRow:
        """Moves the frames of the next video from their part to a shard, and returns its row with its place."""
        part = self.part(len(self.rows))
        if row.frames:
            shard, offset = self._end
            if offset >= self.shard_bytes:
                shard, offset = shard + 1, 0
            row = dataclasses.replace(row, shard=shard, offset=offset, size=part.stat().st_size)
            with part.open("rb") as file, (self.out / shard_name(shard)).open("ab") as target:
                shutil.copyfileobj(file, target, 1 << 22)
            self._end = (shard, offset + row.size)
        part.unlink(missing_ok=True)
        return row

    def _read(self, index: Path) -> list[PackRow]:
        """The whole lines of an index that is there, checked against the list and the settings."""
        if not index.exists():
            return []
        header, *lines = [line for line in index.read_text().splitlines(keepends=True) if line.endswith("\n")] or [""]
        if header and (before := PackHeader.from_json(header, index)) != self.header:
            raise ValueError(
                f"{self.out} was begun as {before}, not {self.header}: choose another folder, or the same settings"
            )
        rows = [PackRow(**json.loads(line)) for line in lines]
        if [(row.path, row.label) for row in rows] != list(self.listed[: len(rows)]):
            raise ValueError(f"{self.out} is a pack of another list than {self.source}: choose another folder")
        return rows

    def _cut(self) -> None:
        """Removes from the shards what no row knows of, and finds where the next video begins."""
        ends: dict[str, int] = {}
        for row in self.rows:
            if row.frames:
                ends[shard_name(row.shard)] = row.offset + row.size
        for path in self._shards():
            if path.name not in ends:
                path.unlink()
            elif path.stat().st_size < ends[path.name]:
                raise ValueError(f"{path} is shorter than {self.out / INDEX} says: delete the pack and write it again")
            else:
                os.truncate(path, ends[path.name])
        self._end = max(((row.shard, row.offset + row.size) for row in self.rows if row.frames), default=(0, 0))

    def _shards(self) -> list[Path]:
        return sorted(self.out.glob(shard_name(0).replace("00000", "*")))


def _line(row: PackRow) -> str:
    return json.dumps(dataclasses.asdict(row))


def check_hash(path: Path, before: str | None, found: str | None) -> None:
    """Raises ValueError where the source of a row is not the file that it was."""
    if before != found:
        raise ValueError(
            f"{path} changed since it was packed: its SHA-256 was {before}, and is {found}. Write a new pack, or "
            "bring the old file back"
        )
