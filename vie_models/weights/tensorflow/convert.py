"""Converts a TensorFlow checkpoint to an encoder or a weight folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ...models.encoder import Encoder
from ...models.registry import build_model
from ...models.weight_folder import BANK, assign_weights, save_pretrained, write_tensors
from ..catalog import WeightRecord
from .bundle import read_checkpoint
from .names import tf_memory_bank, tf_to_state_dict, tf_width


def convert_tensorflow(
    source: str | os.PathLike[str], folder: Path, model_name: str, *, record: WeightRecord | None = None, **sizes: Any
) -> Encoder:
    """Writes a TensorFlow checkpoint as a weight folder, with its memory bank if it has one. Returns the encoder."""
    variables = read_checkpoint(source)
    model = load_tensorflow(variables, model_name, source, **sizes)
    model.weights = record
    save_pretrained(model, folder)
    if (bank := tf_memory_bank(variables)) is not None:
        write_tensors(folder / BANK, bank)
    return model


def load_tensorflow(variables: Any, name: str, source: object, **sizes: Any) -> Encoder:
    """Builds the model `name` from TensorFlow variables, in evaluation mode. They set its width unless `sizes` do."""
    with torch.device("meta"):
        model = build_model(name, **{"width": tf_width(variables), **sizes})
    assign_weights(model, tf_to_state_dict(variables, model), source)
    return model.eval()
