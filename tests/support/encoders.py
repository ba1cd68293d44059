"""Makes inputs for encoders, compares their outputs with the reference, and damages files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vie_models as vie
from vie_models.models import build_model

NAMES = vie.list_models()


def reference_clip(spec: vie.ClipSpec, seed: int, frames: bool = False) -> torch.Tensor:
    """Returns the input of the reference activations: [2, 3, T, 112, 112], or [2, 3, 112, 112] for single frames."""
    shape = [2, 112, 112, 3] if frames else [2, spec.num_frames, 112, 112, 3]
    pixels = np.random.default_rng([7, seed]).integers(0, 256, shape, dtype=np.uint8)
    x = (torch.from_numpy(pixels) / 255 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    return x.movedim(-1, 1)


def small_clip(model: vie.Encoder, batch: int = 2, size: int = 48) -> torch.Tensor:
    return torch.randn(batch, 3, model.clip_spec.num_frames, size, size)


def embed(model: vie.Encoder, clip: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(clip)


def flip(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


SMALL = {name: {"width": 8} for name in NAMES}  # the same graphs, small enough for every check


def small(name: str, **args) -> vie.Encoder:
    return build_model(name, **{**SMALL[name], **args})


def reference_errors(model: vie.Encoder, x: torch.Tensor, reference) -> dict[str, float]:
    """Returns max |ours - reference| / max |reference| of every layer in a reference file, logits and embedding included."""
    with torch.inference_mode():
        ours = model.forward_layers(x, [*model.layer_names, "output"])
        ours["embedding"] = ours.pop("output")
        if isinstance(model.head, nn.Linear):
            ours["logits"] = model.head(model.forward_head(model.forward_features(x), pre_logits=True))
    errors = {}
    for layer in sorted({key.split("|")[0] for key in reference.files if "|" in key}):
        maps = ours[layer.replace("single/", "static.").replace("dynamic/", "dynamic.")]
        if model.model_name == "vie_trn" and maps.ndim == 5:
            maps = maps.transpose(1, 2).flatten(0, 1)  # the reference folds frames into the batch: [B*T, C, H, W]
        shape = tuple(reference[f"{layer}|shape"])
        assert tuple(n for n in maps.shape if n != 1 or n in shape) == shape or maps.numel() == np.prod(shape)
        values = maps.reshape(shape).flatten()[:: int(reference[f"{layer}|stride"])][: len(reference[f"{layer}|values"])]
        errors[layer] = float(
            np.abs(values.numpy() - reference[f"{layer}|values"]).max() / np.abs(reference[f"{layer}|values"]).max()
        )
        mean, std, peak = reference[f"{layer}|moments"]
        assert maps.mean().item() == pytest.approx(mean, abs=1e-4 * peak)
        assert maps.std(correction=0).item() == pytest.approx(std, abs=1e-4 * peak)
    return errors
