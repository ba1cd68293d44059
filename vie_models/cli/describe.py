"""The page that `vie info` prints."""

from __future__ import annotations

import torch

from ..clip_spec import ClipSpec
from ..encoders import VideoEncoder, load_encoder
from ..models import build_model
from ..models.cost import count_flops, count_parameters, layer_shapes, output_size
from ..weights.cache import cache_state, size_in_bytes
from ..weights.catalog import WeightRecord, find_record, weights_of


def describe(name: str) -> str:
    """Returns the page about a model or a weight set, one fact a line; a shorter one about another package's model."""
    if ":" in name or name.endswith(".pt2"):
        return _describe_other(load_encoder(name, outline=True))
    model_name, _, tag = name.partition(".")
    records = [find_record(model_name, tag)] if tag else weights_of(model_name)
    sizes = records[0].model_args if tag else {}
    with torch.device("meta"):
        model = build_model(model_name, **sizes).eval()
    lines = [
        name,
        _clip(model.clip_spec),
        f"  sizes       {', '.join(f'{k}={v}' for k, v in model.model_args.items())}",
        f"  parameters  {count_parameters(model) / 1e6:.2f} M",
        f"  cost        {count_flops(model) / 1e9:.2f} GFLOP per clip (a multiply-add counts as two)",
        f"  output      {output_size(model)}-d embedding of unit length; {model.num_features} pooled features",
        "  layers      shape C x T x H x W",
    ]
    lines += [f"    {layer:20}{' x '.join(map(str, shape))}" for layer, shape in layer_shapes(model).items()]
    lines += ["  weights     none published yet"] if not records else []
    for record in records:
        lines += _describe_weights(record)
    return "\n".join(lines)


def _clip(spec: ClipSpec) -> str:
    sides = f"short side {spec.resize}" if isinstance(spec.resize, int) else " x ".join(map(str, spec.resize))
    return (
        f"  clip        {spec.num_frames} frames at {spec.fps:g} fps, interval {spec.frame_interval} ({spec.seconds:.2f} s); "
        f"resized to {sides} ({spec.interpolation}), center crop {spec.crop}"
    )


def _describe_other(model: VideoEncoder) -> str:
    spec = model.clip_spec
    lines = [
        model.model_name,
        _clip(spec),
        f"              mean {spec.mean}, std {spec.std}, resized by {spec.resampler}",
        f"  parameters  {count_parameters(model) / 1e6:.2f} M",
        f"  output      {output_size(model)}-d embedding",
        "  layers      names of modules",
    ]
    return "\n".join([*lines, *(f"    {layer}" for layer in model.layer_names)])


def _describe_weights(record: WeightRecord) -> list[str]:
    size = size_in_bytes(record)
    shown = "size unknown until the first download" if size is None else f"{size / 1e6:.1f} MB"
    source = record.url or "comes with vie_models"
    return [
        f"  weights     {record.name}: {cache_state(record)}",
        f"    source    {source} ({shown})",
        f"    license   {record.license}",
        f"    summary   {record.summary}",
        *(f"    measured  {metric.name}: {metric.value} % ({metric.source})" for metric in record.metrics),
    ]
