"""Parameters, FLOPs and shapes of an encoder, computed on the meta device without running it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def without_memory(model: Any) -> Any:
    """Returns a copy of an encoder on the meta device, in evaluation mode; the weights are not copied on the way."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): _on_meta(tensor) for tensor in tensors}).eval()


def _on_meta(tensor: Tensor) -> Tensor:
    found = tensor.detach().to("meta")
    return nn.Parameter(found, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else found


def meta_clip(model: Any) -> torch.Tensor:
    """Returns one clip of the model's clip_spec on the meta device, [1, 3, T, H, W]."""
    spec = model.clip_spec
    return torch.empty(1, 3, spec.num_frames, spec.crop, spec.crop, device="meta")


def count_parameters(model: Any) -> int:
    """Returns the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: Any) -> int:
    """Returns the floating-point operations for one clip, in convolutions and linear layers. A multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        without_memory(model)(meta_clip(model))
    return counter.get_total_flops()


def layer_shapes(model: Any, layers: Iterable[str] | None = None) -> dict[str, list[int]]:
    """Returns the shape [C, T, H, W] of layers (default: all) for one clip of the model's clip_spec."""
    maps = without_memory(model).forward_layers(meta_clip(model), model.layer_names if layers is None else layers)
    return {name: list(found.shape[1:]) for name, found in maps.items()}


def output_size(model: Any) -> int:
    """Returns the length of the vector that `forward` returns for a clip."""
    return int(without_memory(model)(meta_clip(model)).shape[1])
