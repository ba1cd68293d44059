"""Two-pathway weight sets: made of the folders of their two pathways, and written out with tensors of their own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from ..models import Encoder, WeightsError, two_pathway
from ..models.weight_folder import (
    BANK,
    CONFIG,
    MODEL,
    joined_tensors,
    load_folder,
    model_config,
    pathways,
    read_bank,
    read_config,
    read_tensors,
    write_json,
    write_tensors,
)


def join(static: Path, dynamic: Path, folder: Path) -> Encoder:
    """Makes a two-pathway set of two weight folders, and returns its encoder. Its config.json names the two; it has no copies.

    Raises:
        ValueError: no registered two-pathway model is made of these two.
        WeightsError: their memory banks are of different videos.
    """
    parts = {"static": static, "dynamic": dynamic}
    model = two_pathway(load_folder(static), load_folder(dynamic))
    banks = [part / BANK for part in parts.values() if (part / BANK).exists()]
    labels = [read_tensors(bank)["labels"] for bank in banks]
    if len(labels) == 2 and not torch.equal(*labels):
        raise WeightsError(f"{banks[0]} and {banks[1]} must be of the same videos, but their labels differ")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, BANK):  # left by an earlier set
        (folder / name).unlink(missing_ok=True)
    relative = {role: Path(os.path.relpath(part, folder)).as_posix() for role, part in parts.items()}
    write_json(folder / CONFIG, {**model_config(model), "pathways": relative})
    return model.eval()


def write_published(folder: Path, out: Path) -> None:
    """Copies a weight folder to `out`, as its Hub repository has it: a two-pathway set gets tensors of its own."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, out / path.name)
    if parts := pathways(folder):
        write_tensors(out / MODEL, joined_tensors(parts))
        write_json(out / CONFIG, published_config(folder))
        if (bank := read_bank(folder)) is not None:
            write_tensors(out / BANK, {**bank, "memory_bank": bank["memory_bank"].half()})


def published_config(folder: Path) -> dict[str, Any]:
    """Returns the config.json that the Hub repository of a weight folder has, which names no other folders."""
    return {key: value for key, value in read_config(folder / CONFIG).items() if key != "pathways"}
