"""Video and image models of torchvision. The clip's pixels are those of the weights' transforms."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer
from torchvision.models.video import SwinTransformer3d

from ..clip_spec import ClipSpec
from ..names import unknown_name
from .names import EncoderName
from .wrapped import Layout, WrappedModule, untrained


def load_torchvision(wanted: EncoderName, *, outline: bool = False) -> WrappedModule:
    """Loads a model of torchvision.models or torchvision.models.video without its classifier, by a name such as "r3d_18".

    A weight set may follow ("r3d_18.KINETICS400_V1"); the default one is loaded otherwise, and says which pixels it takes.

    Raises:
        ValueError: torchvision has no such model or weights, or its classifier is not one that can be taken off.
    """
    import torchvision
    from torchvision import models

    videos = models.list_models(models.video)
    known = [*models.list_models(models), *videos]
    name, _, tag = wanted.name.partition(".")
    if name not in known:
        raise unknown_name("torchvision model", name, known)
    sets = models.get_model_weights(name)
    if tag and tag not in sets.__members__:
        raise unknown_name(f"weight set of {name}", tag, sets.__members__)
    weights = sets[tag] if tag else sets.DEFAULT
    build, seed = models.get_model_builder(name), 0 if outline else wanted.seed
    model = build(weights=weights) if seed is None else untrained(lambda: build(weights=None), seed)
    _take_classifier_off(model, name)
    fields = clip_fields(weights, name in videos)
    source = {"torchvision": torchvision.__version__}
    layout = _layout(model, images=name not in videos)
    return WrappedModule(model, ClipSpec(**{**fields, **wanted.clip}), name=wanted.text, layout=layout, source=source)


def clip_fields(weights: Any, video: bool) -> dict[str, Any]:
    """Returns the fields of the ClipSpec that a weight set's transforms and meta stand for."""
    preset = weights.transforms()
    resize, crop = list(preset.resize_size), list(preset.crop_size)
    fields = {
        "num_frames": 1,
        "resize": resize[0] if len(resize) == 1 else tuple(resize),
        "crop": crop[0],
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
        "interpolation": preset.interpolation.value,
        "antialias": bool(getattr(preset, "antialias", False)),
        "resampler": "torch_float",
    }
    if video:  # the meta has the clip in words, as the settings of torchvision's own evaluation
        rate, frames = (re.search(rf"`{key}=([\d.]+)`", weights.meta["_docs"]) for key in ("frame_rate", "clip_len"))
        if rate is None or frames is None:
            raise ValueError(f"the meta of {weights} does not say frame_rate and clip_len: give ,frames=N,fps=N after the name")
        fields |= {"num_frames": int(frames[1]), "fps": float(rate[1])}
    return fields


def _take_classifier_off(model: nn.Module, name: str) -> None:
    """Replaces the last linear layer, in model.fc, head, heads or classifier, so that its input comes out."""
    for path in ("fc", "head", "heads", "classifier"):
        head: Any = getattr(model, path, None)
        if head is None:
            continue
        if isinstance(head, nn.Linear):
            setattr(model, path, nn.Identity())
            return
        last = [key for key, module in head.named_children() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)]
        if last:
            setattr(head, last[-1], nn.Identity())
            return
    raise ValueError(
        f"the classifier of {name} is none of fc, head, heads, classifier: pass the module itself, with clip_spec="
    )


def _layout(model: Any, images: bool) -> Layout:
    if isinstance(model, SwinTransformer | SwinTransformer3d):
        return Layout(images=images, channels_last=("features", "norm"))
    if isinstance(model, VisionTransformer):
        side = model.image_size // model.patch_size
        return Layout(images=True, grid=(1, side, side), prefix=1)
    return Layout(images=images)
