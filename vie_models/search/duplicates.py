"""Near-duplicate clips of different videos, with their times.

Rows that are alike link two videos. The links of a pair must agree on how the times of one become those of the other: a shift,
at nearly the same speed. That keeps apart copies from videos that look alike now and then.

N rows, D dimensions.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch

from ..progress import Progress
from .index import Hit, Index

THRESHOLD = 0.95
"""Cosine similarity from which clips are alike, chosen on planted copies: see `python -m reproduce.duplicates`."""
SPEEDS = (1.0, 0.9, 1 / 0.9, 0.95, 1 / 0.95, 0.85, 1 / 0.85)
"""Speeds of one video relative to the other that are tried; in a tie, the first counts."""
_NEIGHBOURS = 32  # of a row, in other videos
_COMMON = 10  # a row that is like rows of more other videos than this (black, a logo) links none
_BLOCK = 1 << 10


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


def find_duplicates(
    index: Index, threshold: float = THRESHOLD, *, matches: int = 2, most_common: int = _COMMON, progress: bool = False
) -> list[Duplicate]:
    """Finds stretches of different videos that are near-duplicates.

    Args:
        index: the index. Every row is compared with all others in an exact one, so time grows with the square of their number.
        threshold: least cosine similarity of clips that match, in (0, 1].
        matches: least number of clips that match, in order; or all, of a video with fewer.
        most_common: a clip that is like clips of more videos than this counts for nothing.
        progress: show a progress bar.

    Returns:
        The best stretch of each pair of videos, the most similar first.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], a cosine similarity, got {threshold}")
    for name, value in (("matches", matches), ("most_common", most_common)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}")
    video, start, end = index.table.video, np.asarray(index.table.start), np.asarray(index.table.end)
    middle = (start + end) / 2
    pairs: dict[tuple[int, int], dict[tuple[int, int], float]] = defaultdict(dict)
    for row, others, similarities in _alike(index, threshold, progress):
        if len(np.unique(video[others])) > most_common:
            continue
        for other, similarity in zip(others.tolist(), similarities.tolist(), strict=True):
            a, b = (row, other) if row < other else (other, row)
            pairs[int(video[a]), int(video[b])][a, b] = similarity
    lengths = np.array([one.rows for one in index.table.videos])
    found = []
    for (one, two), links in pairs.items():
        rows = np.array(list(links))
        values = np.array(list(links.values()))
        kept, speed = aligned(middle[rows[:, 0]], middle[rows[:, 1]], values, tolerance=_tolerance(index, one, two))
        if len(kept) >= min(matches, lengths[one], lengths[two]):
            first, second = (_stretch(index, np.unique(rows[kept, side])) for side in (0, 1))
            found.append(Duplicate(first, second, float(values[kept].mean()), len(kept), speed))
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
        for middle in np.unique(shift.round(3)):
            near = np.flatnonzero(abs(shift - middle) <= tolerance)
            near = near[np.argsort(-values[near], kind="stable")]
            near = near[np.sort(np.unique(first[near], return_index=True)[1])]
            near = near[np.sort(np.unique(second[near], return_index=True)[1])]
            if values[near].sum() > best[0] + 1e-9:
                best = float(values[near].sum()), near, speed
    return best[1][np.argsort(first[best[1]], kind="stable")], best[2]


def _alike(index: Index, threshold: float, progress: bool) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields (row, rows of other videos that are like it, their similarities)."""
    video = index.table.video
    firsts, lasts = np.searchsorted(video, video), np.searchsorted(video, video, side="right")
    with Progress(len(index), "clip", show=progress) as bar:
        for begin in range(0, len(index), _BLOCK):
            end = min(begin + _BLOCK, len(index))
            if index.near is None:
                rows, dots = _exact(index, begin, firsts[begin:end], lasts[begin:end])
            else:
                own = int((lasts - firsts)[begin:end].max())
                dots, rows = index.nearest_rows(index.rows[begin:end], min(own, 4 * _NEIGHBOURS) + _NEIGHBOURS)
            for i in range(end - begin):
                good = (dots[i] >= threshold) & (rows[i] >= 0)
                good &= (rows[i] < firsts[begin + i]) | (rows[i] >= lasts[begin + i])
                if good.any():
                    yield begin + i, rows[i][good], dots[i][good]
            bar.update(end - begin)


def _exact(index: Index, begin: int, firsts: np.ndarray, lasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of other videos nearest to a block of rows, and their dots, each [rows of the block, k]."""
    rows = torch.from_numpy(index.rows)
    queries = rows[begin : begin + len(firsts)]
    dots, found = torch.zeros(len(queries), 0), torch.zeros(len(queries), 0, dtype=torch.int64)
    size = 1 << 14
    for start in range(0, len(rows), size):
        block = queries @ rows[start : start + size].T
        for i, (first, last) in enumerate(zip(firsts.tolist(), lasts.tolist(), strict=True)):
            if first < start + size and last > start:
                block[i, max(first - start, 0) : last - start] = -torch.inf
        best = block.topk(min(_NEIGHBOURS, block.shape[1]), dim=1)
        dots, found = torch.cat([dots, best.values], 1), torch.cat([found, best.indices + start], 1)
        best = dots.topk(min(_NEIGHBOURS, dots.shape[1]), dim=1)
        dots, found = best.values, found.gather(1, best.indices)
    return found.numpy(), dots.numpy()


def _tolerance(index: Index, one: int, two: int) -> float:
    """Returns the seconds by which matching clips may be off: clips do not start at the same moments of what was copied."""
    gaps = []
    for number in (one, two):
        rows = np.flatnonzero(index.table.video == number)
        gaps.append(float(np.diff(index.table.start[rows]).max()) if len(rows) > 1 else 0.0)
    return max(0.6 * max(gaps), 0.25)


def _stretch(index: Index, rows: np.ndarray) -> Hit:
    hit = index.hit(int(rows[0]))
    return dataclasses.replace(hit, start=float(index.table.start[rows].min()), end=float(index.table.end[rows].max()))
