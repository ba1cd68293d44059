"""Selects the clips of a video to embed, and reads and crops them one after another."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Protocol, get_args

import numpy as np

from ..clip_spec import ClipSpec, Placement
from .clips import PLACES, Clip, window_offsets
from .frames import Convert, LengthError, Video, VideoError
from .sources import PathOrURL, decoding, open_video
from .transforms import ClipTransform


class Reading(Protocol):
    """What is done with an open video."""

    @property
    def fps(self) -> float:
        """The grid, in frames per second."""

    def read(self, video: Video) -> Iterator[ClipRead | None]:
        """Yields parts of the video. None means that reading starts again: discard what came before it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """What to sample from each video: a number of clips, or sliding windows."""

    spec: ClipSpec
    """Clip specification of the model."""
    clips: int | None = 5
    """Number of clips per video; None with windows."""
    placement: Placement = "even"
    """Where the clips lie: see `even_clips` and `paper_clips` in video/clips.py."""
    window: float | None = None
    """Length of a window, in seconds. Its T frames are the middle frames of T equal parts. Default: the model's clip length.
    Any other length changes the speed at which the model sees the video."""
    stride: float | None = None
    """Time from the start of one window to the next, in seconds. Windows that run past the end of the video are left out."""

    def __post_init__(self) -> None:
        if (self.clips is None) == (self.stride is None):
            raise ValueError(f"exactly one of clips and stride must be given, got clips={self.clips}, stride={self.stride}")
        if self.clips is not None and (self.clips < 1 or self.clips != int(self.clips)):
            raise ValueError(f"clips must be >= 1, a whole number, got {self.clips}")
        if self.placement not in get_args(Placement):
            raise ValueError(f"placement must be one of {', '.join(get_args(Placement))}, got {self.placement!r}")
        if self.stride is not None and self.placement != "even":
            raise ValueError(f"placement must come with clips, not with windows (stride), got placement={self.placement}")
        for name in ("window", "stride"):
            value = getattr(self, name)
            if value is not None:
                if not 0 < value < math.inf:
                    raise ValueError(f"{name} must be > 0 seconds, got {value}")
                object.__setattr__(self, name, float(value))
        if self.window is not None and self.stride is None:
            raise ValueError(f"window must come with a stride, in seconds, got window={self.window} alone")
        if self.stride is not None and not self.stride * self.spec.fps >= 1:
            raise ValueError(f"stride must be at least {1 / self.spec.fps:g} s, one frame of the grid, got {self.stride}")
        if self.stride is not None and self.window_length < self.spec.num_frames:
            shortest = f"{self.spec.num_frames / self.spec.fps:g} s ({self.spec.num_frames} frames at {self.spec.fps:g} fps)"
            raise ValueError(f"window must be at least {shortest}, got {self.window}")

    @property
    def fps(self) -> float:
        """Frames per second of the grid that the model expects."""
        return self.spec.fps

    @property
    def window_length(self) -> int:
        """Length of a window in grid points; of clips, their own length."""
        return self.spec.length if self.window is None else round(self.window * self.spec.fps)

    def count(self, num_frames: int) -> int:
        """Returns the number of clips of a video of `num_frames` grid points."""
        if self.stride is None:
            return self.clips or 0
        last = num_frames - self.window_length  # the latest start, in grid points; window w begins at round(w * stride * fps)
        return max(math.ceil((last + 0.5) / (self.stride * self.fps)), 1)

    def read(self, video: Video) -> Iterator[ClipRead | None]:
        """Yields the cropped clips of a video. None means that reading starts again: discard the clips before it."""
        convert = cropping(self.spec)
        if self.stride is not None:
            yield from self._read_windows(video, convert)
            return
        try:
            yield from self._read_clips(video, convert)
        except LengthError:
            video.recount()
            yield None
            yield from self._read_clips(video, convert)

    def _read_clips(self, video: Video, convert: Convert) -> Iterator[ClipRead]:
        assert self.clips is not None
        clips = PLACES[self.placement](video.num_frames, self.spec, self.clips)
        for clip, pixels in zip(clips, video.read([clip.indices for clip in clips], convert), strict=True):
            yield self._clip_read(clip, clip.start, video, pixels)

    def _read_windows(self, video: Video, convert: Convert) -> Iterator[ClipRead]:
        assert self.stride is not None
        fps, stride, length = self.spec.fps, self.stride, self.window_length

        offsets = window_offsets(self.spec.num_frames, length)
        starts = (math.floor(w * stride * fps + 0.5) for w in itertools.count())
        start = None
        for start, pixels in video.read_windows(starts, offsets, length, convert):
            indices = tuple(start + offset for offset in offsets)
            yield ClipRead(indices, False, start / fps, (start + length) / fps, pixels)
        if start is None:  # the video is shorter than one window
            clip = Clip.of(offsets, video.num_frames)
            yield self._clip_read(clip, 0, video, next(video.read([clip.indices], convert)))

    def _clip_read(self, clip: Clip, start: int, video: Video, pixels: np.ndarray) -> ClipRead:
        """Returns a clip or window that covers the video from `start` on, but not past its end."""
        fps, end = self.spec.fps, min(start + self.window_length, video.num_frames)
        return ClipRead(clip.indices, clip.looped, start / fps, end / fps, pixels)


def cropping(spec: ClipSpec) -> Convert:
    """Returns what resizes and crops a frame as evaluation does: uint8 [H, W, 3] -> [3, crop, crop]."""
    transform = ClipTransform(spec)
    return lambda image: transform.crop(image[None])[0].numpy()


@dataclasses.dataclass
class ClipRead:
    """One clip, ready to be normalized."""

    indices: tuple[int, ...]
    """Grid indices of the clip's frames."""
    looped: bool
    """Whether the clip runs past the end of the video and continues from its start."""
    start: float
    """Start of the clip, in seconds after the first frame of the video."""
    end: float
    """End of what the clip covers: `start` and the length of a clip or window, but at most the end of the video."""
    pixels: np.ndarray
    """Frames, uint8 [T, 3, crop, crop]."""


@dataclasses.dataclass
class VideoRead:
    """What is known about a video after its last clip."""

    num_frames: int
    """Length in grid points."""
    damage: str | None
    """See `Video.damage`."""
    metadata: dict[str, object]
    """Properties of the source: see `Video.metadata`."""


def read_video(
    path: PathOrURL, sampling: Reading, *, threads: int | None = None, progress: Callable[[], None] | None = None
) -> Iterator[ClipRead | VideoRead | None]:
    """Yields what `read_open_video` yields, for a file or a folder of frames. If it cannot be read, raises VideoError.

    `progress` is called repeatedly during reading.
    """
    with _as_video_error(path), open_video(path, sampling.fps, threads=threads) as video:
        video.progress = progress
        yield from read_open_video(video, sampling)


def read_open_video(video: Video, sampling: Reading) -> Iterator[ClipRead | VideoRead | None]:
    """Yields what `sampling.read` yields, and a VideoRead at the end.

    Raises:
        VideoError: the video cannot be read or decoded.
    """
    with _as_video_error(video.name):
        yield from sampling.read(video)
        yield VideoRead(video.num_frames, video.damage, video.metadata)


@contextlib.contextmanager
def _as_video_error(name: object) -> Iterator[None]:
    """What the system and the decoder say of a video becomes a VideoError. Errors of the program stay what they are."""
    try:
        with decoding(name):
            yield
    except OSError as error:
        raise VideoError(name, f"cannot be read: {error.strerror or error}") from error
