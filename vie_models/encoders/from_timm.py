"""Image models of timm: each frame by itself. The clip's pixels are those of the model's pretrained_cfg."""

from __future__ import annotations

import difflib
import math
from typing import Any

from torch import nn

from ..clip_spec import ClipSpec
from .names import EncoderName
from .wrapped import Layout, WrappedModule, untrained


def load_timm(wanted: EncoderName, *, outline: bool = False) -> WrappedModule:
    """Loads a model by its name in timm ("resnet18.a1_in1k", "hf-hub:ORG/NAME", "local-dir:FOLDER"), without its classifier.

    Raises:
        ValueError: timm has no such model or weights, or its preprocessing is one that a ClipSpec cannot say.
    """
    import timm

    if ":" not in wanted.name and not timm.is_model(wanted.name):
        near = difflib.get_close_matches(wanted.name, timm.list_models(), 1)
        raise ValueError(
            f"timm {timm.__version__} has no model {wanted.name!r}{f', perhaps {near[0]}' if near else ''}: "
            "`timm.list_models()` lists those that it has, and a newer timm has more"
        )

    def build(pretrained: bool) -> nn.Module:
        try:
            return timm.create_model(wanted.name, pretrained=pretrained, num_classes=0)
        except (RuntimeError, FileNotFoundError) as error:  # unknown tags, weights that it lacks or cannot reach
            raise ValueError(
                f"timm {timm.__version__} does not load {wanted.name}: {str(error).rstrip('.')}; `timm.list_pretrained()` "
                "lists names with weights, and timm:local-dir:FOLDER needs no network"
            ) from error

    seed = 0 if outline else wanted.seed
    model = build(True) if seed is None else untrained(lambda: build(False), seed)
    fields = clip_fields(timm.data.resolve_data_config({}, model=model), wanted.name)
    source = {"timm": timm.__version__}
    return WrappedModule(model, ClipSpec(**{**fields, **wanted.clip}), name=wanted.text, layout=_layout(model), source=source)


def clip_fields(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the fields of a ClipSpec of one frame that timm's data config stands for."""
    (_, height, width), mode = config["input_size"], config["crop_mode"]
    if height != width or mode not in ("center", "squash") or config["interpolation"] not in ("bilinear", "bicubic"):
        raise ValueError(
            f"{name} wants input_size={config['input_size']}, crop_mode={mode!r}, interpolation={config['interpolation']!r}; "
            "a ClipSpec has square crops of bilinear or bicubic frames: build the model yourself, and pass it with clip_spec="
        )
    side = math.floor(height / config["crop_pct"])
    return {
        "num_frames": 1,
        "resize": (side, side) if mode == "squash" else side,
        "crop": height,
        "mean": config["mean"],
        "std": config["std"],
        "interpolation": config["interpolation"],
        "resampler": "pillow",
    }


def _layout(model: Any) -> Layout:
    patches = getattr(model, "patch_embed", None)
    grid = getattr(patches, "grid_size", None)
    return Layout(
        images=True,
        channels_last=("",) if getattr(model, "output_fmt", "NCHW") == "NHWC" else (),
        grid=None if grid is None else (1, *grid),
        prefix=getattr(model, "num_prefix_tokens", 0),
    )
