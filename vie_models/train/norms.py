"""Batch norms that compute their statistics over the clips of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bank.ranks import World
from ..models.blocks import NormAct, NormAct2d, NormAct3d


class _SyncNormAct:
    """Mixin over NormAct. In training, batch statistics cover the batches of all ranks together."""

    world: World

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self
        if not norm.training:
            return super().forward(x)  # type: ignore[misc,no-any-return]
        values = x.float().transpose(0, 1).flatten(1)  # [C, values]
        local = torch.tensor([float(values.shape[1])], device=x.device)
        count = self.world.sum(local)
        mean = self.world.sum(values.sum(1)) / count
        variance = self.world.sum((values - mean[:, None]).square().sum(1)) / count
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return F.relu(x * scale.view(shape) + (norm.bias - mean * scale).view(shape)).to(x.dtype)


class _SyncNormAct2d(_SyncNormAct, NormAct2d):
    pass


class _SyncNormAct3d(_SyncNormAct, NormAct3d):
    pass


def synchronise_norms(model: nn.Module, world: World) -> None:
    """Makes every batch norm of an encoder compute its statistics over all ranks, in place.

    This helps when each rank has too few clips for good statistics. The original uses each GPU's own clips. The state_dict does
    not change.
    """
    for module in model.modules():
        if isinstance(module, NormAct):
            module.__class__ = _SyncNormAct2d if isinstance(module, NormAct2d) else _SyncNormAct3d  # type: ignore[assignment]
            module.world = world  # type: ignore[assignment]
