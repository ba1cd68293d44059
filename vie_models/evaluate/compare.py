"""Compares encoders, of any package: kNN and logistic regression on the same videos, for each model and layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..datasets.lists import VideoList
from ..encoders import VideoEncoder, load_encoder
from ..models import MODELS
from ..weights.catalog import find_record
from .outputs import layer_outputs
from .probe import fit_probe
from .protocols import evaluate_knn
from .report import report
from .settings import Comparison, Evaluation, Probing

_SHARED = ("train_list", "val_list", "root", "clips", "workers", "dtype", "device", "max_failed")


def compare(config: Comparison) -> str:
    """Evaluates every model and layer, and returns the table as Markdown, with 95 % intervals.

    A model is loaded once, and its videos are read once. Both protocols see the same features. Writes OUT/report.md and its
    picture, OUT/report.png, and OUT/MODEL/LAYER/PROTOCOL/results.json.

    Raises:
        ValueError: no model has one of the layers, or as `evaluate_knn` and `fit_probe`.
        TooManyFailuresError: a larger share of a list than `max_failed` is unreadable, or all of it.
        FileNotFoundError: a list or a model does not exist.
    """
    shared = {name: getattr(config, name) for name in _SHARED}
    missing = list(config.layers)
    for name in config.encoders:
        if name in MODELS:
            name = find_record(name, "").name  # its published weights
        with torch.device("cpu"):  # whatever the default device is
            model = load_encoder(name)
        layers = [layer for layer in config.layers if layer in model.layer_names]
        missing = [layer for layer in missing if layer not in layers]
        read = _Remembered(layers)
        for layer in (None, *layers):
            out = config.out / re.sub(r"[^\w.-]+", "-", name) / (layer or "output")
            evaluate_knn(Evaluation(model=name, layer=layer, out=out / "knn", **shared), model, read)
            fit_probe(Probing(model=name, layer=layer, out=out / "logistic", **shared), model, read, save=False)
    if missing:
        raise ValueError(f"none of the models has the layer {missing[0]}; `vie info MODEL` lists those of each")
    return report([config.out], config.out / "report.md")


class _Remembered:
    """Reads each list once, for all layers; called as `clip_outputs`."""

    def __init__(self, layers: Sequence[str]) -> None:
        self._layers = layers
        self._found: dict[tuple[Any, ...], dict[int, dict[str, Tensor]]] = {}

    def __call__(
        self, model: VideoEncoder, videos: VideoList, which: Sequence[int], *, layer: str | None, **reading: Any
    ) -> dict[int, Tensor]:
        key = (*videos.paths, *which)
        if key not in self._found:
            self._found[key] = layer_outputs(model, videos, which, self._layers, **reading)
        return {number: found[layer or "embedding"] for number, found in self._found[key].items()}
