"""Which frames make a clip: pure index arithmetic on a video of n grid frames."""

from __future__ import annotations

from ..clip_spec import ClipSpec


def clip_starts(num_frames: int, spec: ClipSpec, clips: int) -> list[int]:
    """First grid index of each of `clips` clips, evenly placed from the first possible start to the last; 0 if there is one.

    A video shorter than a clip gives clips that all begin at 0 (and are looped).

        num_frames 250, 16 successive frames, 5 clips -> [0, 58, 117, 175, 234]
    """
    if clips < 1 or num_frames < 1:
        raise ValueError(f"there must be at least one clip and one frame, got {clips} clips of {num_frames} frames")
    last = max(num_frames - spec.num_frames * spec.frame_interval, 0)
    return [k * last // max(clips - 1, 1) for k in range(clips)]
