"""Programs of `vie program`: a model.pt2 file runs without the code of its model. Normalization is inside it."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from ..clip_spec import ClipSpec
from ..names import unknown_name
from ..weights.programs import METADATA
from .protocol import OUTPUT


class Program(nn.Module):
    """A program as an encoder (see `VideoEncoder`). Its layers are those that it was written with."""

    def __init__(self, module: nn.Module, metadata: dict[str, Any], name: str) -> None:
        super().__init__()
        self.module, self.model_name = module, name
        spec = ClipSpec.from_dict(metadata["clip_spec"])
        self.clip_spec = dataclasses.replace(spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.layer_names = [layer for layer in metadata["outputs"] if layer != OUTPUT]
        self.source = {"program of vie_models": metadata["vie_models"]}
        self._whole = metadata["pixels"] == "uint8"

    def train(self, mode: bool = True) -> Program:
        """A program has one mode, that of evaluation."""
        return self

    def check_layers(self, layers: str | Iterable[str]) -> list[str]:
        """Returns names of layers as a list. Raises ValueError for one that the program does not give."""
        layers = [layers] if isinstance(layers, str) else list(layers)
        for layer in {*layers} - {*self.layer_names, OUTPUT}:
            raise unknown_name(f"layer of {self.model_name}", layer, self.layer_names)
        return layers

    def forward(self, x: Tensor) -> Tensor:
        """Clips [B, 3, T, H, W], from 0 to 1 -> embeddings [B, D]."""
        return self.forward_layers(x, [OUTPUT])[OUTPUT]

    def forward_layers(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """Returns the named layers of clips [B, 3, T, H, W], from 0 to 1; "output" is the embedding."""
        pixels = x.permute(0, 2, 3, 4, 1).contiguous()
        maps = self.module((255 * pixels).round().to(torch.uint8) if self._whole else pixels)
        return {name: maps[name] for name in self.check_layers(layers)}


def load_program(path: Path) -> Program:
    """Loads a program that `vie program` wrote. Nothing in it is unpickled but tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no program of `vie program`, or it holds pickled objects.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no program {path}: write one with `vie program MODEL {path}`")
    content = path.read_bytes()
    extra: dict[str, Any] = {METADATA: ""}
    try:
        _check_pickles(content)
        program = torch.export.load(io.BytesIO(content), extra_files=extra)
        return Program(program.module(), json.loads(extra[METADATA]), str(path))
    except (zipfile.BadZipFile, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no program that can be loaded ({error}): write it again with `vie program`") from error


def _check_pickles(content: bytes) -> None:
    """Raises ValueError if torch.export.load would unpickle anything of a program but tensors. It would run code in it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            file = Path(name).name
            if file.startswith(("custom_obj", "opaque_obj")):
                raise ValueError(f"it holds the pickled object {file}")
            if file.endswith(".pt"):
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except UnpicklingError as error:  # its text tells how to run the code all the same
                    raise ValueError(f"{file} holds more than tensors") from error
            if file.endswith("_config.json"):
                for payload in json.loads(archive.read(name))["config"].values():
                    if payload.get("use_pickle"):
                        raise ValueError(f"it holds the pickled tensor {payload.get('path_name')}")
