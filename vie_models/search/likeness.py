"""What a cosine means: the share of random pairs of moments that are less alike.

N rows, D dimensions.
"""

from __future__ import annotations

import math

import numpy as np

PAIRS = 20_000
"""Random pairs that are drawn."""
LEAST = 99.0
"""Percentile below which the commands cut their lists: of N unrelated clips, N / 100 are above it by chance."""
QUANTILES = 1001
"""Cosines that are kept of them: every tenth of a percent."""


def random_cosines(
    rows: np.ndarray, groups: np.ndarray | None = None, *, pairs: int = PAIRS, quantiles: int = QUANTILES, seed: int = 0
) -> np.ndarray:
    """Returns the quantiles of the cosine of random pairs of rows: float32 [quantiles], rising, from the least to the largest.

    Args:
        rows: vectors, [N, D]; their length does not matter.
        groups: number of each row's video, [N]. Pairs of one video are left out, unless there is only one.
        pairs: how many pairs are drawn.
        quantiles: how many quantiles are returned.
        seed: of the draw.

    Raises:
        ValueError: there are fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError(f"random pairs need at least 2 rows, got {len(rows)}")
    draws = np.random.default_rng(seed)
    first = draws.integers(0, len(rows), pairs)
    second = (first + draws.integers(1, len(rows), pairs)) % len(rows)  # never the same row
    if groups is not None and (apart := groups[first] != groups[second]).any():
        first, second = first[apart], second[apart]
    cosines = np.concatenate([_cosines(rows, first[k : k + 4096], second[k : k + 4096]) for k in range(0, len(first), 4096)])
    return np.quantile(cosines, np.linspace(0, 1, quantiles)).astype(np.float32)


def percentile_of(cosine: np.ndarray | float, random: np.ndarray) -> np.ndarray:
    """Returns the percentage of random pairs that are less alike, 0 to 100.

    Args:
        cosine: cosines, of any shape.
        random: what `random_cosines` returned.
    """
    return np.asarray(np.interp(cosine, random, np.linspace(0, 100, len(random))))


def check_percentile(percentile: float) -> None:
    """Raises ValueError unless a percentile is from 0 to 100."""
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must be from 0 to 100, got {percentile}")


def percentile_in_words(percentile: float) -> str:
    """Returns a percentile with a decimal, rounded down, at most 99.9: random pairs that were drawn are not all there are."""
    return f"{math.floor(10 * min(percentile, 99.9) + 1e-9) / 10:.1f}"


def _cosines(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    a, b = np.asarray(rows[first], np.float64), np.asarray(rows[second], np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).clip(1e-30)
