"""Parameters, FLOPs and shapes of an encoder, computed on the meta device without running it."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from .encoder import Encoder
from .registry import build_model


def without_memory(model: Encoder) -> Encoder:
    """Builds an encoder of the same shape on the meta device, in evaluation mode."""
    with torch.device("meta"):
        twin = build_model(model.model_name, clip_spec=model.clip_spec, num_classes=model.num_classes, **model.model_args)
    return twin.eval()


def meta_clip(model: Encoder) -> torch.Tensor:
    """Returns one clip of the model's clip_spec on the meta device, [1, 3, T, H, W]."""
    spec = model.clip_spec
    return torch.empty(1, 3, spec.num_frames, spec.crop, spec.crop, device="meta")


def count_parameters(model: Encoder) -> int:
    """Returns the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: Encoder) -> int:
    """Returns the floating-point operations for one clip, in convolutions and linear layers. A multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        without_memory(model)(meta_clip(model))
    return counter.get_total_flops()


def layer_shapes(model: Encoder) -> dict[str, list[int]]:
    """Returns the shape [C, T, H, W] of each layer for one clip of the model's clip_spec."""
    maps = without_memory(model).forward_layers(meta_clip(model), model.layer_names)
    return {name: list(found.shape[1:]) for name, found in maps.items()}


def output_size(model: Encoder) -> int:
    """Returns the length of the vector that `forward` returns for a clip."""
    return int(without_memory(model)(meta_clip(model)).shape[1])
