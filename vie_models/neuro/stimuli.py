"""A stimulus table: which part of which video is presented; and the clips of each presentation."""

from __future__ import annotations

import csv
import dataclasses
import functools
import heapq
import itertools
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..failures import NothingReadError
from ..video import Clip, ClipRead, Sampling, Video, cropping, window_offsets

_NEVER = 2**60  # a grid index that no video reaches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Presentation:
    """One row of a stimulus table."""

    stimulus: str
    """The video as the table names it."""
    path: Path
    """Where the video is: a file, or a folder of `%06d.jpg` frames."""
    onset: float = 0.0
    """Start of the presentation, in seconds after the video's first frame."""
    duration: float | None = None
    """Length of the presentation in seconds; None: to the end of the video."""

    def grid(self, fps: float) -> tuple[int, float]:
        """Returns the first grid index of the presentation, and one past the last (infinite without a duration)."""
        first = round(self.onset * fps)
        return first, math.inf if self.duration is None else first + max(round(self.duration * fps), 1)


def read_stimuli(table: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Presentation]:
    """Reads a stimulus table: a CSV file with the columns stimulus, and if wanted onset and duration, in seconds.

    Args:
        table: the file. An empty onset means 0; an empty duration means to the end of the video. Other columns are ignored.
        root: folder that relative paths of videos start from (default: the table's folder).

    Raises:
        FileNotFoundError: there is no such table, or a video of it does not exist.
        ValueError: a column or a row is missing, or a number is out of range; the message names the line.
    """
    table = Path(table)
    if not table.is_file():
        raise FileNotFoundError(f"no stimulus table at {table}")
    folder = table.parent if root is None else Path(root)
    found = []
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if "stimulus" not in (rows.fieldnames or ()):
            raise ValueError(f"{table} must have a column stimulus, got {', '.join(rows.fieldnames or ()) or 'no columns'}")
        for row in rows:
            where = f"{table}, line {rows.line_num}"
            stimulus, onset = row["stimulus"] or "", _seconds(row.get("onset"), "onset", where)
            duration = _seconds(row.get("duration"), "duration", where)
            if not stimulus:
                raise ValueError(f"{where}: the stimulus is empty; give the path of a video")
            if duration == 0:
                raise ValueError(f"{where}: duration must be > 0 seconds, or empty for the whole video, got 0")
            path = folder / stimulus
            if not path.exists():
                raise FileNotFoundError(f"{where}: there is no video {path}")
            found.append(Presentation(stimulus=stimulus, path=path, onset=onset or 0.0, duration=duration))
    if not found:
        raise NothingReadError(f"{table} has no rows: it needs one for each presentation")
    return found


def _seconds(text: str | None, column: str, where: str) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{where}: {column} must be a number of seconds >= 0, got {text!r}")
    return value


@dataclasses.dataclass
class PresentedClip(ClipRead):
    """A clip of a presentation. Its `start` and `end` are in seconds after the onset."""

    presentation: int = 0
    """Number of the presentation in the table."""
    bin: int = 0
    """Number of the clip in the presentation."""


@dataclasses.dataclass(frozen=True)
class PresentationReading:
    """Reads the sliding windows of all presentations of a video in one pass, so memory does not grow with its length.

    A window lies within its presentation. A presentation that is shorter than a window gives one clip, which loops if need be.
    """

    sampling: Sampling
    """Sliding windows: `stride` is given."""
    presentations: Mapping[str, Sequence[tuple[int, Presentation]]]
    """Path of a video -> its presentations, with their numbers."""

    @property
    def fps(self) -> float:
        """Frames per second of the grid that the model expects."""
        return self.sampling.fps

    def read(self, video: Video) -> Iterator[ClipRead]:
        """Yields a PresentedClip for each window, in order of time."""
        spec, length = self.sampling.spec, self.sampling.window_length
        offsets, convert = window_offsets(spec.num_frames, length), cropping(spec)
        presented = [(number, *p.grid(spec.fps)) for number, p in self.presentations[str(video.name)]]

        def clip(number: int, k: int, begin: int, indices: tuple[int, ...], looped: bool, pixels: np.ndarray) -> ClipRead:
            span = (begin / spec.fps, (begin + length) / spec.fps)
            return PresentedClip(indices, looped, *span, pixels, number, k)

        windows = heapq.merge(*[self._windows(*one) for one in presented])
        coming: deque[tuple[int, int, int, int] | None] = deque([next(windows, None)])
        done = set()

        def starts() -> Iterator[int]:  # keeps one window more in `coming` than `read_windows` is at
            while window := coming[-1]:
                yield window[0]
                coming.append(next(windows, None))
            while True:
                yield _NEVER

        if coming[0]:
            for start, pixels in video.read_windows(starts(), offsets, length, convert):
                window = coming.popleft()
                assert window
                _, number, k, begin = window
                done.add(number)
                yield clip(number, k, begin, tuple(start + offset for offset in offsets), False, pixels)
                if coming and coming[0] is None:
                    break

        def repeated(indices: Sequence[int]) -> np.ndarray:
            return next(video.read([indices], convert))

        for number, first, end in presented:
            room = min(end, video.num_frames) - first
            if number in done or room < 1:
                continue
            alone = Clip.of(offsets, int(room))
            indices = tuple(first + k for k in alone.indices)
            pixels = video.retrying(functools.partial(repeated, indices))
            yield clip(number, 0, 0, indices, alone.looped, pixels)

    def _windows(self, number: int, first: int, end: float) -> Iterator[tuple[int, int, int, int]]:
        """Yields (grid index, presentation, bin, grid index after the onset) of each window of a presentation."""
        for k in itertools.count():
            begin = bin_start(k, self.sampling)
            if first + begin + self.sampling.window_length > end:
                return
            yield first + begin, number, k, begin


def bin_start(k: int, sampling: Sampling) -> int:
    """Returns the grid index, after the onset, at which window k starts."""
    assert sampling.stride is not None
    return math.floor(k * sampling.stride * sampling.fps + 0.5)
