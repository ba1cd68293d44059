"""Supervised classification: the paper's baseline, fine-tuning, and readouts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...bank.ranks import World
from .objective import Objective


class SupervisedObjective(Objective):
    """Cross-entropy of the labels: fine-tuning, the paper's supervised baseline, and readouts, each of which trains its own
    layer alone: theirs are added.

    Args:
        labels: of all videos, [N].
        world: the ranks.
    """

    def __init__(self, labels: Tensor, world: World) -> None:
        self.labels = labels.to(world.device)

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        """Logits [b, K], or those of L readouts [b, L, K] -> [b]."""
        labels = self.labels[indices.clamp(min=0)]
        if output.ndim == 2:
            return F.cross_entropy(output, labels, reduction="none")
        return F.cross_entropy(output.transpose(1, 2), labels[:, None].expand(-1, output.shape[1]), reduction="none").sum(1)
