"""Evaluation of a frozen encoder by kNN, and what other protocols share with it: the videos, their outputs and the results.

N training videos, V test videos, C clips each, D dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bank.ranks import World, world
from ..bank.voting import knn_of_rows
from ..datasets.lists import VideoList, class_names, read_list, warn_of_shared
from ..datasets.readable import check_readable
from ..encoders import VideoEncoder, load_encoder
from ..failures import check_failures
from ..models import MODELS
from ..models.weight_folder import BANK, hash_of_weights, read_bank
from ..weights import create_model, list_weights, load_memory_bank
from ..weights.store import load_weights
from .outputs import clip_outputs, gather_top
from .results import Results, Withheld, write_results
from .settings import Evaluation

Reader = Callable[..., dict[int, Tensor]]
"""Called as `clip_outputs`."""


def evaluate_knn(config: Evaluation, model: VideoEncoder | None = None, read: Reader = clip_outputs) -> Results:
    """Classifies the videos of val_list by kNN and writes results.json. Under torchrun, all processes call it.

    The neighbors are rows of the memory bank that came with the weights, or the videos of train_list. The embedding of a
    training video is the mean over its clips, normalized to unit length. An unreadable training video is left out; an
    unreadable test video counts as wrong. results.json counts both, as `train_unread` and `unread`. `model` and `read` are for
    `compare`, which loads a model once and reads videos once for several evaluations.

    Raises:
        TooManyFailuresError: a larger share of a list than `max_failed` is unreadable, or all of it.
        ValueError: a list has no labels, or there is neither a training list nor a bank.
        FileNotFoundError: a list, the weights or their memory bank does not exist.
    """
    with world(config.device) as ranks:
        model = encoder(config.model, config.weights, config.seed) if model is None else model
        val = labeled(config.val_list, config.root, config.max_failed)
        if config.bank:
            rows, labels = memory_bank(config.model, config.weights)
            unread = 0
        else:
            train = train_videos(config, val, ranks)
            which, rows = means(model, train, config, ranks, read, unit=True)
            rows, labels = F.normalize(rows, dim=1), train.labels[which]
            unread = len(train) - len(rows)
        outputs = read(model, val, share_of(val, ranks), **reading(config, ranks))
        blank = torch.zeros(0, config.clips, rows.shape[1], device="cpu")
        values = F.normalize(torch.stack(list(outputs.values())), dim=-1) if outputs else blank
        num_classes = int(max(labels.max(), val.labels.max())) + 1
        found = knn_of_rows(values, rows, labels, config.neighbors, config.temperature, num_classes, ranks)
        return finished(config, "knn", hash_of_weights(model), val, list(outputs), found.scores, ranks, unread)


def encoder(name: str, weights: Path | None, seed: int = 0) -> VideoEncoder:
    """Returns an encoder by name, in evaluation mode, with weights as in `Evaluation`. A VIE model without any is untrained."""
    with torch.device("cpu"):  # whatever the default device is
        if weights is not None:
            return load_weights(name, weights)
        if name not in MODELS:
            return load_encoder(name)
        torch.manual_seed(seed)
        return create_model(name).eval()


def memory_bank(name: str, weights: Path | None) -> tuple[Tensor, Tensor]:
    """Returns the rows [N, D] and labels [N] of the memory bank in a weight folder or a published weight set.

    Raises:
        FileNotFoundError: the weights have no memory bank.
    """
    published = weights is None or str(weights) in list_weights()
    bank = load_memory_bank(str(weights or name)) if published else read_bank(Path(str(weights)))
    if bank is None:
        raise FileNotFoundError(f"{weights} has no {BANK}: give a folder from `vie export` or `vie convert`, or a train list")
    return bank["memory_bank"], bank["labels"]


def labeled(file: Path, root: Path, max_failed: float) -> VideoList:
    """Reads a list of videos with labels that can be read."""
    videos = read_list(file, root)
    check_readable(videos, file, root, max_failed)
    if int(videos.labels.min()) < 0:
        raise ValueError(f"{file} has no labels: give lines `path frames label` or `path label`")
    return videos


def train_videos(config: Evaluation, val: VideoList, ranks: World) -> VideoList:
    """Reads the training list, and warns of videos that are in `val`, too."""
    if config.train_list is None:
        raise ValueError("give a train list of labeled videos (or, for kNN, bank=True to use the weights' memory bank)")
    train = labeled(config.train_list, config.root, config.max_failed)
    if ranks.is_first:
        warn_of_shared(train, val, root=config.root, names=(config.train_list, config.val_list))
    return train


def share_of(videos: VideoList, ranks: World) -> range:
    """Returns which videos this rank reads."""
    return range(ranks.rank, len(videos), ranks.size)


def reading(config: Evaluation, ranks: World) -> dict[str, Any]:
    """Returns the arguments of `clip_outputs` that say how videos are read."""
    return {
        "clips": config.clips,
        "placement": config.placement,
        "workers": config.workers,
        "dtype": config.dtype,
        "device": ranks.device,
        "layer": config.layer,
        "progress": ranks.is_first,
    }


def means(
    model: VideoEncoder, videos: VideoList, config: Evaluation, ranks: World, read: Reader = clip_outputs, unit: bool = False
) -> tuple[list[int], Tensor]:
    """Returns which videos could be read, and the model's outputs (or a layer) averaged over the clips of each, [N, D].

    With `unit`, outputs of clips are normalized to unit length before. Collective: all ranks call it.
    """
    outputs = read(model, videos, share_of(videos, ranks), **reading(config, ranks))
    own = {i: (F.normalize(x, dim=-1) if unit else x).mean(0) for i, x in outputs.items()}
    found = {i: x for part in ranks.gather_objects(own) for i, x in part.items()}
    check_failures(len(videos) - len(found), len(videos), config.max_failed, **_list_of(config, config.train_list))
    which = sorted(found)
    return which, torch.stack([found[i] for i in which])


def _list_of(config: Evaluation, file: Path | None) -> dict[str, str]:
    return {"what": f"videos of {file}", "remedy": f"paths start from --root {config.root}"}


def finished(
    config: Evaluation,
    protocol: str,
    weights: str,
    val: VideoList,
    which: list[int],
    scores: Tensor,
    ranks: World,
    train_unread: int,
    withheld: Withheld | None = None,
) -> Results:
    """Gathers the scores [v, K] of all ranks' videos, and writes the results."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in dataclasses.asdict(config).items()}
    about = {
        "task": protocol,
        "model": config.model,
        "weights": weights,
        "settings": settings,
        "train_unread": train_unread,
    }
    top, best = gather_top(which, {protocol: scores}, len(val), ranks)
    results = Results(about, [str(path) for path in val.paths], val.labels, top, class_names(config.val_list), best, withheld)
    check_failures(results.unread, len(val), config.max_failed, **_list_of(config, config.val_list))
    if ranks.is_first:
        write_results(config.out, results)
    return results
