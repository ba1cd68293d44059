"""Search by a moment, for the page: the index of a folder of features, and the moments that it finds, with previews."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from ..search import Example, Index, Pathway, build_index, encoder_of, find, open_index
from ..weights import WeightsError
from .moments import Tell, silent
from .previews import write_preview

PATHWAYS: dict[str, Pathway | None] = {"both": None, "appearance": "static", "motion": "dynamic"}
"""What a search goes by, and the search room's name for it."""
SHORTEST = 2.0
"""Seconds of a preview at least."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A moment that a search found."""

    name: str
    """Name of the video in the folder of features."""
    start: float
    end: float
    """Where the moment starts and ends, in seconds."""
    similarity: float
    preview: str | None
    """Path of a short video of the moment, or None."""
    reason: str | None
    """Why there is no preview, or None."""


@functools.lru_cache(maxsize=2)
def opened(features: str) -> Index:
    """Opens the index of a folder of features, and builds it if there is none."""
    try:
        return open_index(features)
    except FileNotFoundError:
        return build_index(features)


def about(features: str) -> tuple[int, int, str, list[str]]:
    """Describes an index: how many moments and videos it has, which model (or layer) it is of, and what a search can go by.

    Raises:
        ValueError: the encoder that made the features is not one of the published ones.
    """
    index = opened(features)
    try:
        encoder_of(index)  # now, and not at the first search
    except (ValueError, WeightsError) as error:
        reason = str(error).splitlines()[0].split(": pass")[0].removesuffix(". You can")
        raise ValueError(f"the page searches in features of published weights only: {reason}") from error
    by = list(PATHWAYS) if index.pathways else ["both"]
    encoder = str(index.settings["model"])
    return len(index), len(index.videos), encoder if index.array == "embedding" else f"the layer {index.array} of {encoder}", by


def search(
    features: str,
    source: str | Path,
    start: float,
    length: float,
    by: str,
    count: int,
    folder: str,
    progress: Tell = silent,
    *,
    known_as: str | Path | None = None,
    videos: bool = False,
) -> list[Found]:
    """Finds the moments most like a moment of a video.

    Args:
        features: folder of features, or of its index.
        source: the video.
        start, length: where the moment starts and how long it is, in seconds.
        by: one of `PATHWAYS`.
        count: how many moments to find.
        folder: folder for the previews.
        progress: is told how much is done.
        known_as: the upload, if the video is a copy of its beginning.
        videos: only the best moment of each video, and none of the video itself.

    Raises:
        VideoError: the video cannot be read.
        ValueError: there is no such choice, or the weights are others than those of the features.
    """
    if by not in PATHWAYS:
        raise ValueError(f"a search goes by {', '.join(PATHWAYS)}, got {by!r}")
    progress(0.0, "Embedding the moment")
    example = Example(source, at=start + length / 2, window=length, known_as=known_as)
    hits = find(opened(features), example, count, pathway=PATHWAYS[by], videos=videos)
    found = []
    for number, hit in enumerate(hits):
        progress(0.3 + 0.7 * number / len(hits), "Cutting the moments out")
        preview = reason = None
        try:
            preview = write_preview(hit.path, hit.start, folder, max(hit.end - hit.start, SHORTEST))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "cannot be read"
        found.append(
            Found(name=hit.name, start=hit.start, end=hit.end, similarity=hit.similarity, preview=preview, reason=reason)
        )
    return found
