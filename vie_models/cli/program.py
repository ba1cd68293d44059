"""`vie program`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from .arguments import command


@command(model="MODEL", out="OUT")
@dataclasses.dataclass(kw_only=True)
class Program:
    """Writes an encoder as a program for ONNX Runtime, PyTorch without this package, or C++.

    The program takes clips [B, T, H, W, 3] as `load_clip` gives them, resized and cropped, any number B at a time.
    Normalization is inside. What it expects and returns is written into its metadata.
    """

    model: str
    """Name of a model or weight set; `vie list` shows them."""
    out: Path
    """File to write, named *.pt2 or *.onnx."""
    format: Literal["pt2", "onnx"] = "pt2"
    """pt2: a program of torch.export. onnx: needs `pip install 'vie_models[export]'`."""
    layers: tuple[str, ...] = ()
    """Names of layers that the program returns besides the output; `vie info MODEL` lists them."""
    pixels: Literal["uint8", "float32"] = "uint8"
    """uint8: pixels from 0 to 255. float32: pixels from 0 to 1."""
    weights: Path | None = None
    """Your own weights: a folder, .safetensors, TensorFlow checkpoint or PyTorch state_dict. Default: the published weights."""

    def run(self) -> int:
        from ..weights.programs import export_model
        from ..weights.store import create_model

        model = create_model(self.model, pretrained=self.weights is None, checkpoint_path=self.weights)
        metadata = export_model(model, self.out, format=self.format, layers=self.layers, pixels=self.pixels)
        shapes = [f"{name} {_shape(shape)}" for name, shape in (metadata["input"] | metadata["outputs"]).items()]
        print(f"{self.out} ({self.out.stat().st_size:,} bytes): {shapes[0]} {self.pixels} -> {', '.join(shapes[1:])}")
        return 0


def _shape(sizes: list[int | None]) -> str:
    return f"[{', '.join('B' if size is None else str(size) for size in sizes)}]"
