"""Video and image models of transformers (Hugging Face). The clip's pixels are those of the processor's config.

T time, H height, W width, D length of an embedding.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..clip_spec import ClipSpec
from .names import EncoderName
from .wrapped import Layout, WrappedModule, untrained


def _mean(output: Any) -> Tensor:
    return output.last_hidden_state.mean(1)


def _cls(output: Any) -> Tensor:
    return output.last_hidden_state[:, 0]


def _pooled(output: Any) -> Tensor:
    return output.pooler_output


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of model, by the `model_type` of its config."""

    read: Callable[[Any], Tensor]
    """Makes the embedding [B, D] of what the model returns."""
    images: bool = False
    """Whether it takes images, each frame by itself."""
    interval: int | None = None
    """Frames from one to the next, at `fps`, by `rate_of`; configs do not say it. None: not known."""
    fps: float = 25.0
    rate_of: str = ""
    """Where the rate stands."""
    tokens: int = 0
    """Number of tokens before those of the grid, without registers."""
    time_last: bool = False
    method: str = "forward"
    """The method that embeds clips or images."""
    call: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of it."""


FAMILIES = {
    "videomae": Family(_mean, interval=4, rate_of="Tong et al., NeurIPS 2022, Kinetics-400: every 4th frame"),
    "vjepa2": Family(
        _mean, interval=1, fps=4.0, rate_of="Assran et al., 2025: 4 frames a second", call={"skip_predictor": True}
    ),
    "timesformer": Family(_cls, tokens=1, time_last=True, interval=32, rate_of="Bertasius et al., ICML 2021: every 32nd frame"),
    "vivit": Family(_cls, tokens=1, interval=2, rate_of="Arnab et al., ICCV 2021: every 2nd frame"),
    "xclip": Family(_pooled, tokens=1, method="get_video_features"),
    "clip": Family(_pooled, images=True, tokens=1, method="get_image_features"),
    "siglip": Family(_pooled, images=True, method="get_image_features"),
    "dinov2": Family(_pooled, images=True, tokens=1),
    "dinov2_with_registers": Family(_pooled, images=True, tokens=1),
    "dinov3_vit": Family(_pooled, images=True, tokens=1),
    "dinov3_convnext": Family(_pooled, images=True),
}
"""Embeddings: the mean of all tokens (VideoMAE, V-JEPA 2), the CLS token after the last norm (TimeSformer, ViViT, DINO), the
projection into the space of captions (CLIP, X-CLIP), or attention pooling (SigLIP)."""

PROCESSORS = {
    "VideoMAEImageProcessor": "torch",
    "VideoMAEVideoProcessor": "torch",
    "VJEPA2VideoProcessor": "torch",
    "TimesformerVideoProcessor": "torch",
    "VivitVideoProcessor": "torch",
    "CLIPImageProcessor": "torch",
    "BitImageProcessor": "torch",
    "SiglipImageProcessor": "torch",
    "DINOv3ViTImageProcessor": "unrounded",
}
"""The processors whose arithmetic is known here, and their `ClipSpec.resampler`."""


def load_transformers(wanted: EncoderName, *, outline: bool = False) -> WrappedModule:
    """Loads a model by the name of its repository or its folder. Nothing is unpickled, and no code comes with it.

    Raises:
        ValueError: it is of a family that is not known here, its weights do not fit, its rate is not known, or its processor
            does what a ClipSpec cannot say.
        OSError: there is no such repository, revision or folder.
    """
    import transformers

    place: dict[str, Any] = {"revision": wanted.revision, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(wanted.name, **place)
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ValueError(
            f"{wanted.name} is a {config.model_type}; known here are {', '.join(FAMILIES)}: load it yourself, and pass it with "
            "clip_spec=, wrapped in a WrappedModule"
        )
    own = getattr(config, "vision_config", config)
    if outline or wanted.seed is not None:
        model = untrained(lambda: transformers.AutoModel.from_config(config), wanted.seed or 0).float()
    else:
        place |= {"dtype": torch.float32, "weights_only": True, "output_loading_info": True}
        model, info = transformers.AutoModel.from_pretrained(wanted.name, **place)
        if missing := [key for key in info["missing_keys"] if not (key.startswith("pooler.") and family.read is not _pooled)]:
            raise ValueError(
                f"the weights of {wanted.name} lack {', '.join(sorted(missing)[:5])}, so it would be partly random"
            )
    if family.method != "forward":
        model.forward = getattr(model, family.method)
    spec = ClipSpec(**{**_pixels(wanted), **_clip(family, own, wanted)})
    commit = getattr(config, "_commit_hash", None)
    source = {"transformers": transformers.__version__, **({"revision": commit} if commit else {})}
    return WrappedModule(
        model, spec, name=wanted.text, layout=_layout(family, own, spec), read=family.read, call=family.call, source=source
    )


def _clip(family: Family, config: Any, wanted: EncoderName) -> dict[str, Any]:
    """Returns the fields of the ClipSpec about time: the user's, the config's, and a published rate with a warning."""
    if family.images:
        return {"num_frames": 1, **wanted.clip}
    frames = getattr(config, "frames_per_clip", None) or config.num_frames
    if {"fps", "frame_interval"} & set(wanted.clip):
        return {"num_frames": frames, **wanted.clip}
    if family.interval is None:
        raise ValueError(
            f"{wanted.text}: neither its config nor its paper gives a rate: say it, as {wanted.text},fps=4 (frames a second)"
        )
    warnings.warn(
        f"{wanted.text}: its config gives no rate of frames; used is interval={family.interval}, fps={family.fps:g} "
        f"({family.rate_of}). Say it (,interval=N,fps=N) if these weights were trained otherwise",
        stacklevel=2,
    )
    return {"num_frames": frames, "frame_interval": family.interval, "fps": family.fps, **wanted.clip}


def _pixels(wanted: EncoderName) -> dict[str, Any]:
    """Returns the fields of the ClipSpec about pixels, from the processor's config."""
    import transformers

    place = {"revision": wanted.revision, "trust_remote_code": False}
    try:
        processor = transformers.AutoVideoProcessor.from_pretrained(wanted.name, **place)
    except (OSError, ValueError):  # it has none: its frames are images to its package
        processor = transformers.AutoImageProcessor.from_pretrained(wanted.name, **place)
    kind, name = type(processor).__name__, wanted.name
    size, crop = dict(processor.size), dict(processor.crop_size or {}) if getattr(processor, "do_center_crop", False) else {}
    sides = {key: value for key, value in size.items() if value is not None}
    modes = {2: "bilinear", 3: "bicubic"}
    mode = modes.get(int(processor.resample))
    exact = set(sides) == {"height", "width"}
    side = crop.get("height") if crop else sides.get("height") if exact and sides["height"] == sides["width"] else None
    square = not crop or crop["height"] == crop["width"]
    if (
        kind not in PROCESSORS
        or not processor.do_resize
        or mode is None
        or side is None
        or not square
        or not processor.do_rescale
    ):
        raise ValueError(
            f"{name} has the processor {kind} (size={sides}, crop_size={crop}, resample={processor.resample}), which a "
            f"ClipSpec cannot say; known are {', '.join(PROCESSORS)} with square crops: load it yourself, and give "
            "its clip_spec="
        )
    scale, offset = 255 * processor.rescale_factor, float(kind == "VivitVideoProcessor")  # it subtracts 1 after scaling
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    return {
        "resize": (sides["height"], sides["width"]) if exact else sides["shortest_edge"],
        "crop": side,
        "mean": tuple((value + offset) / scale for value in mean),
        "std": tuple(value / scale for value in std),
        "interpolation": mode,
        "resampler": PROCESSORS[kind],
        "center": "floor",
    }


def _layout(family: Family, config: Any, spec: ClipSpec) -> Layout:
    patch, tubelet = getattr(config, "patch_size", None), getattr(config, "tubelet_size", 1)
    if not isinstance(tubelet, int):  # ViViT's has all three
        tubelet, _, patch = tubelet
    side = None if patch is None else spec.crop // patch
    return Layout(
        images=family.images,
        frames_first=not family.images,
        grid=None if side is None else (1 if family.images else spec.num_frames // tubelet, side, side),
        prefix=family.tokens + (getattr(config, "num_register_tokens", 0) if family.tokens else 0),
        time_last=family.time_last,
    )
