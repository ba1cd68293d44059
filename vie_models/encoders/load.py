"""Loads encoders by name: VIE's own, and "timm:NAME", "torchvision:NAME", "hf:NAME" and "model.pt2" of other packages."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import cast

import torch
from torch import nn

from ..clip_spec import ClipSpec
from ..weights import create_model
from ..weights.store import create_outline
from .names import parse_name
from .pixels import PIXELS, raw_pixels
from .protocol import VideoEncoder
from .wrapped import WrappedModule

_NEEDS = {
    "timm": ("timm", "'timm>=1.0'"),
    "torchvision": ("torchvision", "torchvision"),
    "hf": ("transformers", "'vie_models[transformers]'"),
}
"""For each first word of a name: the package that it needs, and what pip calls that."""


def load_encoder(name: str, weights: str | os.PathLike[str] | None = None, *, outline: bool = False) -> VideoEncoder:
    """Loads an encoder by name, in evaluation mode.

    Names of other packages' models take options after a comma: frames=N, interval=N (frames of the grid from one to the next)
    and fps=N change the clip; untrained[=SEED] gives random weights; revision=COMMIT is that of a repository (hf). Everything
    else about the clip is what the package declares for the model.

    Args:
        name: a VIE model or weight set; "timm:NAME", "timm:hf-hub:ORG/NAME" or "timm:local-dir:FOLDER" (images, frame by
            frame); "torchvision:NAME" (video or images); "hf:ORG/NAME" or "hf:FOLDER" (transformers); "FILE.pt2", a program of
            `vie program`; "pixels", raw pixels as a baseline.
        weights: the user's own weights of a VIE model, as `create_model`'s checkpoint_path. Default: the published ones.
        outline: load no weights and build the encoder on the meta device, for its shapes.

    Raises:
        ValueError: there is no such model, or one whose clips are not known; the message names the remedy.
        ImportError: the package is not installed; the message has its pip line.
        FileNotFoundError: nothing exists at `weights`, or there is no such program.
    """
    if name == PIXELS:
        return raw_pixels()
    found = parse_name(name)
    if found is None and not name.endswith(".pt2"):
        if outline:
            return create_outline(name, checkpoint_path=weights)
        return create_model(name, pretrained=weights is None, checkpoint_path=weights).eval()
    if weights is not None:
        raise ValueError(
            f"{name} brings its own weights, got {weights}: leave it out (timm:local-dir:FOLDER and hf:FOLDER are yours)"
        )
    if found is None:
        from .from_program import load_program

        return load_program(Path(name))
    module, pip = _NEEDS[found.package]
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{name} needs {module}: pip install {pip}")
    with torch.device("meta" if outline else "cpu"):
        if found.package == "timm":
            from .from_timm import load_timm

            return load_timm(found, outline=outline)
        if found.package == "torchvision":
            from .from_torchvision import load_torchvision

            return load_torchvision(found, outline=outline)
        from .from_transformers import load_transformers

        return load_transformers(found, outline=outline)


def as_encoder(model: VideoEncoder | nn.Module | str, clip_spec: ClipSpec | None = None) -> VideoEncoder:
    """Returns a model itself if it is an encoder, the one that a name stands for, or a module as the encoder of its clips.

    Raises:
        ValueError: a module has no `clip_spec`, or something else has one given.
        TypeError: it is nothing of these.
    """
    if isinstance(model, str):
        model = load_encoder(model)
    if hasattr(model, "forward_layers"):
        if clip_spec is not None:
            raise ValueError(f"clip_spec= is for a module without one, but {model.model_name} has its own: leave it out")
        return cast(VideoEncoder, model)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"an encoder is a module, an object with what VideoEncoder lists, or a name, got {type(model).__name__}"
        )
    if clip_spec is None:
        raise ValueError(
            f"{type(model).__name__} does not say which clips it takes: pass clip_spec=ClipSpec(num_frames=..., fps=..., "
            "resize=..., crop=..., mean=..., std=...)"
        )
    return WrappedModule(model, clip_spec)
