"""Validation during training and at its end: the fraction of videos of a list whose predicted class is their label.

V videos, C clips each, K classes.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..bank.ranks import World
from ..bank.voting import knn
from ..datasets.lists import VideoList, class_names, read_list
from ..evaluate.outputs import clip_outputs, gather_top
from ..evaluate.results import UNREAD, Results
from ..models import Encoder
from ..models.weight_folder import hash_of_weights
from ..video.transforms import clip_transform
from .loading import ClipDataset, loader
from .objectives.instance import InstanceObjective
from .objectives.objective import Objective
from .objectives.pretext import PretextObjective
from .objectives.supervised import LinearReadouts
from .settings import TrainConfig


def validation_videos(config: TrainConfig, labels: Tensor) -> VideoList | None:
    """Returns the videos of `config.val_list`, or None. Raises ValueError if they lack labels that the objective needs."""
    if config.val_list is None:
        return None
    videos = read_list(config.val_list, config.root)
    if config.objective in ("rotation", "order"):
        return videos
    if int(videos.labels.min()) < 0 or int(labels.max()) < 0:
        raise ValueError(
            f"validation needs labels in {config.val_list} and in {config.train_list}: give lines `path frames label`"
        )
    if config.objective != "vie" and int(videos.labels.max()) > int(labels.max()):
        raise ValueError(
            f"{config.val_list} has label {int(videos.labels.max())}, but the highest label in {config.train_list} is "
            f"{int(labels.max())}: validation videos must have classes of the training list"
        )
    return videos


def validate(
    config: TrainConfig, network: Encoder, objective: Objective, videos: VideoList, labels: Tensor, ranks: World
) -> tuple[Results, dict[str, Any]]:
    """Returns the predictions for `videos` and their metrics, the same on all ranks. Collective: all ranks call it.

    The objective decides how videos are classified: instance learning by votes of the nearest bank rows (`knn`); `supervised`,
    and each readout under the name of its layers, by the mean of the clips' probabilities; pretext tasks by one random clip of
    each video, in a fixed view. Each rank reads its share of the videos. A video that cannot be read counts as wrong, and
    `val_failed` counts it.

    Args:
        config: settings of the run.
        network: the network in training; it is in evaluation mode afterwards.
        objective: objective of the run.
        videos: the validation videos.
        labels: labels of the training videos, int64 [N].
        ranks: the processes of the run.
    """
    began = time.monotonic()
    local = list(range(len(videos)))[ranks.rank :: ranks.size]
    if isinstance(objective, PretextObjective):
        which, scores = _of_views(config, network, objective, videos, local, ranks)
        truth = torch.arange(len(videos), device="cpu") % objective.num_views
        truth = objective.classes(truth)
    else:
        which, scores = _of_clips(config, network, objective, videos, labels, local, ranks)
        truth = videos.labels
    top = gather_top(which, scores, len(videos), ranks)
    about = {
        "task": config.objective,
        "model": config.model,
        "weights": hash_of_weights(network),
        "step": config.steps,
        "settings": config.to_dict(),
    }
    results = Results(
        about, [str(path) for path in videos.paths], truth, top, class_names(config.val_list or config.train_list)
    )
    failed = int((next(iter(top.values()))[:, 0] == UNREAD).sum())
    accuracies = {"top1" if name in _PLAIN else f"{name}_top1": float(results.hits(name).mean()) for name in top}
    seconds = round(time.monotonic() - began, 2)
    return results, {**accuracies, "val_videos": len(videos), "val_failed": failed, "val_seconds": seconds}


_PLAIN = ("supervised", "rotation", "order")  # a run with one of these protocols has no other


def _of_clips(
    config: TrainConfig,
    network: Encoder,
    objective: Objective,
    videos: VideoList,
    labels: Tensor,
    local: list[int],
    ranks: World,
) -> tuple[list[int], dict[str, Tensor]]:
    """Returns which of this rank's videos could be read, and their scores [V, K] by each protocol."""
    outputs = clip_outputs(
        network,
        videos,
        local,
        clips=config.val_clips,
        placement=config.val_placement,
        workers=config.workers,
        dtype=config.dtype,
        device=ranks.device,
    )
    which = list(outputs)
    num_classes = int(max(labels.max(), videos.labels.max())) + 1
    if isinstance(objective, InstanceObjective):
        blank = torch.zeros(0, config.val_clips, objective.bank.dim, device="cpu")
        values = torch.stack(list(outputs.values())) if which else blank
        votes = knn(values, objective.bank, labels, k=config.neighbors, temperature=config.temperature, num_classes=num_classes)
        return which, {"knn": votes.scores}
    shape = (len(network.layers), num_classes) if isinstance(network, LinearReadouts) else (num_classes,)
    values = torch.stack(list(outputs.values())) if which else torch.zeros(0, config.val_clips, *shape, device="cpu")
    scores = values.softmax(-1).mean(1)
    if isinstance(network, LinearReadouts):
        return which, dict(zip(network.layers, scores.unbind(1), strict=True))
    return which, {config.objective: scores}


def _of_views(
    config: TrainConfig, network: Encoder, objective: PretextObjective, videos: VideoList, local: list[int], ranks: World
) -> tuple[list[int], dict[str, Tensor]]:
    """Returns the same for pretext tasks. The network sees video i in view i modulo the number of views."""
    dataset = ClipDataset(videos, network.clip_spec, recipe=config.augmentation, seed=config.seed)
    normalize = clip_transform(network).normalize
    size = config.batch_size // ranks.size
    batches = [[(0, i) for i in local[start : start + size]] for start in range(0, len(local), size)]
    which, scores = [], [torch.zeros(0, network.num_classes or 0, device="cpu")]
    network.eval()
    for batch in loader(dataset, batches, clips=size, workers=min(config.workers, 4), device=ranks.device):
        there = batch.indices >= 0
        if not there.any():
            continue
        drawn = batch.indices[there] % objective.num_views
        which += batch.indices[there].tolist()
        with torch.no_grad():
            x = normalize(objective.view(batch.frames[there], drawn).to(ranks.device))
            scores.append(network(x).softmax(-1).cpu())
    return which, {config.objective: torch.cat(scores)}
