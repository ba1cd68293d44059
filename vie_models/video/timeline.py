"""When the packets and frames of a video stream are shown, by the rules of the ffmpeg command line.

Time stamps are often missing, in the wrong order, or begin anew in the middle of a file that was joined from several. What
ffmpeg makes of them decides which frame `ffmpeg -vf fps=25` shows, so its rules are followed to the letter:
ts_discontinuity_detect and ist_dts_update of ffmpeg_demux.c for packets, guess_correct_pts of libavcodec's decode.c and
video_duration_estimate of ffmpeg_dec.c for frames.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

_MICRO = 1_000_000  # ffmpeg counts in microseconds
_LOOSE_GAP = 10 * _MICRO  # dts_delta_threshold
_GAP = 30 * 3600 * _MICRO  # dts_error_threshold
_BACK = _MICRO // 10
_UNCLAIMED_GAP = 3600 * _MICRO  # ours


class PacketTimes:
    """Repairs the time stamps of a stream's packets, one after another, from the first one on.

    Where a container lets time stamps jump (MPEG transport and program streams), a step back, or one of more than 10 s, moves
    all that follow, so that they go on where the last packet ended. In other containers, gaps of more than 30 hours are
    taken for mistakes, and frames there follow one another.

    One rule goes further than ffmpeg's: a gap of more than 10 s is also closed if it leads past the end that the container
    claims, or without a claim, if it is longer than an hour though the packet before it claims a duration.

    Args:
        time_base: seconds per unit of the time stamps.
        start: time stamp that counts as 0.
        loose: whether the container lets time stamps jump.
        end: seconds after `start` at which the container claims to end; None without a claim.

    Attributes:
        joins: number of places where time stamps were moved on.
    """

    def __init__(self, time_base: Fraction, start: int, *, loose: bool, end: Fraction | None = None) -> None:
        self._time_base, self._start, self._loose = time_base, start, loose
        self._end = None if end is None else int(end * _MICRO)
        self._dts: int | None = None  # of the last packet, and of the next one as the last one claims; in microseconds
        self._next: int | None = None
        self._lasts = False  # whether the last packet claims a duration
        self._offset = 0  # microseconds by which time stamps are moved
        self.joins = 0

    def __call__(self, packet: Any) -> None:
        """Sets the packet's `pts` and `dts`."""
        pts, dts = packet.pts, packet.dts
        if self._offset:
            offset = self._ticks(self._offset)
            pts = None if pts is None else pts + offset
            dts = None if dts is None else dts + offset
        if dts is not None and self._next is not None:
            pts, dts = self._repaired(pts, dts)
        if pts != packet.pts:
            packet.pts = pts
        if dts != packet.dts:
            packet.dts = dts
        self._expect(pts, dts, packet.duration)

    def believes(self, end: Fraction) -> bool:
        """Whether a stream that ends `end` seconds after the start cannot have a gap that is closed, unless it goes back."""
        if self._end is not None:
            return end * _MICRO <= min(self._end + _LOOSE_GAP, _GAP)
        return end * _MICRO <= _UNCLAIMED_GAP

    def _repaired(self, pts: int | None, dts: int) -> tuple[int | None, int | None]:
        assert self._next is not None
        assert self._dts is not None
        now = self._micro(dts - self._start)
        gap = now - self._next
        if self._loose or self._offset:
            jumps = abs(gap) > _LOOSE_GAP or now + _BACK < self._dts
        elif self._end is not None:
            jumps = gap > _LOOSE_GAP and now > self._end + _LOOSE_GAP
        else:
            jumps = self._lasts and _UNCLAIMED_GAP < gap <= _GAP
        if jumps:
            self.joins += 1
            self._offset -= gap
            back = self._ticks(gap)
            return None if pts is None else pts - back, dts - back
        if not self._loose:
            if pts is not None and abs(self._micro(pts - self._start) - self._next) > _GAP:
                pts = None
            if abs(gap) > _GAP:
                return pts, None
        return pts, dts

    def _expect(self, pts: int | None, dts: int | None, duration: int | None) -> None:
        """Predicts the next packet's decoding time."""
        if dts is not None:
            self._dts = self._micro(dts - self._start)
        elif self._next is not None:
            self._dts = self._next
        else:
            self._dts = 0 if pts is None else self._micro(pts - self._start)
        self._lasts = bool(duration)
        self._next = self._dts + self._micro(duration or 0)

    def _micro(self, ticks: int) -> int:
        return _rescaled(ticks, self._time_base.numerator * _MICRO, self._time_base.denominator)

    def _ticks(self, micro: int) -> int:
        return _rescaled(micro, self._time_base.denominator, self._time_base.numerator * _MICRO)


def _rescaled(value: int, numerator: int, denominator: int) -> int:
    """Returns value * numerator / denominator, rounded to the nearest integer, halves away from zero."""
    rounded = (2 * abs(value) * numerator + denominator) // (2 * denominator)
    return rounded if value >= 0 else -rounded


class FrameTimes:
    """Presentation times of successive frames, as time stamps.

    Some containers hold decoding times instead of presentation times. The kind that has gone back less often is trusted. A
    frame without either follows the previous one.

    Args:
        time_base: seconds per unit of the time stamps.
        start: time stamp of a first frame that has none.
        rate: frames per second that the stream claims.
        timed: whether the container holds time stamps. If not, frames follow one another at the rate.

    Attributes:
        now: time stamp of the last frame.
        end: time stamp at which the last frame ends.
        pts_faults: how often a presentation time did not come after the last one.
    """

    def __init__(self, time_base: Fraction, start: int, rate: Fraction | None, *, timed: bool = True) -> None:
        self._by_rate = max(round(1 / (rate * time_base)), 1) if rate else None
        self._timed = timed
        self._pts = self._dts = -(2**63)  # of the last frame
        self.pts_faults = self._dts_faults = 0
        self.now: int | None = None
        self.end = start

    def __call__(self, frame: Any) -> int:
        """Returns the time stamp at which the frame is shown."""
        time_stamp = self._best(frame.pts, frame.dts) if self._timed else None
        if time_stamp is None:
            time_stamp = self.end
        step = 0 if self.now is None else time_stamp - self.now
        self.now = time_stamp
        self.end = time_stamp + self._duration(frame, step)
        return time_stamp

    def _best(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._dts_faults += dts <= self._dts
            self._dts = dts
        elif pts is not None:
            self._dts = pts
        if pts is not None:
            self.pts_faults += pts <= self._pts
            self._pts = pts
        elif dts is not None:
            self._pts = dts
        by_pts = pts is not None and (dts is None or self.pts_faults <= self._dts_faults)
        return pts if by_pts else dts

    def _duration(self, frame: Any, step: int) -> int:
        """How long a frame is taken to last that came `step` after the one before it."""
        duration = frame.duration or 0
        made_up = duration == 1 and step > 2  # by libavformat
        if duration > 0 and self._timed and not made_up:
            return int(duration)
        if self._by_rate and not self._timed:
            return self._by_rate
        return max(step, 0) or duration or self._by_rate or 1
