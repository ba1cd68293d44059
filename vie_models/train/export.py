"""Export of a run as a weight folder, which `from_pretrained` loads: the encoder, and its memory bank with labels."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..bank.memory_bank import interleaved
from ..datasets.lists import CLASSES, class_names
from ..files import replacing
from ..models import Encoder
from ..models.weight_folder import BANK, write_tensors
from ..weights import save_pretrained
from .checkpoint import CHECKPOINTS, Checkpoints
from .logs import read_metrics
from .objectives.factory import encoder_of, make_network
from .recipes import RECIPES, command_line, without_places
from .settings import TrainConfig

TRAINING = "training.json"


def export_run(run: Path, out: Path, dtype: torch.dtype = torch.float32) -> Encoder:
    """Writes the last checkpoint of a run as a weight folder and returns its encoder, in evaluation mode.

    The folder has config.json, model.safetensors and training.json (settings, command, step, last validation). If the run has a
    memory bank, the folder also has bank.safetensors (`memory_bank` [N, 128], `labels` [N]). If there is a classes.txt beside
    the training list, it is copied.

    Args:
        run: folder of the run.
        out: folder to write.
        dtype: data type of the weights and the memory bank.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        DamagedCheckpointError: every checkpoint of the run is damaged.
    """
    newest = Checkpoints(run / CHECKPOINTS).newest()
    if newest is None:
        raise FileNotFoundError(f"there is no checkpoint in {run / CHECKPOINTS}: is {run} the folder of a `vie train` run?")
    state = newest.state()
    config = TrainConfig.from_dict(state["config"])
    network = make_network(config, int(state["labels"].max()) + 1)
    network.load_state_dict(state["model"])
    model = encoder_of(network).eval().to(dtype)
    save_pretrained(model, out)
    if parts := newest.parts():
        bank = interleaved([part["rows"] for part in parts])
        write_tensors(out / BANK, {"memory_bank": bank.to(dtype), "labels": state["labels"]})
    if names := class_names(config.train_list):
        with replacing(out / CLASSES) as path:
            path.write_text("".join(f"{name}\n" for name in names))
    validations = [line for line in read_metrics(run) if "val_videos" in line and line["step"] <= state["step"]]
    config = without_places(config)
    summary = {
        "step": state["step"],
        "command": command_line(config) if config.model in RECIPES else None,
        "validation": validations[-1] if validations else None,
        "settings": config.to_dict(),
    }
    with replacing(out / TRAINING) as path:
        path.write_text(json.dumps(summary, indent=2) + "\n")
    return model
