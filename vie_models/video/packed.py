"""Packs: videos that were decoded once, for training to read without a decoder.

    PACK/pack.jsonl         a line that says what the pack is, then one line per video, in the order of its list
    PACK/shard-00000.bin    the frames of one video after the other, about 1 GB per shard
    PACK/classes.txt        names of the labels, if the list had them

Frames lie on a grid of 25 per second, upright, RGB. In a raw pack a video is uint8 [T, H, W, 3], read by mapping the shard into
memory. In a JPEG pack it is T + 1 little-endian uint64, where each frame begins and the last one ends (counted from the
video's own beginning), and then T JPEG files.

A video in a pack has a path through the index, PACK/pack.jsonl/<row>/<its path in the list>, which everything that opens videos
takes. `vie data pack` (datasets/pack.py) writes packs.

T frames, H height, W width.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from .frames import GRID_FPS, Convert, EvenVideo, LengthError, VideoError

INDEX = "pack.jsonl"
Coding = Literal["raw", "jpeg"]
_FORMAT = {"format": "vie_models pack", "version": 1}


@dataclasses.dataclass(frozen=True)
class PackHeader:
    """The first line of a pack's index."""

    coding: Coding
    short_side: int
    """The longest short side of its frames, in pixels. Smaller videos keep their size."""
    quality: int | None = None
    """Quality of the JPEG coding, 1 to 100."""

    def to_json(self) -> str:
        """The line, without its end."""
        return json.dumps({**_FORMAT, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, line: str, file: object) -> PackHeader:
        """Reads the line.

        Raises:
            ValueError: it is not one of a pack that this version reads.
        """
        try:
            fields = json.loads(line)
            if {key: fields.pop(key) for key in _FORMAT} != _FORMAT:
                raise ValueError(f"it must say {_FORMAT}")
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is not the index of a pack: {error}") from error


@dataclasses.dataclass(frozen=True)
class PackRow:
    """One video of a pack: a line of its index."""

    path: str
    """As the list names it."""
    label: int
    """-1 without a label."""
    sha256: str | None
    """Hash of the source, to notice that it changed; None if it could not be read."""
    frames: int = 0
    """0 for a video that could not be read."""
    height: int = 0
    width: int = 0
    shard: int = 0
    offset: int = 0
    """Bytes from the start of the shard."""
    size: int = 0
    """Bytes."""
    damage: str | None = None
    """What is damaged in the video, or why nothing could be read, or None."""


class Pack:
    """A finished pack, open for reading.

    Args:
        folder: the pack.

    Raises:
        FileNotFoundError: it has no index: it was not finished.
        ValueError: the index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = folder / INDEX
        if not index.is_file():
            raise FileNotFoundError(f"{folder} has no {INDEX}: give a finished pack, or finish it with `vie data pack`")
        with index.open() as file:
            self.header = PackHeader.from_json(file.readline(), index)
            try:
                self.rows = [PackRow(**json.loads(line)) for line in file]
            except (ValueError, TypeError) as error:
                raise ValueError(f"{index} is damaged: {error}. Write the pack again") from error
        self._shards: dict[int, np.memmap] = {}

    def entry(self, row: int) -> Path:
        """The path by which the video of a row is opened."""
        path = Path(self.rows[row].path)
        return Path(self.folder, INDEX, str(row), *path.parts[bool(path.anchor) :])

    def frames(self, row: int, indices: Sequence[int]) -> np.ndarray:
        """uint8 [len(indices), H, W, 3]; of a raw pack a view of the shard where the indices are evenly spaced."""
        video = self.rows[row]
        stored = self._shard(video.shard)[video.offset : video.offset + video.size]
        if len(stored) < video.size:
            raise VideoError(self.entry(row), f"{shard_name(video.shard)} ends before the video does: write the pack again")
        if self.header.coding == "raw":
            frames = stored.reshape(video.frames, video.height, video.width, 3)
            return frames[_regular(indices)]
        ends = stored[: 8 * (video.frames + 1)].view("<u8")
        distinct = list(dict.fromkeys(indices))
        files = [torch.from_numpy(stored[ends[k] : ends[k + 1]]) for k in distinct]
        decoded = dict(zip(distinct, self._decoded(files, row), strict=True))
        return np.stack([decoded[k] for k in indices])

    def _decoded(self, files: list[torch.Tensor], row: int) -> list[np.ndarray]:
        from torchvision.io import ImageReadMode, decode_jpeg

        try:
            return [image.permute(1, 2, 0).numpy() for image in decode_jpeg(files, mode=ImageReadMode.RGB)]
        except RuntimeError as error:
            raise VideoError(self.entry(row), f"a frame of the pack is damaged ({error}): write the pack again") from error

    def _shard(self, number: int) -> np.memmap:
        if number not in self._shards:  # copy-on-write: the file is never written, and torch wants arrays that it may write
            self._shards[number] = np.memmap(self.folder / shard_name(number), np.uint8, "c")
        return self._shards[number]


class PackedVideo(EvenVideo):
    """A video in a pack."""

    def __init__(self, path: str | os.PathLike[str], pack: Pack, row: int, fps: float) -> None:
        self._pack, self._row = pack, row
        video = pack.rows[row]
        if not video.frames:
            raise VideoError(path, video.damage or "has no frames")
        super().__init__(path, fps, GRID_FPS, video.frames)
        self.damage = video.damage
        self.metadata |= {"codec": f"pack, {pack.header.coding}", "height": video.height, "width": video.width}

    @property
    def num_frames(self) -> int:
        return self.count if self.rate == GRID_FPS else super().num_frames

    def read(self, clips: Sequence[Sequence[int]], convert: Convert | None = None) -> Iterator[np.ndarray]:
        if convert is not None or self.rate != GRID_FPS:
            yield from super().read(clips, convert)
            return
        for clip in clips:
            if max(clip) >= self.count:
                raise LengthError(self.name, f"has {self.count} frames in the pack, but frame {max(clip)} is wanted")
            yield self._pack.frames(self._row, clip)

    def _rgb(self, frame: Any) -> np.ndarray:
        return self._pack.frames(self._row, [frame])[0]


def packed_video(path: str | os.PathLike[str], fps: float) -> PackedVideo | None:
    """The video that a path through an index names; None if it is not such a path."""
    folder, between, rest = os.fspath(path).partition(f"{os.sep}{INDEX}{os.sep}")
    if not between:
        return None
    pack = open_pack(folder)
    row = int(rest.partition(os.sep)[0])
    return PackedVideo(path, pack, row, fps)


def open_pack(folder: str | os.PathLike[str]) -> Pack:
    """Opens a pack, once in a process as long as its index is not written again."""
    index = os.path.join(folder, INDEX)  # noqa: PTH118  pathlib takes longer, and this is called for every clip
    try:
        written = os.stat(index).st_mtime_ns  # noqa: PTH116
    except OSError:
        written = 0
    return _open_pack(os.fspath(folder), written)


@functools.lru_cache(maxsize=16)
def _open_pack(folder: str, written: int) -> Pack:
    return Pack(Path(folder))


def shard_name(number: int) -> str:
    """The name of a shard's file."""
    return f"shard-{number:05d}.bin"


def _regular(indices: Sequence[int]) -> Any:
    """A slice, which needs no copy, where the indices are evenly spaced and rise."""
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    if step > 0 and list(indices) == list(range(indices[0], indices[0] + step * len(indices), step)):
        return slice(indices[0], indices[-1] + 1, step)
    return list(indices)
