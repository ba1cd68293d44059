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
    """Names with enough of all votes, and their shares. Empty if no name has enough."""
    known: list[str]
    """All names that rows of the bank have."""
    rows: int
    """Number of rows of the bank: the videos and photographs that the encoder learned from."""
    nearest: float
    """Cosine similarity of a clip and the bank's row nearest to it, averaged over 5 clips."""
    agreement: float
    """The largest share of the votes that a name has, also if that is not enough."""
    least: float
    """The share that a name needs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What `look_at` found."""

    moments: Moments
    change: np.ndarray
    """How much the video changes around each moment, from 0 to 1, float32 [M]: see `change_of`."""
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
        change=change_of(similarity, moments.times),
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
    if found.nearest is None or found.confidence is None:
        raise ValueError(f"the video {found.reason}")
    return Votes(
        names=found.names,
        known=predictor.known,
        rows=len(predictor.rows),
        nearest=found.nearest,
        agreement=found.confidence,
        least=predictor.threshold,
    )


def change_of(similarity: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns how much a video changes around each moment: [M, M] and times [M] -> float32 [M], at most 1.

    It is the novelty of `vie segment`, over its greatest value. In a video without boundaries, that stays small.
    """
    from ..search.segments import KERNEL, THRESHOLD, novelty_of

    step = float(times[1] - times[0]) if len(times) > 1 else KERNEL
    novelty = novelty_of(similarity, max(round(KERNEL / step), 1)).clip(0)
    return novelty / max(float(novelty.max()), THRESHOLD)


def standing_out(similarity: np.ndarray, times: np.ndarray, count: int = STANDING_OUT) -> list[int]:
    """Returns up to `count` moments with the least mean similarity to all, at least `APART` seconds apart, by time."""
    found: list[int] = []
    for moment in np.argsort(similarity.mean(1), kind="stable"):
        if not found or np.abs(times[found] - times[moment]).min() >= APART:
            found.append(int(moment))
        if len(found) == count:
            break
    return sorted(found)
