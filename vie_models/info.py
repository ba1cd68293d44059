"""What `vie info` prints: computed from the model itself, not written down."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from .models import Encoder, build_model
from .weights.catalog import WeightRecord, weights_of
from .weights.store import cache_state, find_record


def count_flops(model: Encoder) -> int:
    """Floating-point operations of one clip (a multiply-add counts as two): convolutions and linear layers."""
    with FlopCounterMode(display=False) as counter:
        model(_meta_clip(model))
    return counter.get_total_flops()


def layer_shapes(model: Encoder) -> dict[str, list[int]]:
    """Shape [C, T, H, W] of each layer for one clip of the model's clip_spec; `model` is on the meta device."""
    return {
        name: list(maps.shape[1:]) for name, maps in model.forward_intermediates(_meta_clip(model), model.layer_names).items()
    }


def _meta_clip(model: Encoder) -> torch.Tensor:
    spec = model.clip_spec
    return torch.empty(1, 3, spec.num_frames, spec.crop, spec.crop, device="meta")


def describe(name: str) -> str:
    """A page about a model or weight set."""
    model_name, _, tag = name.partition(".")
    records = [find_record(model_name, tag)] if tag else weights_of(model_name)
    sizes = records[0].model_args if tag else {}
    with torch.device("meta"):
        model = build_model(model_name, **sizes).eval()
    spec = model.clip_spec
    parameters = sum(p.numel() for p in model.parameters())
    lines = [
        name,
        f"  clip        {spec.num_frames} frames, {spec.frame_interval} apart at {spec.fps:g} fps ({spec.seconds:.2f} s); "
        f"short side {spec.resize}, centre crop {spec.crop}, {spec.interpolation}",
        f"  sizes       {', '.join(f'{k}={v}' for k, v in model.model_args.items())}",
        f"  parameters  {parameters / 1e6:.2f} M",
        f"  cost        {count_flops(model) / 1e9:.2f} GFLOP a clip (a multiply-add counts as two)",
        f"  output      {model(_meta_clip(model)).shape[1]}-d unit embedding; {model.num_features} pooled features",
        "  layers      C x T x H x W",
    ]
    lines += [f"    {layer:20}{' x '.join(map(str, shape))}" for layer, shape in layer_shapes(model).items()]
    lines += ["  weights     nobody has published any"] if not records else []
    for record in records:
        lines += _describe_weights(record)
    return "\n".join(lines)


def _describe_weights(record: WeightRecord) -> list[str]:
    size = f"{record.size / 1e6:.1f} MB" if record.size else "size not known before the first fetch"
    return [
        f"  weights     {record.name}: {cache_state(record)}",
        f"    source    {record.url} ({size})",
        f"    licence   {record.licence}",
        f"    made by   {record.provenance}",
        *(f"    measured  {metric.name}: {metric.value} % ({metric.source})" for metric in record.metrics),
    ]
