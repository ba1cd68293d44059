"""Colors for numbers."""

from __future__ import annotations

import numpy as np

_VIRIDIS = [  # van der Walt and Smith, CC0; every eighth of it
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99), (170, 220, 50),
    (253, 231, 37),
]  # fmt: skip
_WARM = [(120, 20, 60), (220, 60, 40), (250, 150, 30), (255, 235, 110)]


def viridis(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns colors for numbers, [...] -> uint8 [..., 3]: dark violet for `low` and less, yellow for `high` and more."""
    return _between(_VIRIDIS, (np.asarray(values, np.float32) - low) / max(high - low, 1e-9)).round().astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """Returns warm colors for numbers from 0 to 1, [...] -> float32 [..., 3]: dark red to light yellow."""
    return _between(_WARM, values)


def _between(anchors: list[tuple[int, int, int]], values: np.ndarray) -> np.ndarray:
    place = np.clip(values, 0, 1) * (len(anchors) - 1)
    return np.stack([np.interp(place, np.arange(len(anchors)), band) for band in zip(*anchors, strict=True)], -1)
