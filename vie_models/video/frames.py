"""Videos as frames on a regular time grid, and the sources that need no decoder: arrays and folders of images.

Grid point k lies k / fps seconds after the first frame. It shows the frame that ffmpeg's `fps` filter (round=near) puts there:
each frame's time is rounded to the nearest grid point, and the frame holds until the grid point of the next one.
"""

from __future__ import annotations

import functools
import math
import os
import re
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

GRID_FPS = 25.0
"""Frames per second of the grid on which the original's frames lie, and on which lists and packs count."""
Convert = Callable[[np.ndarray], np.ndarray]
Result = TypeVar("Result")
_FRAME = re.compile(r"[0-9]{6}\.jpg")


class VideoError(ValueError):
    """No frames can be read from a video; `reason` says why."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason)


class LengthError(VideoError):
    """A video is not as long as its packets said. `Video.recount` finds its true length."""


class Video:
    """Frames on a grid of `fps`. Use it in a `with` statement, or call `close`.

    Attributes:
        damage: what is damaged, and where it begins; None if nothing was found. A file is read on after damage.
        metadata: properties of the source: "codec", "width", "height" and so on, as JSON-ready values. A file that was decoded
            whole adds what it found: "joined", the places where time stamps jump and were moved on, as in joined recordings;
            "concealed", the frames shown though a part is missing; "skipped", the frames that could not be decoded.
        progress: if set, is called repeatedly during reading, to show that reading goes on.
    """

    def __init__(self, name: object, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"fps must be > 0 frames per second, got {fps}")
        self.name = name
        self.rate = _rate(fps)
        self.damage: str | None = None
        self.metadata: dict[str, Any] = {}
        self.progress: Callable[[], None] | None = None

    @property
    def num_frames(self) -> int:
        """Length in grid points, at least 1."""
        raise NotImplementedError

    def recount(self) -> None:
        """Finds `num_frames` by decoding every frame, after a LengthError."""
        raise NotImplementedError

    def retrying(self, read: Callable[[], Result]) -> Result:
        """Returns what `read()` returns. If it finds that the video is not as long as its packets said, it is called again."""
        try:
            return read()
        except LengthError:
            self.recount()
            return read()

    def close(self) -> None: ...

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, clips: Sequence[Sequence[int]], convert: Convert | None = None) -> Iterator[np.ndarray]:
        """Yields uint8 [T, H, W, 3] RGB, upright, for each clip (its grid indices), in order. All frames have one size.

        `convert` changes each frame [H, W, 3] before it is kept (default: no change). A frame that several clips share is
        converted once, and kept as long as a later clip needs it. Raises LengthError if the video is shorter than
        `num_frames`.
        """
        frames: dict[int, np.ndarray] = {}
        uses = Counter(k for clip in clips for k in clip)
        wanted = sorted(uses)
        seen = 0  # number of wanted frames found
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
        raise LengthError(self.name, f"ends before grid frame {max(to_come[0])}, which it should contain")

    def read_windows(
        self, starts: Iterable[int], offsets: Sequence[int], length: int, convert: Convert | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (start, frames at start + offsets as from `read`) for each window that lies in the video, in one pass.

        A window covers `length` grid points from its start. Starts must not decrease, and may be endless. The length of the
        video need not be known in advance; afterwards `num_frames` is the decoded length.
        """
        frames: dict[int, np.ndarray] = {}
        to_come = iter(starts)
        windows = deque([next(to_come)])  # the windows that have begun, and the next one
        wanted = {windows[0] + offset for offset in offsets}  # grid indices still to be shown
        for first, last, frame in self._shown(None):
            image: np.ndarray | None = None
            for begin in range(first, last, length):  # one frame may last for many windows
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
        """Yields (first grid index, one past its last, frame) in order of time, for at least the wanted indices, or for all."""
        raise NotImplementedError

    def _image(self, frame: Any, convert: Convert | None) -> np.ndarray:
        image = self._rgb(frame)
        return convert(image) if convert else image

    def _rgb(self, frame: Any) -> np.ndarray:
        """uint8 [H, W, 3]."""
        raise NotImplementedError

    def nearest(self, seconds: Fraction) -> int:
        """Returns the grid index nearest to a time in seconds."""
        return math.floor(seconds * self.rate + Fraction(1, 2))


@functools.lru_cache
def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(100_000)


class EvenVideo(Video):
    """`count` images, at `source_fps` images per second."""

    def __init__(self, name: object, fps: float, source_fps: float, count: int) -> None:
        super().__init__(name, fps)
        if not source_fps > 0:
            raise ValueError(f"the frames' own rate must be > 0 frames per second, got {source_fps}")
        if count < 1:
            raise VideoError(name, "has no frames")
        self.count = count
        self._interval = 1 / _rate(source_fps)
        self.metadata = {"fps": float(source_fps), "frames": count}

    @property
    def num_frames(self) -> int:
        return max(self.nearest(self.count * self._interval), 1)

    def _shown(self, wanted: Sequence[int] | None) -> Iterator[tuple[int, int, Any]]:
        for i in range(self.count):
            begin = self.nearest(i * self._interval)
            end = max(self.nearest((i + 1) * self._interval), 1)
            if end > begin:
                yield begin, end, i


class ArrayVideo(EvenVideo):
    """Frames in memory: uint8 [T, H, W, 3] RGB."""

    def __init__(self, frames: np.ndarray | Tensor, fps: float, source_fps: float) -> None:
        array = np.asarray(frames)
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 [T, H, W, 3], got {array.dtype} {list(array.shape)}")
        super().__init__("<array>", fps, source_fps, len(array))
        self._frames = array
        self.metadata |= {"codec": "array", "height": array.shape[1], "width": array.shape[2]}

    def _rgb(self, frame: Any) -> np.ndarray:
        return self._frames[frame]


class FrameFolder(EvenVideo):
    """A folder of images `%06d.jpg`, starting at 000001.jpg, as the original's frames were extracted (at 25 fps)."""

    FIRST = "000001.jpg"
    """A folder that has this file holds the frames of one video."""

    def __init__(self, folder: str | os.PathLike[str], fps: float, source_fps: float = GRID_FPS) -> None:
        self._folder = Path(folder)
        numbers = {int(name[:6]) for name in os.listdir(folder) if _FRAME.fullmatch(name)}  # noqa: PTH208  glob hides errors
        count = next(i for i in range(len(numbers) + 1) if i + 1 not in numbers)
        super().__init__(folder, fps, source_fps, count)
        if count < len(numbers):
            self.damage = f"{count + 1:06d}.jpg is missing, but {max(numbers):06d}.jpg exists"
        self.metadata |= {"codec": "jpeg"}
        self._size: tuple[int, int] | None = None

    def _rgb(self, frame: Any) -> np.ndarray:
        from PIL import Image

        path = self._folder / f"{frame + 1:06d}.jpg"
        try:
            with Image.open(path) as image:
                rgb = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises for bad content
            raise VideoError(self.name, f"{path.name} cannot be read as an image: {error}") from error
        self._size = self._size or rgb.size
        return np.array(rgb if rgb.size == self._size else rgb.resize(self._size))  # a copy, because Pillow's is read-only
