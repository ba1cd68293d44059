"""Compares two encoders on one video, or two videos with one encoder: similarity matrices, and how well they agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .moments import MOST, Moments, Tell, middles, silent

FEWEST = 10
"""Pairs of moments that an agreement needs at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two times the moments of a video."""

    first: Moments
    second: Moments
    agreement: dict[str, dict[str, float]]
    """For each pathway of the first and each of the second, `agreement_of` their matrices; nan if the videos are too short."""
    cross: dict[str, np.ndarray]
    """For each pathway, similarity of the first video's moments [M] and the second's [N], if one encoder saw both."""

    @classmethod
    def from_plain(cls, fields: dict[str, Any]) -> Comparison:
        """Returns what `dataclasses.asdict` made `fields` of."""
        return cls(**{**fields, "first": Moments(**fields["first"]), "second": Moments(**fields["second"])})


def compare_encoders(source: str | Path, names: tuple[str, str], progress: Tell = silent) -> Comparison:
    """Compares two encoders at the same times of one video.

    Raises:
        VideoError: no frame can be decoded.
    """
    from .reading import duration_of, read, window_of

    window = max(map(window_of, names))
    times = middles(duration_of(source), window)
    both = [
        read(source, name, times, lambda share, what, k=k: progress((k + share) / 2, what))  # type: ignore[misc]
        for k, name in enumerate(names)
    ]
    return _compared(both, cross=names[0] == names[1])


def compare_videos(sources: tuple[str | Path, str | Path], name: str, progress: Tell = silent) -> Comparison:
    """Compares two videos with one encoder. Both have the same number of moments, from the beginning to the end of each.

    Raises:
        VideoError: no frame can be decoded.
    """
    from .reading import duration_of, read, window_of

    window = window_of(name)
    chosen = [middles(duration_of(source), window) for source in sources]
    count = min(MOST, *map(len, chosen))
    both = [
        read(
            source,
            name,
            np.linspace(times[0], times[-1], count) if count > 1 else times[len(times) // 2 :][:1],
            lambda share, what, k=k: progress((k + share) / 2, what),  # type: ignore[misc]
        )
        for k, (source, times) in enumerate(zip(sources, chosen, strict=True))
    ]
    return _compared(both, cross=True)


def _compared(both: Sequence[Moments], cross: bool) -> Comparison:
    first, second = both
    window = max(first.window, second.window)

    def agreement(a: str, b: str) -> float:
        return agreement_of(first.similarity(a), second.similarity(b), first.times, second.times, window)

    return Comparison(
        first=first,
        second=second,
        agreement={a: {b: agreement(a, b) for b in second.embeddings} for a in first.embeddings},
        cross={key: first.embeddings[key] @ second.embeddings[key].T for key in first.embeddings} if cross else {},
    )


def agreement_of(first: np.ndarray, second: np.ndarray, times: np.ndarray, other_times: np.ndarray, window: float) -> float:
    """Returns how well two similarity matrices [M, M] agree: Spearman's rank correlation of their entries above the diagonal.

    This is representational similarity analysis (Kriegeskorte et al., 2008). Pairs of moments that share frames, closer than
    `window` seconds, do not count, because any encoder finds them similar. nan if fewer than `FEWEST` pairs are left.
    """
    apart = np.minimum(np.abs(times[:, None] - times), np.abs(other_times[:, None] - other_times)) >= window
    pairs = np.triu(apart, 1)
    if pairs.sum() < FEWEST:
        return float("nan")
    return spearman(first[pairs], second[pairs])


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two arrays [N]; equal values share their mean rank. nan if one is constant."""
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 0 else float("nan")


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each value, from 1, float64 [N]; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
