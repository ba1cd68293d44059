"""What an encoder costs, computed from the model itself without running it."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from .encoder import Encoder
from .registry import build_model


def without_memory(model: Encoder) -> Encoder:
    """An encoder of the same shape on the meta device, in evaluation mode."""
    with torch.device("meta"):
        twin = build_model(model.model_name, clip_spec=model.clip_spec, num_classes=model.num_classes, **model.model_args)
    return twin.eval()


def meta_clip(model: Encoder) -> torch.Tensor:
    """The shape of one clip of the model's clip_spec, [1, 3, T, H, W]."""
    spec = model.clip_spec
    return torch.empty(1, 3, spec.num_frames, spec.crop, spec.crop, device="meta")


def count_parameters(model: Encoder) -> int:
    """How many numbers are learnt."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: Encoder) -> int:
    """Floating-point operations of one clip (a multiply-add counts as two): convolutions and linear layers."""
    with FlopCounterMode(display=False) as counter:
        without_memory(model)(meta_clip(model))
    return counter.get_total_flops()


def layer_shapes(model: Encoder) -> dict[str, list[int]]:
    """Shape [C, T, H, W] of each layer for one clip of the model's clip_spec."""
    maps = without_memory(model).forward_intermediates(meta_clip(model), model.layer_names)
    return {name: list(found.shape[1:]) for name, found in maps.items()}


def output_size(model: Encoder) -> int:
    """Length of what `forward` returns for a clip."""
    return int(without_memory(model)(meta_clip(model)).shape[1])
