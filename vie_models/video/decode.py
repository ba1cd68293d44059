"""Frames of a video file by presentation time, on a regular grid, whatever the container claims about its rate.

Grid point k lies k / fps seconds after the first frame. It shows the frame that ffmpeg's `fps` filter (round=near) puts there:
each frame's time is rounded to the nearest grid point, and holds from there until the next one's.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..clip_spec import ClipSpec
from .clips import regular_clip


class VideoError(ValueError):
    """A file from which no frame can be had; `reason` says why."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclasses.dataclass
class GridFrames:
    """Frames read from a video."""

    frames: dict[int, np.ndarray]
    """Grid index -> uint8 [H, W, 3] RGB, upright."""
    num_frames: int | None
    """Length of the video in grid points, or None where reading stopped before its end."""
    damage: str | None
    """Why reading ended early, where the file is damaged; what came before is good."""


def load_clip(path: str | os.PathLike[str], spec: ClipSpec, *, start: float = 0.0) -> Tensor:
    """The clip that begins `start` seconds after the first frame: uint8 [T, H, W, 3], RGB, upright.

    Where the video ends before the clip does, it begins again (frame index modulo length), as in the reference.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: nothing can be decoded from it.
        ValueError: `start` is negative or not before the end of the video.
    """
    if not start >= 0:
        raise ValueError(f"start must be >= 0 seconds, got {start}")
    first = round(start * spec.fps)
    indices = [first + k * spec.frame_interval for k in range(spec.num_frames)]
    read = read_grid(path, spec.fps, indices)
    if read.num_frames is not None and indices[-1] >= read.num_frames:
        if first >= read.num_frames:
            raise ValueError(
                f"start must lie in the video: {path} lasts {read.num_frames / spec.fps:.2f} s, got {first / spec.fps:.2f} s"
            )
        indices = list(regular_clip(read.num_frames, spec, first).indices)
        read.frames |= read_grid(path, spec.fps, set(indices) - set(read.frames)).frames
    return torch.from_numpy(np.stack([read.frames[k] for k in indices]))


def count_grid(path: str | os.PathLike[str], fps: float) -> GridFrames:
    """Decodes a video to its end, keeping nothing: `num_frames` is set, and `damage` if there is any."""
    return read_grid(path, fps, ())


def read_grid(path: str | os.PathLike[str], fps: float, indices: Iterable[int]) -> GridFrames:
    """The frames at the given grid indices; indices beyond the end are left out. With no indices, reads to the end.

    Only frames that are asked for are converted to RGB. All have the size of the first one.
    """
    result = GridFrames({}, None, None)
    for hits, image in _images(path, fps, set(indices), result):
        result.frames.update(dict.fromkeys(hits, image))
    return result


def read_clips(path: str | os.PathLike[str], fps: float, clips: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """uint8 [T, H, W, 3] for each clip (its grid indices), in order, in one pass over the file.

    A frame is kept only as long as a clip to come needs it. Raises VideoError where the file ends before a clip is whole.
    """
    frames: dict[int, np.ndarray] = {}
    uses = Counter(k for clip in clips for k in clip)
    to_come = deque(clips)
    for hits, image in _images(path, fps, set(uses), GridFrames({}, None, None)):
        frames.update(dict.fromkeys(hits, image))
        while to_come and all(k in frames for k in to_come[0]):
            clip = to_come.popleft()
            yield np.stack([frames[k] for k in clip])
            uses.subtract(clip)
            frames = {k: frame for k, frame in frames.items() if uses[k] > 0}
    if to_come:
        raise VideoError(path, f"ends before grid frame {max(to_come[0])}, which it had when it was read before")


def _images(
    path: str | os.PathLike[str], fps: float, wanted: set[int], result: GridFrames
) -> Iterator[tuple[list[int], np.ndarray]]:
    """(grid indices, their RGB image) for the wanted indices, as they come; with none wanted, reads to the end all the same."""
    to_the_end = not wanted
    size: tuple[int, ...] | None = None
    for frame, begin, end in _shown(path, fps, result):
        if hits := [k for k in wanted if begin <= k < end]:
            image = _rgb(frame, size)
            size = image.shape
            yield hits, image
            wanted.difference_update(hits)
        if not wanted and not to_the_end:
            break


def _shown(path: str | os.PathLike[str], fps: float, result: GridFrames) -> Iterator[tuple[Any, int, int]]:
    """(frame, first grid index, one past its last) in order of time; sets `num_frames` and `damage` at the end."""
    av = _import_av()
    if not Path(path).is_file():
        raise FileNotFoundError(f"no video file at {path}")
    rate = Fraction(fps).limit_denominator(100_000)
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise VideoError(path, f"cannot be opened as a video: {error.strerror}") from error
    with container:
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
            raise VideoError(path, f"has no video stream, only {', '.join(kinds)}")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        origin: int | None = None  # grid index of the first frame, relative to the container's start
        held: Any = None
        begin = 0
        try:
            for frame in container.decode(stream):
                index = _nearest(_seconds(frame, stream, container, held), rate)
                origin = index if origin is None else origin
                index = max(index - origin, begin)
                if held is not None and index > begin:
                    yield held, begin, index
                held, begin = frame, index
        except av.error.FFmpegError as error:
            result.damage = f"{error.strerror} after {_time(held, stream)}"
        if held is None:
            raise VideoError(path, "has a video stream but no frame that can be decoded; " + (result.damage or "it is empty"))
        end_of_last = _seconds(held, stream, container, None) + _duration(held, stream)
        result.num_frames = max(_nearest(end_of_last, rate) - (origin or 0), begin + 1)
        yield held, begin, result.num_frames


def _seconds(frame: Any, stream: Any, container: Any, previous: Any) -> Fraction:
    """Presentation time since the container's start, as ffmpeg counts it; a frame without time follows the previous one."""
    start = Fraction(container.start_time or 0, 1_000_000)
    time = frame.pts if frame.pts is not None else frame.dts
    if time is not None:
        return time * stream.time_base - start
    if previous is None:
        return Fraction(0)
    return _seconds(previous, stream, container, None) + _duration(previous, stream)


def _duration(frame: Any, stream: Any) -> Fraction:
    if getattr(frame, "duration", None):
        return frame.duration * stream.time_base
    return 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))


def _time(frame: Any, stream: Any) -> str:
    return "no frame" if frame is None or frame.pts is None else f"{float(frame.pts * stream.time_base):.2f} s"


def _nearest(seconds: Fraction, rate: Fraction) -> int:
    return math.floor(seconds * rate + Fraction(1, 2))


def _rgb(frame: Any, size: tuple[int, ...] | None) -> np.ndarray:
    """uint8 [H, W, 3], turned upright; scaled to `size` [H, W, ...] where that is given."""
    quarter_turns = _quarter_turns(frame)
    height, width = (None, None) if size is None else size[:2]
    if quarter_turns % 2:
        height, width = width, height
    image = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, quarter_turns))


def _quarter_turns(frame: Any) -> int:
    """Quarter turns counter-clockwise that the frame's display matrix asks for (3 x 3 integers, rows of the rotation first)."""
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            cosine, sine = np.frombuffer(bytes(side_data), "<i4")[:2].tolist()
            return round(math.atan2(-sine, cosine) / (math.pi / 2))
    return 0


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading video files needs PyAV: pip install av") from error
    return av
