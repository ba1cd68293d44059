"""Which frames make a clip: pure index arithmetic on a video of n grid frames.

A clip of T frames, `interval` apart, is T * interval long (`ClipSpec.length`). A clip that runs past the end of the video
continues from its start (index modulo n). The original release does so for 3DResNet and Slowfast. For Single, Slow and TRN, it
replaces a video that is too short by another one. We always loop, and record it (`Clip.looped`). Training clips and the paper's
placement of test clips are the original's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from ..clip_spec import ClipSpec, Placement


@dataclasses.dataclass(frozen=True)
class Clip:
    """The frames of one clip, as grid indices in [0, n)."""

    indices: tuple[int, ...]
    looped: bool
    """Whether the clip runs past the end of the video and continues from its start."""

    @classmethod
    def of(cls, indices: Sequence[int], num_frames: int) -> Clip:
        """Returns the clip of these ascending grid indices, from 0 on, in a video of `num_frames` that repeats itself."""
        return cls(tuple(k % num_frames for k in indices), looped=indices[0] // num_frames < indices[-1] // num_frames)

    @property
    def start(self) -> int:
        """Grid index of the first frame."""
        return self.indices[0]


def even_clips(num_frames: int, spec: ClipSpec, clips: int) -> list[Clip]:
    """Places clips evenly in a video of `num_frames` grid frames, in order: the first at its start, the last at its end.

    They overlap where the video is too short for all of them. A single clip lies in the middle. In a video shorter than a clip,
    all of them begin at its start, as in training, and loop if a frame is missing. With "bins" (TRN) the frames of a clip are
    closer in a short video, as in `paper_clips`, so that it loops only below T frames.

        n = 250, T = 4, interval 16, 5 clips: starts 0, 46, 93, 139, 186, and 186 + 64 = 250
        n = 100                             : starts 0, 9, 18, 27, 36
        n =  50                             : starts 0, 0, 0, 0, 0
    """
    _check(num_frames, clips)
    interval = _bin(num_frames, spec) if spec.placement == "bins" else spec.frame_interval
    starts = _evenly(max(num_frames - spec.num_frames * interval, 0), clips)
    return [Clip.of([start + t * interval for t in range(spec.num_frames)], num_frames) for start in starts]


def paper_clips(num_frames: int, spec: ClipSpec, clips: int) -> list[Clip]:
    """Places clips as the paper's evaluation of a model does, by `spec.placement`.

    "ends" (3DResNet, Slowfast): evenly spaced, the first at the start and the last at the end. A single clip lies in the
    middle. If the video is too short for `clips` clips without overlap, they still follow one another, looped: out of order,
    and past the end of the video.

        n = 250, T = 16, interval 1, 5 clips: starts 0, 58, 117, 175, 234
        n =  40                             : starts 0, 16, 32, 48, 64, all modulo 40

    "tiled": evenly spaced from start to end, in the video repeated until it is longer than a clip.

    "inner" (Slow): evenly spaced between start and end, but not at them; "tiled" if the video is too short for a clip.

        n = 250, T = 4, interval 16, 5 clips: starts 33, 67, 101, 134, 168, inner points of [0, 250 - 48]

    "segments" (Single): in the middle of each of `clips` equal parts.

    "bins" (TRN): the video is cut into bins of min(interval, n // T) frames. A clip takes the middle frame of each of T
    successive bins. Its first bin is placed as with "ends".
    """
    _check(num_frames, clips)
    if spec.placement == "bins":
        size = _bin(num_frames, spec)
        firsts = _evenly(max(num_frames // size - spec.num_frames, 0), clips)
        return [Clip.of([(k + t) * size + size // 2 for t in range(spec.num_frames)], num_frames) for k in firsts]
    room = num_frames - (spec.length - spec.frame_interval)  # start positions for which the last frame is in the video
    if spec.placement == "segments":
        starts = [max(room, 0) * (2 * k + 1) // (2 * clips) for k in range(clips)]
    elif spec.placement == "inner" and room > 0:
        starts = [(k + 1) * room // (clips + 1) for k in range(clips)]
    elif spec.placement in ("inner", "tiled"):
        starts = _evenly(num_frames * (spec.length // num_frames + 1) - spec.length, clips)
    else:
        starts = _evenly(max(num_frames, clips * spec.length) - spec.length, clips)
    return [regular_clip(num_frames, spec, start) for start in starts]


PLACES: dict[Placement, Callable[[int, ClipSpec, int], list[Clip]]] = {"even": even_clips, "paper": paper_clips}
"""What places test clips, by the name of the placement."""


def train_clip(num_frames: int, spec: ClipSpec, generator: torch.Generator) -> Clip:
    """Draws a clip: a uniform start where the clip fits, else the looped video. "bins" draws a random frame of each bin."""
    _check(num_frames, 1)

    def draw(below: int) -> int:
        return int(torch.randint(max(below, 1), (), generator=generator, device="cpu"))

    if spec.placement == "bins":
        size = _bin(num_frames, spec)
        first = draw(num_frames // size - spec.num_frames + 1)
        return Clip.of([(first + t) * size + draw(size) for t in range(spec.num_frames)], num_frames)
    looping = spec.placement in ("ends", "tiled")  # the original leaves one more interval free here
    last = num_frames - (spec.length if looping else spec.length - spec.frame_interval)
    return regular_clip(num_frames, spec, draw(last))


def regular_clip(num_frames: int, spec: ClipSpec, start: int) -> Clip:
    """Returns `spec.num_frames` frames, `spec.frame_interval` apart, from grid index `start`, looped if necessary."""
    return Clip.of([start + t * spec.frame_interval for t in range(spec.num_frames)], num_frames)


def window_offsets(num_frames: int, length: int) -> tuple[int, ...]:
    """Returns the frames' offsets in a window of `length` grid points: the middle of each of `num_frames` equal parts.

    T = 4, length 4: 0, 1, 2, 3        T = 4, length 48: 6, 18, 30, 42        T = 1, length 50: 25
    """
    if not 1 <= num_frames <= length:
        raise ValueError(f"a window must have room for its frames, got {num_frames} frames in {length} grid points")
    return tuple((2 * t + 1) * length // (2 * num_frames) for t in range(num_frames))


def _bin(num_frames: int, spec: ClipSpec) -> int:
    """Returns the length of a bin, in grid points: the clip's interval, or less in a video that is shorter than a clip."""
    return max(min(spec.frame_interval, num_frames // spec.num_frames), 1)


def _evenly(last: int, clips: int) -> list[int]:
    """Returns `clips` evenly spaced whole numbers from 0 to `last`, or the middle for one clip."""
    return [last // 2] if clips == 1 else [k * last // (clips - 1) for k in range(clips)]


def _check(num_frames: int, clips: int) -> None:
    if num_frames < 1 or clips < 1:
        raise ValueError(f"there must be at least one frame and one clip, got {num_frames} frames and {clips} clips")
