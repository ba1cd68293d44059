"""Supervised classification: the paper's supervised baseline, fine-tuning and linear readouts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...bank.ranks import World
from .objective import Objective


class SupervisedObjective(Objective):
    """Cross-entropy with the labels. With several readouts, their losses are added; each trains only its own layer.

    Args:
        labels: labels of all videos, [N].
        world: the processes of the run.
    """

    def __init__(self, labels: Tensor, world: World) -> None:
        self.labels = labels.to(world.device)

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        """Returns the loss of each clip, [b], from logits [b, K], or [b, L, K] of L readouts."""
        labels = self.labels[indices.clamp(min=0)]
        if output.ndim == 2:
            return F.cross_entropy(output, labels, reduction="none")
        return F.cross_entropy(output.transpose(1, 2), labels[:, None].expand(-1, output.shape[1]), reduction="none").sum(1)
