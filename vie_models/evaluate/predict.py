"""Predicts the classes of videos by kNN in the memory bank that comes with the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..bank.knn import knn_of_rows
from ..datasets.lists import CLASSES
from ..features.extractor import Extractor
from ..weights import list_weights
from ..weights.cache import fetch, load_record
from ..weights.catalog import find_record
from .protocols import encoder, memory_bank


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The predicted classes of one video."""

    path: str
    """Path of the video."""
    names: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    """Up to five class names with their fractions of all votes, most votes first."""
    reason: str | None = None
    """Why the video could not be read, or None."""


def predict(
    videos: Sequence[Path],
    model: str,
    weights: Path | None = None,
    *,
    classes: Path | None = None,
    clips: int = 5,
    neighbours: int = 10,
    temperature: float = 0.07,
) -> Iterator[Prediction]:
    """Yields a prediction for each video, in the order in which they finish.

    Args:
        videos: paths of the videos.
        model: name of the model.
        weights: a weight folder with bank.safetensors, or the name of a published weight set. None: the model's published set.
        classes: text file whose line i names label i. None: the classes.txt that came with the weights, or else numbers.
        clips: number of clips per video.
        neighbours: number of bank rows that vote for each clip. Each votes with weight exp(dot / temperature).
        temperature: temperature of the votes.

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
    paths = [Path(path) for path in videos]
    for number, record, arrays in Extractor(net, clips=clips).results(paths):
        if arrays is None:
            yield Prediction(str(paths[number]), reason=record.reason)
            continue
        values = torch.from_numpy(arrays["embedding"])[None]
        scores = knn_of_rows(values, rows, labels, neighbours, temperature, num_classes).scores[0]
        best = scores.topk(min(5, num_classes))
        shares = (best.values / scores.sum().clamp(min=1e-12)).tolist()  # if no row with a name is near, all are 0
        found = [
            (names[i] if i < len(names) else str(i), share) for i, share in zip(best.indices.tolist(), shares, strict=True)
        ]
        yield Prediction(str(paths[number]), [(name, share) for name, share in found if share > 0])
