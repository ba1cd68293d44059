"""Near-duplicate clips of different videos, with their times.

Clips are alike if they are near in absolute terms, and much nearer than either is to the tenth most similar other video: an
encoder that knows objects puts all videos of a street near one another, and black frames near all others. The links of a pair
of videos must then agree on how the times of one become those of the other: a shift, at nearly the same speed.

N rows, V videos, D dimensions, Q rows of a block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..progress import Progress
from .index import Hit, Index
from .likeness import check_percentile

THRESHOLD, RATIO = 0.85, 0.2
"""Chosen on planted copies: see `python -m reproduce.duplicates`."""
SPEEDS = (1.0, 0.9, 1 / 0.9, 0.95, 1 / 0.95, 0.85, 1 / 0.85)
"""Speeds of one video relative to the other that are tried; in a tie, the first counts."""
BACKGROUND = 10
"""Rank of the video that a ratio of distances compares with."""
_FOUND = 256  # rows that an index which is not exact is asked for
_EQUAL = 1e-6  # distance of rows up to which they count as equal
_VALUES = 1 << 25  # dot products held at a time
_TIE, _TIES = 1.5, 32  # of a video, rows up to 1.5 times as far as the most similar one are linked too, at most so many


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """A stretch of one video that is like a stretch of another."""

    first: Hit
    """The stretch in the video that comes first in the index: its name, path, start and end in seconds."""
    second: Hit
    """The stretch in the other."""
    similarity: float
    """Mean cosine similarity of the clips that match."""
    matches: int
    """Number of clips that match."""
    speed: float
    """Seconds of the second stretch for a second of the first, one of `SPEEDS`."""
    percentile: float
    """Percentage of random pairs of the index that are less alike."""


def find_duplicates(
    index: Index,
    threshold: float = THRESHOLD,
    *,
    ratio: float = RATIO,
    matches: int = 2,
    percentile: float = 0,
    progress: bool = False,
) -> list[Duplicate]:
    """Finds stretches of different videos that are near-duplicates.

    Args:
        index: the index. In an exact one every row is compared with all others, so time grows with the square of their number.
        threshold: least cosine similarity of clips that match, in (0, 1].
        ratio: most that the distance (1 - cosine similarity) of clips that match may be, as a part of their mean distance to
            the tenth most similar other video; in (0, 1]. With fewer videos or a ratio of 1, only the threshold counts.
        matches: least number of clips that match, in order; or all, of a video with fewer.
        percentile: leave out pairs that are less alike than this percentage of random pairs of the index.
        progress: show a progress bar.

    Returns:
        The best stretch of each pair of videos, the most similar first.

    Raises:
        ValueError: a number is out of range.
    """
    for name, number in (("threshold", threshold), ("ratio", ratio)):
        if not 0 < number <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {number}")
    check_percentile(percentile)
    if matches < 1:
        raise ValueError(f"matches must be >= 1, got {matches}")
    rows, values = _links(index, threshold, ratio, progress)
    video, middle = index.video, (np.asarray(index.start) + np.asarray(index.end)) / 2
    pair = video[rows[:, 0]].astype(np.int64) * len(index.videos) + video[rows[:, 1]]
    order = np.argsort(pair, kind="stable")
    found = []
    for links in np.split(order, np.flatnonzero(np.diff(pair[order])) + 1):
        if not len(links):
            continue
        one, two = (int(video[row]) for row in rows[links[0]])
        kept, speed = aligned(
            middle[rows[links, 0]], middle[rows[links, 1]], values[links], tolerance=_tolerance(index, one, two)
        )
        if len(kept) >= min(matches, *(index.videos[number].rows for number in (one, two))):
            first, second = (_stretch(index, rows[links[kept], side]) for side in (0, 1))
            similarity = float(values[links[kept]].mean())
            pair_percentile = float(index.percentiles(similarity))
            if pair_percentile >= percentile:
                found.append(Duplicate(first, second, similarity, len(kept), speed, pair_percentile))
    return sorted(found, key=lambda pair: (-pair.similarity, pair.first.name, pair.second.name))


def aligned(first: np.ndarray, second: np.ndarray, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, float]:
    """Chooses the links between two videos that agree on a shift and a speed.

    Args:
        first, second: times of the linked clips in each video, [L] seconds.
        values: similarities, [L].
        tolerance: seconds by which a link may be off.

    Returns:
        Which links agree, no two with the same clip of either video, in order of time; and the speed.
    """
    best: tuple[float, np.ndarray, float] = (0.0, np.empty(0, np.int64), 1.0)
    for speed in SPEEDS:
        shift = second - speed * first
        order = np.argsort(shift, kind="stable")
        ends = np.searchsorted(shift[order], shift[order] + 2 * tolerance + 1e-9, side="right")
        sums = np.concatenate([[0.0], np.cumsum(values[order])])
        begin = int(np.argmax(sums[ends] - sums[:-1]))
        chosen = order[begin : ends[begin]]
        for times in (first, second):  # the most similar link of each clip
            chosen = chosen[np.argsort(-values[chosen], kind="stable")]
            chosen = chosen[np.unique(times[chosen], return_index=True)[1]]
        if values[chosen].sum() > best[0] + 1e-9:
            best = float(values[chosen].sum()), chosen, speed
    return best[1][np.argsort(first[best[1]], kind="stable")], best[2]


def _links(index: Index, threshold: float, ratio: float, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of rows of different videos that are alike, int64 [L, 2], the lower first, and their similarities [L]."""
    background = np.full(len(index), -np.inf)
    rows, others, values = [], [], []
    with Progress(len(index), "clip", show=progress) as bar:
        for begin, best, row, other, similarity in (_exact if index.faiss is None else _approximate)(index, threshold):
            if best.shape[1] >= BACKGROUND:
                background[begin : begin + len(best)] = -np.partition(-best, BACKGROUND - 1, axis=1)[:, BACKGROUND - 1]
            rows.append(row + begin)
            others.append(other)
            values.append(similarity)
            bar.update(len(best))
    links = np.sort(np.stack([np.concatenate(rows), np.concatenate(others)], 1).astype(np.int64), axis=1)
    links, which = np.unique(links, axis=0, return_index=True)
    found = np.concatenate(values)[which]
    # rounding must not make equal rows of many videos nearer to one another than to the tenth
    alike = ((1 - found).clip(_EQUAL) <= ratio * (1 - background[links].mean(1))) | (ratio == 1)
    return links[alike], found[alike]


