"""What a GPU wants: copies that the host need not wait for, and weights with channels last."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copies a host tensor. To a GPU it goes from page-locked memory, so that the host need not wait for the copy."""
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return (x if x.is_pinned() else x.pin_memory()).to(device, non_blocking=True)


def to_channels_last(model: nn.Module) -> None:
    """Stores the weights of all 2-D and 3-D convolutions with channels last."""
    convert_conv2d_weight_memory_format(model, torch.channels_last)
    convert_conv3d_weight_memory_format(model, torch.channels_last_3d)
