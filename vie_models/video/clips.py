"""Which frames make a clip: pure index arithmetic on a video of n grid frames (REFERENCE: sampling of the original release).

T frames, `interval` apart, span T * interval. A clip that runs over the end begins the video again (index modulo n): the
original does so for 3DResNet and Slowfast, and replaces a video that is too short by another one for Single, Slow and TRN;
we always loop, and say so (`Clip.looped`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..clip_spec import ClipSpec


@dataclasses.dataclass(frozen=True)
class Clip:
    """The frames of one clip, as grid indices in [0, n)."""

    indices: tuple[int, ...]
    looped: bool
    """Whether the clip runs over the end of the video and begins it again."""

    @property
    def start(self) -> int:
        """Grid index of the first frame."""
        return self.indices[0]


def test_clips(num_frames: int, spec: ClipSpec, clips: int) -> list[Clip]:
    """`clips` clips of a video of `num_frames` grid frames, placed as `spec.placement` says.

    "ends" (3DResNet, Slowfast): evenly, the first at the start and the last at the end; in a video too short for `clips`
    clips one after the other, one after the other all the same, looped. One clip alone lies in the middle.

        n = 250, T = 16, interval 1, 5 clips: starts 0, 58, 117, 175, 234
        n =  40                             : starts 0, 16, 32, 48, 64, all modulo 40

    "tiled": evenly, from start to end, in the video laid end to end until it is longer than a clip.

    "inner" (Slow): evenly, between start and end; "tiled" where the video is too short for a clip.

        n = 250, T = 4, interval 16, 5 clips: starts 33, 67, 101, 134, 168, inner points of [0, 250 - 48]

    "segments" (Single): in the middle of each of `clips` equal parts.

    "bins" (TRN): the video in bins of min(interval, n // T) frames; T successive bins, the middle frame of each; the first
    bin as with "ends".
    """
    _check(num_frames, clips)
    if spec.placement == "bins":
        size = max(min(spec.frame_interval, num_frames // spec.num_frames), 1)
        last = max(num_frames // size - spec.num_frames, 0)
        return [
            _clip([(first + t) * size + size // 2 for t in range(spec.num_frames)], num_frames)
            for first in _evenly(last, clips)
        ]
    span = spec.num_frames * spec.frame_interval
    room = num_frames - (span - spec.frame_interval)  # how far the first frame can go and the last still be in the video
    if spec.placement == "segments":
        starts = [max(room, 0) * (2 * k + 1) // (2 * clips) for k in range(clips)]
    elif spec.placement == "inner" and room > 0:
        starts = [(k + 1) * room // (clips + 1) for k in range(clips)]
    elif spec.placement in ("inner", "tiled"):
        starts = _evenly(num_frames * (span // num_frames + 1) - span, clips)
    else:
        starts = _evenly(max(num_frames, clips * span) - span, clips)
    return [regular_clip(num_frames, spec, start) for start in starts]


def train_clip(num_frames: int, spec: ClipSpec, generator: torch.Generator) -> Clip:
    """A random clip: the start uniform where the clip fits, else the whole video looped; with "bins" a random frame of each."""
    _check(num_frames, 1)

    def draw(below: int) -> int:
        return int(torch.randint(max(below, 1), (), generator=generator))

    if spec.placement == "bins":
        size = max(min(spec.frame_interval, num_frames // spec.num_frames), 1)
        first = draw(num_frames // size - spec.num_frames + 1)
        return _clip([(first + t) * size + draw(size) for t in range(spec.num_frames)], num_frames)
    looping = spec.placement in ("ends", "tiled")  # the original keeps one interval more free where it loops
    span = (spec.num_frames if looping else spec.num_frames - 1) * spec.frame_interval
    return regular_clip(num_frames, spec, draw(num_frames - span))


def regular_clip(num_frames: int, spec: ClipSpec, start: int) -> Clip:
    """`spec.num_frames` frames, `spec.frame_interval` apart, from grid index `start`, looped where need be."""
    return _clip([start + t * spec.frame_interval for t in range(spec.num_frames)], num_frames)


def window_offsets(num_frames: int, length: int) -> tuple[int, ...]:
    """Where the frames of a window of `length` grid points lie in it: in the middle of each of `num_frames` equal parts.

    T = 4, length 4: 0, 1, 2, 3        T = 4, length 48: 6, 18, 30, 42        T = 1, length 50: 25
    """
    if not 1 <= num_frames <= length:
        raise ValueError(f"a window must have room for its frames, got {num_frames} frames in {length} grid points")
    return tuple((2 * t + 1) * length // (2 * num_frames) for t in range(num_frames))


def _clip(indices: Sequence[int], num_frames: int) -> Clip:
    return Clip(tuple(k % num_frames for k in indices), looped=indices[-1] >= num_frames)


def _evenly(last: int, clips: int) -> list[int]:
    """`clips` whole numbers from 0 to `last`; the middle if it is one."""
    return [last // 2] if clips == 1 else [k * last // (clips - 1) for k in range(clips)]


def _check(num_frames: int, clips: int) -> None:
    if num_frames < 1 or clips < 1:
        raise ValueError(f"there must be at least one frame and one clip, got {num_frames} frames and {clips} clips")
