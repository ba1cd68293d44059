"""What an encoder sees in a video: how alike its moments are, which stand out, and names for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from .moments import APART, Moments, Tell, silent

STANDING_OUT, STRIP = 6, 10
"""Numbers of moments that stand out, and of pictures in the strip of the whole video."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Votes:
    """Names for a video from the memory bank, as `vie predict` gives them."""

    names: list[tuple[str, float]]
    """Up to five names with their fractions of all votes, most votes first. Empty if the nearest rows have no names."""
    known: list[str]
    """All names that rows of the bank have."""
    rows: int
    """Number of rows of the bank: the videos and photographs that the encoder learned from."""
    nearest: float
    """Cosine similarity of a clip and the bank's row nearest to it, averaged over 5 clips."""
    usual: float
    """Similarity that 95 % of the rows reach with their nearest other row. A video with less is unlike anything in the bank."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What `look_at` found."""

    moments: Moments
    change: np.ndarray
    """How much the video changes around each moment, from 0 to 1, float32 [M]: 1 is the greatest change of this video."""
    standing_out: list[int]
    """Numbers of the moments that are least like the rest, by time."""
    votes: Votes
    layers: list[str]
    """Names of the encoder's layers."""
    strip: list[np.ndarray]
    """Pictures of the whole video, uint8 [H, W, 3], evenly spaced."""

    @classmethod
    def from_plain(cls, fields: dict[str, Any]) -> Look:
        """Returns what `dataclasses.asdict` made `fields` of."""
        inner = {"moments": Moments(**fields["moments"]), "votes": Votes(**fields["votes"])}
        return cls(**{**fields, **inner})


def look_at(source: str | Path, name: str, progress: Tell = silent) -> Look:
    """Looks at a video with an encoder.

    Args:
        source: the video.
        name: an encoder of `encoders.names()`.
        progress: is told how much is done.

    Raises:
        VideoError: no frame can be decoded.
    """
    from .encoders import encoder
    from .previews import frames_at
    from .reading import read

    moments = read(source, name, tell=lambda share, what: progress(0.1 + 0.7 * share, what))
    progress(0.8, "Asking the memory bank")
    votes = names_for(source, name)
    progress(0.9, "Taking pictures")
    strip = frames_at(source, (np.arange(STRIP) + 0.5) * moments.duration / STRIP)
    similarity = np.mean([moments.similarity(pathway) for pathway in moments.embeddings], axis=0)
    return Look(
        moments=moments,
        change=change_of(similarity),
        standing_out=standing_out(similarity, moments.times),
        votes=votes,
        layers=encoder(name).layer_names,
        strip=strip,
    )


def names_for(source: str | Path, name: str) -> Votes:
    """Asks the memory bank that comes with an encoder for names of a video."""
    from .encoders import predictor as load

    predictor = load(name)
    (found,) = predictor.predict([source])
    if found.nearest is None:
        raise ValueError(f"the video {found.reason}")
    return Votes(
        names=found.names, known=predictor.known, rows=len(predictor.rows), nearest=found.nearest, usual=predictor.nearest
    )


def change_of(similarity: np.ndarray, reach: int = 4) -> np.ndarray:
    """Returns how much a video changes around each moment: [M, M] -> float32 [M], at most 1.

    The mean similarity among the `reach` moments before and among those after, less the mean similarity between the two
    (Foote, ICME 2000). Fewer at the ends.
    """
    count = len(similarity)
    change = np.zeros(count, np.float32)
    for m in range(1, count):
        before, after = slice(max(m - reach, 0), m), slice(m, min(m + reach, count))
        within = (similarity[before, before].mean() + similarity[after, after].mean()) / 2
        change[m] = max(within - similarity[before, after].mean(), 0)
    return change / max(float(change.max()), 1e-6)


def standing_out(similarity: np.ndarray, times: np.ndarray, count: int = STANDING_OUT) -> list[int]:
    """Returns up to `count` moments with the least mean similarity to all, at least `APART` seconds apart, by time."""
    found: list[int] = []
    for moment in np.argsort(similarity.mean(1), kind="stable"):
        if not found or np.abs(times[found] - times[moment]).min() >= APART:
            found.append(int(moment))
        if len(found) == count:
            break
    return sorted(found)
