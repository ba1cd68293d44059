"""Videos as frames on a regular time grid, and the sources that need no decoder: arrays, and folders of images.

Grid point k lies k / fps seconds after the first frame. It shows the frame that ffmpeg's `fps` filter (round=near) puts there:
each frame's time is rounded to the nearest grid point, and holds from there until the next one's.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

Convert = Callable[[np.ndarray], np.ndarray]


class VideoError(ValueError):
    """A video from which no frame can be had; `reason` says why."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


class LengthError(VideoError):
    """A video is not as long as its packets said; `Video.recount` finds out how long it is."""


class Video:
    """Frames on a grid of `fps`. Use it in a `with` statement, or call `close`.

    Attributes:
        damage: why reading ended early, where the file is damaged and its end has been reached; what came before is good.
        facts: what is known of the source: "codec", "width", "height" and so on, as JSON-ready values.
        progress: called, where it is set, as reading goes on, for those who want to know that it does.
    """

    def __init__(self, name: object, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"fps must be > 0 frames per second, got {fps}")
        self.name = name
        self.rate = Fraction(fps).limit_denominator(100_000)
        self.damage: str | None = None
        self.facts: dict[str, Any] = {}
        self.progress: Callable[[], None] | None = None

    @property
    def num_frames(self) -> int:
        """Length in grid points, at least 1."""
        raise NotImplementedError

    def recount(self) -> None:
        """Finds `num_frames` by decoding every frame, after a LengthError."""
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, clips: Sequence[Sequence[int]], convert: Convert | None = None) -> Iterator[np.ndarray]:
        """uint8 [T, H, W, 3] RGB, upright, for each clip (its grid indices), in order; all frames have one size.

        `convert` changes each frame [H, W, 3] before it is kept (default: as it is); a frame that several clips share is
        converted once. A frame is kept as long as a clip to come needs it. Raises LengthError where the video turns out to be
        shorter than `num_frames`.
        """
        frames: dict[int, np.ndarray] = {}
        uses = Counter(k for clip in clips for k in clip)
        wanted = sorted(uses)
        seen = 0  # how many of them
        to_come = deque(clips)
        for _, end, frame in self._shown(wanted):
            if hits := wanted[seen : bisect_left(wanted, end)]:
                seen += len(hits)
                frames.update(dict.fromkeys(hits, self._image(frame, convert)))
            while to_come and all(k in frames for k in to_come[0]):
                clip = to_come.popleft()
                yield np.stack([frames[k] for k in clip])
                uses.subtract(clip)
                frames = {k: image for k, image in frames.items() if uses[k] > 0}
            if not to_come:
                return
        raise LengthError(self.name, f"ends before grid frame {max(to_come[0])}, which it should have")

    def read_windows(
        self, starts: Iterable[int], offsets: Sequence[int], length: int, convert: Convert | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(start, frames as `read` gives them at start + offsets) for each window that lies in the video, in one pass.

        A window covers `length` grid points from its start; starts must not go back, and may go on for ever. The length of the
        video need not be known before; afterwards `num_frames` is what was decoded.
        """
        frames: dict[int, np.ndarray] = {}
        to_come = iter(starts)
        windows = deque([next(to_come)])  # that have begun, and the next one
        wanted = {windows[0] + offset for offset in offsets}  # grid indices still to be shown
        for first, last, frame in self._shown(None):
            image: np.ndarray | None = None
            for begin in range(first, last, length):  # a frame may be shown for very long
                end = min(begin + length, last)
                while windows[-1] < end:
                    windows.append(next(to_come))
                    wanted.update(windows[-1] + offset for offset in offsets)
                if hits := wanted.intersection(range(begin, end)):
                    wanted -= hits
                    image = self._image(frame, convert) if image is None else image
                    frames.update(dict.fromkeys(hits, image))
                while windows[0] + length <= end:
                    start = windows.popleft()
                    yield start, np.stack([frames[start + offset] for offset in offsets])
                    frames = {k: kept for k, kept in frames.items() if k >= windows[0]}

    def _shown(self, wanted: Sequence[int] | None) -> Iterator[tuple[int, int, Any]]:
        """(first grid index, one past its last, frame) in order of time; for the wanted indices at least, or all of them."""
        raise NotImplementedError

    def _image(self, frame: Any, convert: Convert | None) -> np.ndarray:
        image = self._rgb(frame)
        return convert(image) if convert else image

    def _rgb(self, frame: Any) -> np.ndarray:
        """uint8 [H, W, 3]."""
        raise NotImplementedError

    def nearest(self, seconds: Fraction) -> int:
        """The grid index nearest to a time."""
        return math.floor(seconds * self.rate + Fraction(1, 2))


class _EvenVideo(Video):
    """`count` images, `source_fps` a second."""

    def __init__(self, name: object, fps: float, source_fps: float, count: int) -> None:
        super().__init__(name, fps)
        if not source_fps > 0:
            raise ValueError(f"the frames' own rate must be > 0 frames per second, got {source_fps}")
        if count < 1:
            raise VideoError(name, "has no frames")
        self.count = count
        self._interval = 1 / Fraction(source_fps).limit_denominator(100_000)
        self.facts = {"fps": float(source_fps), "frames": count}

    @property
    def num_frames(self) -> int:
        return max(self.nearest(self.count * self._interval), 1)

    def _shown(self, wanted: Sequence[int] | None) -> Iterator[tuple[int, int, Any]]:
        for i in range(self.count):
            begin = self.nearest(i * self._interval)
            end = max(self.nearest((i + 1) * self._interval), 1)
            if end > begin:
                yield begin, end, i


class ArrayVideo(_EvenVideo):
    """Frames in memory: uint8 [T, H, W, 3] RGB."""

    def __init__(self, frames: np.ndarray | Tensor, fps: float, source_fps: float) -> None:
        array = np.asarray(frames)
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 [T, H, W, 3], got {array.dtype} {list(array.shape)}")
        super().__init__("<array>", fps, source_fps, len(array))
        self._frames = array
        self.facts |= {"codec": "array", "height": array.shape[1], "width": array.shape[2]}

    def _rgb(self, frame: Any) -> np.ndarray:
        return self._frames[frame]


class FrameFolder(_EvenVideo):
    """A folder of `%06d.jpg`, from 000001.jpg on, as frames were extracted for the original (at 25 fps)."""

    def __init__(self, folder: str | os.PathLike[str], fps: float, source_fps: float = 25.0) -> None:
        self._folder = Path(folder)
        numbers = {int(file.stem) for file in self._folder.glob("[0-9][0-9][0-9][0-9][0-9][0-9].jpg")}
        count = next(i for i in range(len(numbers) + 1) if i + 1 not in numbers)
        super().__init__(folder, fps, source_fps, count)
        if count < len(numbers):
            self.damage = f"{count + 1:06d}.jpg is missing, and {max(numbers):06d}.jpg is there"
        self.facts |= {"codec": "jpeg"}
        self._size: tuple[int, int] | None = None

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether a folder is a video in itself."""
        return (folder / "000001.jpg").is_file()

    def _rgb(self, frame: Any) -> np.ndarray:
        from PIL import Image

        path = self._folder / f"{frame + 1:06d}.jpg"
        try:
            with Image.open(path) as image:
                rgb = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for bad content
            raise VideoError(self.name, f"{path.name} cannot be read as an image: {error}") from error
        self._size = self._size or rgb.size
        return np.asarray(rgb if rgb.size == self._size else rgb.resize(self._size))
