"""The original's validation: a video is what most of the nearest training videos in the memory bank are.

V videos, C clips each, D dimensions, K neighbours a clip. Source: Zhuang et al., CVPR 2020; the original release.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from .memory_bank import MemoryBank
from .ranks import World

BLOCK = 4096  # clips that are looked up at a time
LEAST_TEMPERATURE = 0.002


@dataclasses.dataclass(frozen=True)
class KNN:
    """What `knn` returns."""

    predictions: Tensor
    """int64 [V]: the class with the highest score, the lower one in a tie."""
    scores: Tensor
    """float64 [V, classes]: votes, mean over the clips."""


def votes(dots: Tensor, labels: Tensor, num_classes: int, temperature: float = 0.07) -> Tensor:
    """Each neighbour votes exp(dot / temperature) / K for its label: dots and labels [..., K] -> [..., classes].

    A label below zero (a video without one) has no vote.
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
    """Names the classes of videos by the bank rows that are nearest to their clips. Collective: all ranks call it.

    Args:
        embeddings: unit vectors of this rank's videos, [V, C, D]; V may differ between ranks, C may not.
        bank: the memory bank, with N rows.
        labels: of its rows, int64 [N]; below zero where there is none.
        k: neighbours of each clip.
        temperature: of the votes.
        num_classes: default: the highest label and one.
    """
    if embeddings.ndim != 3 or embeddings.shape[2] != bank.dim:
        raise ValueError(f"embeddings must be [videos, clips, {bank.dim}], got {list(embeddings.shape)}")
    if labels.shape != (bank.num_rows,):
        raise ValueError(f"there must be a label for each of the bank's {bank.num_rows} rows, got {list(labels.shape)}")
    if not temperature >= LEAST_TEMPERATURE:
        raise ValueError(f"the temperature of the votes must be >= {LEAST_TEMPERATURE}, got {temperature}: exp would overflow")
    device = bank.world.device
    labels = labels.to(device)
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    videos, clips, dim = embeddings.shape
    flat = embeddings.to(device).reshape(-1, dim)
    longest = int(bank.world.max(torch.tensor(len(flat), device=device)))
    scores = torch.zeros(0, num_classes, device=device, dtype=torch.float64)
    for start in range(0, longest, BLOCK):  # every rank looks up as many
        block = flat[start : start + BLOCK]
        padded = F.pad(block, (0, 0, 0, min(BLOCK, longest - start) - len(block)))
        dots, rows = bank.nearest(padded, min(k, bank.num_rows))
        scores = torch.cat([scores, votes(dots, labels[rows], num_classes, temperature)[: len(block)]])
    scores = scores.view(videos, clips, num_classes).mean(1)
    return KNN(scores.argmax(1), scores)


def knn_of_rows(
    values: Tensor, rows: Tensor, labels: Tensor, k: int, temperature: float, num_classes: int, ranks: World | None = None
) -> KNN:
    """`knn` of clips' embeddings [V, C, D] in a bank of the given rows [N, D], which all ranks have and share out."""
    ranks = ranks or World()
    bank = MemoryBank(len(rows), rows.shape[1], world=ranks)
    bank.rows = rows[ranks.rank :: ranks.size].contiguous().to(ranks.device)
    return knn(values, bank, labels, k=k, temperature=temperature, num_classes=num_classes)
