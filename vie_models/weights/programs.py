"""Writes an encoder as a program that runs without this package: of torch.export (pt2), or ONNX.

Every program takes `clips` [B, T, H, W, 3], frames as `load_clip` gives them, resized and cropped. B is free; T, H and W are
those of the model's ClipSpec. Normalization is inside. It gives "output", what `forward` returns, and the maps of the layers
that were asked for, [B, C, T', H', W'], by their names. What it holds and expects is written beside it (`metadata`).

B batch, T time, H height, W width.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from collections.abc import Sequence
from importlib.metadata import version as metadata_version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..files import replacing
from ..models import Encoder
from ..models.encoder import OUTPUT
from ..version import __version__

Format = Literal["pt2", "onnx"]
Pixels = Literal["uint8", "float32"]
OPSET = 20
METADATA = "vie_models.json"
"""Name of the extra file with the metadata in a pt2 program."""


def export_model(
    model: Encoder,
    out: str | os.PathLike[str],
    *,
    format: Format = "pt2",
    layers: Sequence[str] = (),
    pixels: Pixels = "uint8",
) -> dict[str, Any]:
    """Writes `model` as a program, and returns its metadata. An existing file is replaced.

    Args:
        model: the encoder. It is not changed; the program is of its evaluation mode, for its device.
        out: file to write, named *.pt2 or *.onnx.
        format: "pt2" is a program of torch.export, for `torch.export.load`. "onnx" needs `pip install 'vie_models[export]'`.
        layers: names of layers whose maps the program also returns.
        pixels: "uint8" for pixels 0 to 255, "float32" for pixels 0 to 1.

    Returns:
        `model`, `weights`, `clip_spec`, `pixels`, `input` (shape, None for the batch), `outputs` (names and shapes) and
        `vie_models` (version). ONNX has them in metadata_props, each as JSON; pt2 in its extra file vie_models.json.

    Raises:
        ValueError: an unknown format, layer or kind of pixels, or a file name that does not fit the format.
        ImportError: a package that the format needs is missing.
    """
    out = Path(out)
    for name, value, choices in (("format", format, get_args(Format)), ("pixels", pixels, get_args(Pixels))):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if out.suffix != f".{format}":
        raise ValueError(f"a program of format {format} must be named *.{format}, got {out.name}; rename it")
    if OUTPUT in layers:
        raise ValueError(f'layers must not have "{OUTPUT}", which every program returns; leave it out')
    program = _Program(model, model.check_layers(layers), pixels)
    spec = model.clip_spec
    shape = (2, spec.num_frames, spec.crop, spec.crop, 3)  # two clips: one would make the batch a constant
    clips = torch.zeros(shape, dtype=getattr(torch, pixels), device=next(model.parameters()).device)
    with torch.no_grad():
        metadata = {
            "model": model.model_name,
            "weights": getattr(model.weights, "name", None),
            "clip_spec": spec.to_dict(),
            "pixels": pixels,
            "input": {"clips": [None, *shape[1:]]},
            "outputs": {name: [None, *found.shape[1:]] for name, found in program(clips).items()},
            "vie_models": __version__,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as path:
            (_write_pt2 if format == "pt2" else _write_onnx)(program, clips, path, metadata)
    return metadata


class _Program(nn.Module):
    """Pixels [B, T, H, W, 3] -> the output and the wanted layers by name."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Encoder, layers: Sequence[str], pixels: str) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.layers = [OUTPUT, *layers]
        self.largest = 255 if pixels == "uint8" else 1
        weight = next(model.parameters())
        self.dtype = weight.dtype
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(model.clip_spec, name), device=weight.device))
        self.eval()

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        x = clips.to(torch.float32)
        x = (x * (1 / self.largest) - self.mean) / self.std  # [B, T, H, W, 3]
        return self.model.forward_layers(x.to(self.dtype).permute(0, 4, 1, 2, 3), self.layers)


def _any_number() -> dict[str, dict[int, Any]]:
    """Clips of which the batch is free. PyTorch 2.6 wants to know that it is below the largest integer."""
    return {"clips": {0: torch.export.Dim("batch", min=1, max=2**31 - 1)}}


def _write_pt2(program: _Program, clips: Tensor, path: Path, metadata: dict[str, Any]) -> None:
    exported = torch.export.export(program, (clips,), dynamic_shapes=_any_number(), strict=False)
    with path.open("wb") as file:  # a path would have to end in .pt2
        torch.export.save(exported, file, extra_files={METADATA: json.dumps(metadata)})


def _write_onnx(program: _Program, clips: Tensor, path: Path, metadata: dict[str, Any]) -> None:
    if missing := [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise ImportError(f"ONNX needs {' and '.join(missing)}: pip install 'vie_models[export]'")
    try:
        onnx = torch.onnx.export(
            program,
            (clips,),
            dynamo=True,
            dynamic_shapes=_any_number(),
            input_names=["clips"],
            output_names=program.layers,
            opset_version=OPSET,
            verbose=False,
        )
        assert onnx is not None
        onnx.model.metadata_props.update({key: json.dumps(value) for key, value in metadata.items()})
        onnx.save(path)
    except (RuntimeError, TypeError) as error:  # what packages of different ages say to one another
        versions = ", ".join(f"{name} {metadata_version(name)}" for name in ("torch", "onnx", "onnxscript"))
        raise RuntimeError(
            f"{versions} cannot write this model together; install a newer torch, with onnx and onnxscript of its age: {error}"
        ) from error
