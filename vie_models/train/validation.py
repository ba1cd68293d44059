"""Validation during training: what fraction of the videos of a list get their label."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..extract import Extractor
from ..models import Encoder
from .data import VideoList, read_list
from .distributed import World
from .knn import knn
from .objectives import InstanceObjective, SupervisedObjective
from .recipes import TrainConfig


def validation_videos(config: TrainConfig, labels: Tensor) -> VideoList | None:
    """The videos of `config.val_list`, or None; ValueError unless they and the training videos have `labels`."""
    if config.val_list is None:
        return None
    videos = read_list(config.val_list, config.root)
    if int(videos.labels.min()) < 0 or int(labels.max()) < 0:
        raise ValueError(f"validation needs labels in {config.val_list} and in {config.train_list}: `path frames label`")
    return videos


def validate(
    config: TrainConfig,
    model: Encoder,
    objective: InstanceObjective | SupervisedObjective,
    videos: VideoList,
    labels: Tensor,
    ranks: World,
) -> dict[str, Any]:
    """Top-1 accuracy on `videos`: by the votes of the bank's nearest rows, or by the mean of the clips' probabilities.

    Collective; each rank reads its share of the videos. `labels` are the training videos'. A video that cannot be read counts
    as wrong, and in `val_failed`.
    """
    began = time.monotonic()
    mine = list(range(len(videos)))[ranks.rank :: ranks.size]
    extractor = Extractor(
        model, clips=config.val_clips, workers=min(config.workers, 4), dtype=getattr(torch, config.dtype), device=ranks.device
    )
    outputs: dict[int, np.ndarray] = {}
    for number, _, arrays in extractor.results([videos.paths[i] for i in mine]):
        if arrays is not None:
            outputs[mine[number]] = arrays["embedding"]
    which = sorted(outputs)
    width = objective.bank.dim if isinstance(objective, InstanceObjective) else model.num_classes
    values = torch.from_numpy(np.stack([outputs[i] for i in which])) if which else torch.zeros(0, config.val_clips, width or 0)
    if isinstance(objective, InstanceObjective):
        num_classes = int(max(labels.max(), videos.labels.max())) + 1
        predictions = knn(
            values, objective.bank, labels, k=config.neighbours, temperature=config.temperature, num_classes=num_classes
        ).predictions.cpu()
    else:
        predictions = values.softmax(-1).mean(1).argmax(1)
    right = int((predictions == videos.labels[which]).sum())
    right, read = ranks.sum(torch.tensor([right, len(which)])).tolist()
    kind = "knn_top1" if isinstance(objective, InstanceObjective) else "top1"
    return {
        kind: right / len(videos),
        "val_videos": len(videos),
        "val_failed": len(videos) - read,
        "val_seconds": round(time.monotonic() - began, 2),
    }
