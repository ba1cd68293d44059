"""kNN classification, the original's validation: the nearest rows of the memory bank vote for the class of a video.

V videos, C clips each, D dimensions, K neighbors per clip. Source: Zhuang et al., CVPR 2020; the original release.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from .memory_bank import MemoryBank
from .ranks import World

BLOCK = 4096  # clips looked up at a time
MIN_TEMPERATURE = 0.002


@dataclasses.dataclass(frozen=True)
class KNN:
    """The result of `knn`."""

    predictions: Tensor
    """int64 [V]: the class with the highest score. In a tie, the lower class."""
    scores: Tensor
    """float64 [V, classes]: votes, averaged over the clips."""
    nearest: Tensor
    """float32 [V, C]: cosine similarity of each clip and the bank row nearest to it."""


def votes(dots: Tensor, labels: Tensor, num_classes: int, temperature: float = 0.07) -> Tensor:
    """Returns the votes for each class, [..., classes], from the dots and labels of K neighbors, [..., K].

    A neighbor votes exp(dot / temperature) / K for its label. A negative label (a video without one) does not vote.
    """
    weights = torch.exp(dots.double() / temperature) / dots.shape[-1] * (labels >= 0)
    scores = weights.new_zeros(*dots.shape[:-1], num_classes)
    return scores.scatter_add_(-1, labels.clamp(min=0), weights)


def knn(
    embeddings: Tensor,
    bank: MemoryBank,
    labels: Tensor,
    *,
    k: int = 10,
    temperature: float = 0.07,
    num_classes: int | None = None,
) -> KNN:
    """Predicts the classes of videos from the bank rows nearest to their clips. Collective: all ranks call it.

    Args:
        embeddings: unit vectors of this rank's videos, [V, C, D]. V may differ between ranks; C may not.
        bank: the memory bank, with N rows.
        labels: labels of the bank's rows, int64 [N]; negative for a row without a label.
        k: number of neighbors per clip. If the bank has fewer rows, all of them vote.
        temperature: temperature of the votes, at least 0.002.
        num_classes: number of classes. Default: the highest label plus 1.

    Raises:
        ValueError: a shape is wrong, or the temperature is too low.
    """
    if embeddings.ndim != 3 or embeddings.shape[2] != bank.dim:
        raise ValueError(f"embeddings must be [videos, clips, {bank.dim}], got {list(embeddings.shape)}")
    if labels.shape != (bank.num_rows,):
        raise ValueError(f"labels must be [{bank.num_rows}], one for each row of the bank, got {list(labels.shape)}")
    if not temperature >= MIN_TEMPERATURE:
        raise ValueError(f"temperature must be >= {MIN_TEMPERATURE}, or the votes overflow, got {temperature}")
    device = bank.world.device
    labels = labels.to(device)
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    videos, clips, dim = embeddings.shape
    flat = embeddings.to(device).reshape(-1, dim)
    longest = int(bank.world.max(torch.tensor(len(flat), device=device)))
    scores = torch.zeros(0, num_classes, device=device, dtype=torch.float64)
    nearest = torch.zeros(0, device=device)
    for start in range(0, longest, BLOCK):  # every rank looks up the same number
        block = flat[start : start + BLOCK]
        padded = F.pad(block, (0, 0, 0, min(BLOCK, longest - start) - len(block)))
        dots, rows = bank.nearest(padded, min(k, bank.num_rows))
        nearest = torch.cat([nearest, dots[: len(block), 0].float()])
        scores = torch.cat([scores, votes(dots, labels[rows], num_classes, temperature)[: len(block)]])
    scores = scores.view(videos, clips, num_classes).mean(1)
    return KNN(scores.argmax(1), scores, nearest.view(videos, clips))


def knn_of_rows(
    values: Tensor, rows: Tensor, labels: Tensor, k: int, temperature: float, num_classes: int, ranks: World | None = None
) -> KNN:
    """Returns `knn` of embeddings [V, C, D] in a bank of rows [N, D]. Every rank passes all rows and keeps its share."""
    ranks = ranks or World()
    bank = MemoryBank(len(rows), rows.shape[1], world=ranks)
    bank.rows = rows[ranks.rank :: ranks.size].contiguous().to(ranks.device)
    return knn(values, bank, labels, k=k, temperature=temperature, num_classes=num_classes)
