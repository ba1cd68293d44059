"""Where a video changes: similarity of all its moments, and boundaries by the novelty of Foote.

Source: J. Foote, "Automatic audio segmentation using a measure of audio novelty", ICME 2000: a checkerboard with Gaussian edges
slides along the diagonal of the self-similarity matrix; its peaks are boundaries.

M moments, D dimensions, R moments on each side of the checkerboard's middle.
"""

from __future__ import annotations

import dataclasses
import itertools
import os

import numpy as np

from ..encoders import VideoEncoder
from ..features import Extractor
from ..models import pathway_slices
from ..video import path_or_url

THRESHOLD = 0.1
"""Novelty from which a peak is a boundary, in units of cosine similarity."""
KERNEL = 4.0
"""Seconds on each side of a boundary that novelty compares."""


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The result of `segment`."""

    path: str
    """Path or address of the video."""
    duration: float
    """Its length in seconds."""
    times: np.ndarray
    """Middle of each moment in seconds, float64 [M]."""
    similarity: np.ndarray
    """Cosine similarity of all moments, float32 [M, M]."""
    pathways: dict[str, np.ndarray]
    """The same for "static" and "dynamic" alone, each [M, M]; empty for models with one pathway."""
    novelty: np.ndarray
    """How much more alike moments are on each side of a time than across it, float32 [M]: the time is half a stride before the
    moment's middle. At most 2."""
    boundaries: np.ndarray
    """Times of the peaks of novelty, in seconds, float64 [B], increasing."""
    strengths: np.ndarray
    """Novelty of the boundaries, [B]."""
    threshold: float
    """Least novelty of a boundary that was asked for."""
    embeddings: np.ndarray
    """Unit embedding of each moment, float32 [M, D]."""

    @property
    def segments(self) -> list[tuple[float, float]]:
        """(start, end) of each segment, in seconds: from the start of the video over the boundaries to its end."""
        edges = [0.0, *self.boundaries.tolist(), self.duration]
        return list(itertools.pairwise(edges))


def segment(
    video: str | os.PathLike[str],
    model: VideoEncoder,
    *,
    window: float | None = None,
    stride: float = 0.5,
    kernel: float = KERNEL,
    threshold: float = THRESHOLD,
) -> Segmentation:
    """Finds where a video changes.

    Args:
        video: path or http(s) address.
        model: the encoder.
        window: length of a moment in seconds (default: the model's clip).
        stride: seconds from one moment to the next.
        kernel: seconds on each side of a boundary that are compared. Of boundaries that are closer, the stronger one counts.
        threshold: least novelty of a boundary: how much more alike (in cosine similarity) moments must be on each side than
            across.

    Raises:
        FileNotFoundError: the video does not exist.
        VideoError: no frame can be decoded.
        ValueError: a number is out of range.
    """
    if not kernel >= stride:
        raise ValueError(f"kernel must be at least the stride, {stride} s, got {kernel} s")
    if not threshold > 0:
        raise ValueError(f"threshold must be > 0, got {threshold}")
    extractor = Extractor(model, window=window, stride=stride, workers=0)
    arrays, record = extractor.features(path_or_url(video))
    rows = arrays["embedding"].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-30)
    similarity = _cosines(rows)
    pathways = {}
    for name, part in pathway_slices(model.model_name, rows.shape[1]).items():
        units = rows[:, part] / np.linalg.norm(rows[:, part], axis=1, keepdims=True).clip(1e-30)
        pathways[name] = _cosines(units)
    times = (arrays["start"] + arrays["end"]) / 2
    radius = max(round(kernel / stride), 1)
    novelty = novelty_of(similarity, radius)
    peaks = peaks_of(novelty, radius, threshold)
    return Segmentation(
        path=str(video),
        duration=float(record.duration or 0),
        times=times,
        similarity=similarity,
        pathways=pathways,
        novelty=novelty,
        boundaries=(times[peaks] + times[peaks - 1]) / 2,
        strengths=novelty[peaks],
        threshold=threshold,
        embeddings=rows.astype(np.float32),
    )


def _cosines(rows: np.ndarray) -> np.ndarray:
    """Returns the dot products of all rows, float64 [M, D] -> float32 [M, M]; in parts, for videos of hours."""
    found = np.empty((len(rows), len(rows)), np.float32)
    for start in range(0, len(rows), 1024):
        found[start : start + 1024] = rows[start : start + 1024] @ rows.T
    return found


def novelty_of(similarity: np.ndarray, radius: int) -> np.ndarray:
    """Returns the novelty between moments m - 1 and m, float32 [M], for a similarity [M, M] and R = `radius`.

    It is the mean similarity within the two sides minus the mean across them, weighted by a Gaussian of R / 2 around the
    corner. At the ends of the video, the sides are as long as there are moments. Entry 0 is 0.

              past  future
        past   +      -         M = 4, between 1 and 2: (s01 + s23 + the diagonal) against (s02 + s03 + s12 + s13)
        future -      +
    """
    moments = len(similarity)
    novelty = np.zeros(moments, np.float32)
    for m in range(2, moments - 1):
        past, future = np.arange(max(m - radius, 0), m), np.arange(m, min(m + radius, moments))
        taper = [np.exp(-(((side - (m - 0.5)) / max(radius / 2, 0.5)) ** 2) / 2) for side in (past, future)]
        past_weight, future_weight = (weight / weight.sum() for weight in taper)
        within = past_weight @ similarity[np.ix_(past, past)] @ past_weight
        within += future_weight @ similarity[np.ix_(future, future)] @ future_weight
        novelty[m] = within / 2 - past_weight @ similarity[np.ix_(past, future)] @ future_weight
    return novelty


def peaks_of(novelty: np.ndarray, radius: int, threshold: float) -> np.ndarray:
    """Returns the places of peaks of at least `threshold`, increasing; of those less than R apart, the highest."""
    kept: list[int] = []
    for place in np.argsort(-novelty, kind="stable").tolist():
        if novelty[place] < threshold or place == 0:
            break
        near = novelty[max(place - 1, 0) : place + 2]
        if novelty[place] == near.max() and all(abs(place - other) >= radius for other in kept):
            kept.append(place)
    return np.array(sorted(kept), np.int64)
