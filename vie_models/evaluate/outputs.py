"""Outputs of an encoder for the clips of a list's videos, on one process or many.

V videos, C clips each, K classes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..bank.ranks import World
from ..clip_spec import Placement
from ..datasets.lists import VideoList
from ..encoders import VideoEncoder
from ..evaluate.results import UNREAD
from ..features.extractor import Extractor
from ..progress import Progress


def clip_outputs(
    network: VideoEncoder, videos: VideoList, which: Sequence[int], *, layer: str | None = None, **reading: Any
) -> dict[int, Tensor]:
    """Returns one of `layer_outputs`, which takes the same arguments: the network's own, or that of `layer`."""
    found = layer_outputs(network, videos, which, [] if layer is None else [layer], **reading)
    return {i: outputs[layer or "embedding"] for i, outputs in found.items()}


def layer_outputs(
    network: VideoEncoder,
    videos: VideoList,
    which: Sequence[int],
    layers: Sequence[str] = (),
    *,
    clips: int = 5,
    placement: Placement = "even",
    workers: int = 0,
    dtype: str = "float32",
    device: torch.device | None = None,
    progress: bool = False,
) -> dict[int, dict[str, Tensor]]:
    """Returns outputs of the network for some videos, for each video that can be read, by its index.

    They are "embedding", the network's output, and the layers, averaged over space and time, each [C, ...].
    Says on stderr which videos cannot be read, and why. The network is in evaluation mode afterwards.

    Args:
        network: the encoder, or a network around one.
        videos: the list.
        which: indices of the videos to read.
        layers: names of layers.
        clips: C, number of clips per video.
        placement: where they lie, as in `Extractor`.
        workers: number of processes that read videos.
        dtype: precision of the network's arithmetic, "float32" or "bfloat16".
        device: device of the network.
        progress: show a progress bar, or a line a minute where there is no terminal.
    """
    extractor = Extractor(
        network,
        layers=layers,
        pool="avg" if layers else None,  # a readout's output has more axes
        clips=clips,
        placement=placement,
        workers=workers,
        dtype=getattr(torch, dtype),
        device=device,
    )
    found, failed = {}, []
    with Progress(len(which), "video", show=progress) as bar:
        for number, record, arrays in extractor.results([videos.paths[i] for i in which]):
            bar.update()
            if arrays is None:
                failed.append(f"failed: {record.path}: {record.reason}")
            else:
                found[which[number]] = {name: torch.from_numpy(arrays[name]) for name in ("embedding", *layers)}
    for line in failed:
        print(line, file=sys.stderr)
    return {i: found[i] for i in sorted(found)}


def gather_top(
    which: Sequence[int], scores: dict[str, Tensor], num_videos: int, ranks: World
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the most likely classes of all videos, [V, up to 5], by protocol, and their scores. All ranks call it.

    Args:
        which: indices of this rank's v videos.
        scores: their scores by each protocol, [v, K].
        num_videos: V.
        ranks: the processes that share the videos.
    """
    best = {name: tuple(x.cpu() for x in found.topk(min(5, found.shape[1]))) for name, found in scores.items()}
    top = {name: torch.full((num_videos, x.shape[1]), UNREAD, device="cpu") for name, (x, _) in best.items()}
    values = {name: torch.zeros(rows.shape, device="cpu") for name, rows in top.items()}
    for indices, found_there in ranks.gather_objects((list(which), best)):
        for name, (value, rows) in found_there.items():
            top[name][indices], values[name][indices] = rows, value.float()
    return top, values
