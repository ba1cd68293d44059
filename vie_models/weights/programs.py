"""Writes an encoder as a program that runs without this package, and all but TorchScript and pt2 without PyTorch's Python.

Every program takes `clips` [B, T, H, W, 3], frames as `load_clip` gives them, resized and cropped. B is free; T, H and W are
those of the model's ClipSpec. Normalisation is inside. It gives "output", what `forward` returns, and the maps of the layers
that were asked for, [B, C, T', H', W'], by their names. What it holds and expects is written beside it (`metadata`).

B batch, T time, H height, W width.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version as metadata_version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..models import Encoder
from ..models.encoder import OUTPUT
from ..version import __version__

Format = Literal["pt2", "aoti", "onnx", "torchscript"]
Pixels = Literal["uint8", "float32"]
SUFFIXES: dict[str, str] = {"pt2": ".pt2", "aoti": ".pt2", "onnx": ".onnx", "torchscript": ".pt"}
OPSET = 20
METADATA = "vie_models.json"
"""Name of the extra file with the metadata in pt2 and TorchScript programs."""


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
        out: file to write: .pt2 (pt2 and aoti), .onnx or .pt (TorchScript).
        format: "pt2" is a program of torch.export, for `torch.export.load`. "aoti" is compiled by AOTInductor for this kind
            of processor or GPU, for `torch._inductor.aoti_load_package`; it needs a C++ compiler. "onnx" needs
            `pip install 'vie_models[export]'`. "torchscript" is for old programs: PyTorch advises against it.
        layers: names of layers whose maps the program also returns.
        pixels: "uint8" for pixels 0 to 255, "float32" for pixels 0 to 1.

    Returns:
        `model`, `weights`, `clip_spec`, `pixels`, `input` (shape, None for the batch), `outputs` (names and shapes) and
        `vie_models` (version). ONNX has them in metadata_props and aoti in get_metadata(), each as JSON; the others have one
        file vie_models.json.

    Raises:
        ValueError: an unknown format, layer or kind of pixels, or a file name that does not fit the format.
        ImportError: a package that the format needs is missing.
        RuntimeError: "aoti" finds no C++ compiler.
    """
    out = Path(out)
    for name, value, choices in (("format", format, get_args(Format)), ("pixels", pixels, get_args(Pixels))):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if out.suffix != SUFFIXES[format]:
        raise ValueError(f"a program of format {format} must be named *{SUFFIXES[format]}, got {out.name}; rename it")
    if OUTPUT in layers:
        raise ValueError(f'layers must not have "{OUTPUT}", which every program returns; leave it out')
    program = _Program(model, model._checked(layers), pixels)
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
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            path = Path(folder) / out.name  # AOTInductor looks at the ending of the name
            WRITERS[format](program, clips, path, metadata)
            path.replace(out)
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
        return self.model.forward_intermediates(x.to(self.dtype).permute(0, 4, 1, 2, 3), self.layers)


# --- formats -------------------------------------------------------------------------------------------------------------


def _exported(program: _Program, clips: Tensor) -> Any:
    return torch.export.export(program, (clips,), dynamic_shapes=_any_number(), strict=False)


def _any_number() -> dict[str, dict[int, Any]]:
    """Clips of which the batch is free. PyTorch 2.6 wants to know that it is below the largest integer."""
    return {"clips": {0: torch.export.Dim("batch", min=1, max=2**31 - 1)}}


def _write_pt2(program: _Program, clips: Tensor, path: Path, metadata: dict[str, Any]) -> None:
    torch.export.save(_exported(program, clips), path, extra_files={METADATA: json.dumps(metadata)})


def _write_aoti(program: _Program, clips: Tensor, path: Path, metadata: dict[str, Any]) -> None:
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise RuntimeError(
            f"AOTInductor compiles C++, but {compiler} is not installed: install it, name another compiler in the variable "
            'CXX, or write format="pt2", which needs none'
        )
    configs = {"freezing": clips.device.type == "cpu", "aot_inductor.metadata": _as_text(metadata)}
    torch._inductor.aoti_compile_and_package(_exported(program, clips), package_path=str(path), inductor_configs=configs)


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
        onnx.model.metadata_props.update(_as_text(metadata))
        onnx.save(path)
    except (RuntimeError, TypeError) as error:  # what packages of different ages say to one another
        versions = ", ".join(f"{name} {metadata_version(name)}" for name in ("torch", "onnx", "onnxscript"))
        raise RuntimeError(
            f"{versions} cannot write this model together; install a newer torch, with onnx and onnxscript of its age: {error}"
        ) from error


def _write_torchscript(program: _Program, clips: Tensor, path: Path, metadata: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants, which _OfOneSize checks; and TorchScript is deprecated
        traced = torch.jit.trace(program, clips, strict=False, check_trace=False)
        scripted = torch.jit.script(_OfOneSize(traced, list(clips.shape[1:])))
        torch.jit.save(scripted, path, _extra_files={METADATA: json.dumps(metadata)})


class _OfOneSize(nn.Module):
    """Refuses clips of another size than the traced ones, with which a trace would silently compute something else."""

    def __init__(self, traced: nn.Module, size: list[int]) -> None:
        super().__init__()
        self.traced = traced
        self.size: list[int] = size

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        if list(clips.shape)[1:] != self.size:
            raise ValueError(f"this program takes clips [B, T, H, W, 3] with {self.size} after B, got {list(clips.shape)}")
        return self.traced(clips)


def _as_text(metadata: dict[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in metadata.items()}


WRITERS: dict[str, Callable[[_Program, Tensor, Path, dict[str, Any]], None]] = {
    "pt2": _write_pt2,
    "aoti": _write_aoti,
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
}
