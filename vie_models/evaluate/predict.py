"""Predicts the classes of videos by kNN in the memory bank that comes with the weights.

N rows, D dimensions.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..bank.voting import knn_of_rows
from ..datasets.lists import CLASSES
from ..features.extractor import Extractor
from ..models import Encoder
from ..video.sources import path_or_url
from ..weights import list_weights
from ..weights.cache import fetch, load_record
from ..weights.catalog import find_record
from .protocols import encoder, memory_bank

_SAMPLE = 500  # rows whose nearest neighbour is looked up


@dataclasses.dataclass(frozen=True)
class Predictor:
    """An encoder and its memory bank with named rows."""

    model: Encoder
    rows: Tensor
    """Unit embeddings of the training videos, float32 [N, D]."""
    labels: Tensor
    """Their labels, int64 [N]."""
    names: list[str]
    """Name of each label that occurs, or its number where it has no name."""

    @functools.cached_property
    def known(self) -> list[str]:
        """The names that some row has."""
        return [self.names[i] for i in self.labels[self.labels >= 0].unique().tolist()]

    @functools.cached_property
    def nearest(self) -> float:
        """Cosine similarity that 95 % of the rows reach with their nearest other row. 0 for fewer than 2 rows."""
        if len(self.rows) < 2:
            return 0.0
        sample = torch.arange(0, len(self.rows), -(-len(self.rows) // _SAMPLE))
        dots = self.rows[sample].float() @ self.rows.float().T  # [S, N]
        dots[torch.arange(len(sample)), sample] = -1
        return float(dots.amax(1).quantile(0.05))

    def predict(
        self, videos: Sequence[str | os.PathLike[str]], *, clips: int = 5, neighbours: int = 10, temperature: float = 0.07
    ) -> Iterator[Prediction]:
        """Yields a prediction for each video, in the order in which they finish.

        Args:
            videos: paths or http(s) addresses of the videos.
            clips: number of clips per video.
            neighbours: number of bank rows that vote for each clip. Each votes with weight exp(dot / temperature).
            temperature: temperature of the votes.
        """
        num_classes = len(self.names)
        paths = [path_or_url(path) for path in videos]
        for number, record, arrays in Extractor(self.model, clips=clips).results(paths):
            if arrays is None:
                yield Prediction(str(paths[number]), reason=record.reason)
                continue
            values = torch.from_numpy(arrays["embedding"])[None]
            found = knn_of_rows(values, self.rows, self.labels, neighbours, temperature, num_classes)
            best = found.scores[0].topk(min(5, num_classes))
            shares = (best.values / found.scores[0].sum().clamp(min=1e-12)).tolist()  # if no row with a name is near, all are 0
            named = [(self.names[i], share) for i, share in zip(best.indices.tolist(), shares, strict=True) if share > 0]
            nearest = float(found.nearest.mean())
            yield Prediction(str(paths[number]), named, nearest, nearest >= self.nearest)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted classes of one video."""

    path: str
    """Path or address of the video."""
    names: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    """Up to five class names with their fractions of all votes, most votes first."""
    nearest: float | None = None
    """Cosine similarity of a clip and the bank row nearest to it, averaged over the clips."""
    is_like_bank: bool | None = None
    """Whether that is as near as 95 % of the bank's rows lie to one another. If not, the names may all be wrong."""
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
        net, beside = load_record(published), fetch(published) / CLASSES
    else:
        net, beside = encoder(model, weights), weights / CLASSES
    file = classes or (beside if beside.exists() else None)
    names = file.read_text().splitlines() if file else []
    num_classes = int(labels.max()) + 1
    return Predictor(net, rows, labels, (names + [str(i) for i in range(len(names), num_classes)])[:num_classes])
