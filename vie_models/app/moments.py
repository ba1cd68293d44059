"""The moments of a video: one embedding for each of some times. Plain data, without torch: the server handles it too.

M moments, D numbers of an embedding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

MOST, STRIDE = 100, 0.5
"""At most so many moments of a video, and at least so many seconds from one to the next."""
APART = 2.0
"""Seconds between moments that count as different."""
Tell = Callable[[float, str], None]
"""Is told how much of a job is done, from 0 to 1, and what is being done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Embeddings of a video over time, as plain data."""

    model: str
    """Name of the encoder."""
    duration: float
    """Length of the video in seconds."""
    window: float
    """Length of what the encoder sees of a moment, in seconds."""
    times: np.ndarray
    """Middle of each moment in seconds, float64 [M], rising."""
    embeddings: dict[str, np.ndarray]
    """For each pathway of the encoder, unit vectors, float32 [M, D]."""
    facts: dict[str, Any]
    """What the file says about itself: see `Video.metadata`."""
    damage: str | None = None
    """Why the end of the video could not be read, or None."""

    def similarity(self, pathway: str) -> np.ndarray:
        """Cosine similarity of every two moments, float32 [M, M]."""
        rows = self.embeddings[pathway]
        return rows @ rows.T

    def nearest_to(self, second: float) -> int:
        """Returns the number of the moment nearest to a time."""
        return int(np.abs(self.times - second).argmin())

    def start(self, moment: int) -> float:
        """Returns where a moment starts, in seconds."""
        return max(float(self.times[moment]) - self.window / 2, 0.0)

    def alike(self, moment: int, pathway: str, count: int) -> list[tuple[int, float]]:
        """Returns up to `count` other moments, most similar first, that are `APART` from it and from one another."""
        found: list[tuple[int, float]] = []
        values = self.similarity(pathway)[moment]
        for other in np.argsort(-values, kind="stable"):
            taken = [moment, *(number for number, _ in found)]
            if np.abs(self.times[taken] - self.times[other]).min() >= APART:
                found.append((int(other), float(values[other])))
            if len(found) == count:
                break
        return found


def silent(share: float, what: str) -> None:
    """Tells nobody."""


def middles(duration: float, window: float, most: int = MOST) -> np.ndarray:
    """Returns the times of the moments of a video in seconds: [M], from half a window to half a window before the end.

    A video that is shorter than a window has one, in its middle.
    """
    room = duration - window
    if room <= 0:
        return np.array([duration / 2])
    count = int(np.clip(room / STRIDE, 0, most - 1)) + 1
    step = max(STRIDE, room / max(most - 1, 1))
    return window / 2 + step * np.arange(count)