_Block = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""First row of a block of Q rows; similarities to the most similar row of other videos, [Q, any], -inf where there is none; and
the links of the block: rows counted from the first, rows of other videos, similarities, each [L]."""


def _exact(index: Index, threshold: float) -> Iterator[_Block]:
    _, firsts, video = np.unique(index.video, return_index=True, return_inverse=True)  # videos that have rows
    ends = np.append(firsts[1:], len(index))
    rows = np.asarray(index.rows)
    size = max(min(_VALUES // len(index), 512), 1)
    for begin in range(0, len(index), size):
        dots = rows[begin : begin + size] @ rows.T  # [Q, N]
        best = np.maximum.reduceat(dots, firsts, axis=1)  # [Q, V]
        best[np.arange(len(best)), video[begin : begin + size]] = -np.inf
        row, other = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for query, number in np.argwhere(best >= threshold).tolist():
            dots_of_video = dots[query, firsts[number] : ends[number]]
            floor = max(threshold, 1 - _TIE * (1 - dots_of_video.max()) - 1e-6)
            found = np.flatnonzero(dots_of_video >= floor)[:_TIES] + firsts[number]
            row.append(np.full(len(found), query))
            other.append(found)
        which, to = np.concatenate(row), np.concatenate(other)
        yield begin, best, which, to, dots[which, to]


def _approximate(index: Index, threshold: float) -> Iterator[_Block]:
    video = index.video
    for begin in range(0, len(index), 1 << 10):
        part = slice(begin, begin + (1 << 10))
        dots, rows = index.nearest_rows(index.rows[part], _FOUND)
        numbers = np.where(rows >= 0, video[rows], -1)
        dots = np.where((numbers == video[part, None]) | (numbers < 0), -np.inf, dots)
        row, column = np.nonzero(dots >= threshold)
        links = row, rows[row, column], dots[row, column]
        order = np.lexsort((-dots, numbers), axis=1)
        best, numbers = np.take_along_axis(dots, order, 1), np.take_along_axis(numbers, order, 1)
        best[:, 1:][numbers[:, 1:] == numbers[:, :-1]] = -np.inf  # only the best of each video
        yield begin, best, *links


def _tolerance(index: Index, one: int, two: int) -> float:
    """Returns the seconds by which matching clips may be off: nearly half the time from one clip to the next.

    Clips do not start at the same moments of what was copied, but a still picture should match along one diagonal only.
    """
    gaps = [0.2]
    for number in (one, two):
        first, last = np.searchsorted(index.video, [number, number + 1])
        if last - first > 1:
            gaps.append(float(np.median(np.diff(index.start[first:last]))))
    return 0.48 * max(gaps)


def _stretch(index: Index, rows: np.ndarray) -> Hit:
    hit = index.hit(int(rows[0]))
    return dataclasses.replace(hit, start=float(index.start[rows].min()), end=float(index.end[rows].max()))
