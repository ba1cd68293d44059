"""Predicts the classes of videos by kNN in the memory bank that comes with the weights.

N rows, D dimensions.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bank.voting import knn_of_rows
from ..datasets.lists import CLASSES
from ..encoders import VideoEncoder
from ..features.extractor import Extractor
from ..video.sources import path_or_url
from ..weights import list_weights
from ..weights.cache import fetch, load_record
from ..weights.catalog import CARD, find_record
from .protocols import encoder, memory_bank

CLIPS, NEIGHBORS, TEMPERATURE = 5, 10, 0.07
"""With these the least agreement of a weight set is measured."""
UNMEASURED = 0.9
"""Least agreement for a bank whose own has not been measured, and for other neighbors or another temperature."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """An encoder and its memory bank with named rows."""

    model: VideoEncoder
    rows: Tensor
    """Unit embeddings of the training videos, float32 [N, D]."""
    labels: Tensor
    """Their labels, int64 [N]; -1 for a row without a name."""
    names: list[str]
    """Name of each label that occurs, or its number where it has no name."""
    measured: dict[str, Any] | None = None
    """What `python -m reproduce.names` found for this bank, as its card says: `agreement`, the least with which names are right
    often enough, and how often they are. None: not measured."""

    @functools.cached_property
    def known(self) -> list[str]:
        """The names that some row has."""
        return [self.names[i] for i in self.labels[self.labels >= 0].unique().tolist()]

    def least(self, neighbors: int = NEIGHBORS, temperature: float = TEMPERATURE) -> float:
        """The agreement from which on a name is given."""
        if self.measured is None or (neighbors, temperature) != (NEIGHBORS, TEMPERATURE):
            return UNMEASURED
        return float(self.measured["agreement"])

    def shares(self, values: Tensor, neighbors: int = NEIGHBORS, temperature: float = TEMPERATURE) -> tuple[Tensor, Tensor]:
        """Asks the bank.

        Args:
            values: embeddings of the videos' clips, [V, C, D].
            neighbors: number of bank rows that vote for each clip. Each votes with weight exp(dot / temperature).
            temperature: temperature of the votes.

        Returns:
            Each name's share of all votes, float64 [V, K], which rows without a name have too; and the cosine similarity of a
            clip and the row nearest to it, averaged over the clips, [V].
        """
        number = len(self.names)
        nameless = torch.where(self.labels < 0, number, self.labels)
        found = knn_of_rows(values, self.rows, nameless, neighbors, temperature, number + 1)
        return (found.scores / found.scores.sum(1, keepdim=True))[:, :number], found.nearest.mean(1)

    def predict(
        self,
        videos: Sequence[str | os.PathLike[str]],
        *,
        clips: int = CLIPS,
        neighbors: int = NEIGHBORS,
        temperature: float = TEMPERATURE,
        agreement: float | None = None,
        device: str | None = None,
    ) -> Iterator[Prediction]:
        """Yields a prediction for each video, in the order in which they finish.

        Args:
            videos: paths or http(s) addresses of the videos.
            clips: number of clips per video.
            neighbors: number of bank rows that vote for each clip. Each votes with weight exp(dot / temperature).
            temperature: temperature of the votes.
            agreement: share of all votes from which on a name is given, in [0, 1]. Default: `least`.
            device: of the encoder. Default: cuda if there is a GPU, or else cpu.

        Raises:
            ValueError: `agreement` is out of range.
        """
        if agreement is not None and not 0 <= agreement <= 1:
            raise ValueError(f"agreement must be a share of the votes, from 0 to 1, got {agreement}")
        least = self.least(neighbors, temperature) if agreement is None else agreement
        paths = [path_or_url(path) for path in videos]
        for number, record, arrays in Extractor(self.model, clips=clips, device=device).results(paths):
            if arrays is None:
                yield Prediction(str(paths[number]), reason=record.reason)
                continue
            (shares,), (nearest,) = self.shares(torch.from_numpy(arrays["embedding"])[None], neighbors, temperature)
            best = shares.topk(min(5, len(self.names)))
            votes = [(self.names[i], share) for i, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
            names = [(name, share) for name, share in votes if share >= least and share > 0]
            yield Prediction(str(paths[number]), names, votes[0][1] if votes else 0.0, float(nearest))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted classes of one video."""

    path: str
    """Path or address of the video."""
    names: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    """Class names that have enough of the votes, at most five, with their shares of all votes, most votes first. Empty if the
    bank does not know."""
    agreement: float | None = None
    """The largest share that a name has, also if that is not enough."""
    nearest: float | None = None
    """Cosine similarity of a clip and the bank row nearest to it, averaged over the clips."""
    reason: str | None = None
    """Why the video could not be read, or None."""


def load_predictor(model: str, weights: Path | None = None, *, classes: Path | None = None) -> Predictor:
    """Loads an encoder and the memory bank that came with its weights.

    Args:
        model: name of the model.
        weights: a weight folder with bank.safetensors, or the name of a published weight set. None: the model's published set.
        classes: text file whose line i names label i. None: the classes.txt that came with the weights, or else numbers.

    Raises:
        FileNotFoundError: the weights have no memory bank, or `classes` does not exist.
        WeightsError: no such weights are published.
    """
    rows, labels = memory_bank(model, weights)
    if weights is None or str(weights) in list_weights():
        published = find_record(*str(weights or model).split("."))
        net: VideoEncoder = load_record(published)
        folder = fetch(published)
    else:
        net, folder = encoder(model, weights), weights
    file = classes or (folder / CLASSES if (folder / CLASSES).exists() else None)
    names = file.read_text().splitlines() if file else []
    num_classes = int(labels.max()) + 1
    names = (names + [str(i) for i in range(len(names), num_classes)])[:num_classes]
    return Predictor(net, rows, labels, names, measured_names(folder))


def measured_names(folder: Path) -> dict[str, Any] | None:
    """What the card of a weight folder says of the names that its bank gives (`vie_models: names:`); None if nothing."""
    if not (folder / CARD).exists():
        return None
    from huggingface_hub import ModelCard

    of_card = ModelCard((folder / CARD).read_text()).data.to_dict().get("vie_models") or {}
    found: dict[str, Any] | None = of_card.get("names")
    return found
