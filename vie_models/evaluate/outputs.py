"""What an encoder gives for the clips of a list's videos, on one process or many.

V videos, C clips each, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..bank.ranks import World
from ..datasets.lists import VideoList
from ..evaluate.results import UNREAD
from ..features.extractor import Extractor
from ..models import Encoder


def clip_outputs(
    network: Encoder,
    videos: VideoList,
    which: Sequence[int],
    *,
    clips: int = 5,
    workers: int = 0,
    dtype: str = "float32",
    device: torch.device | None = None,
) -> dict[int, Tensor]:
    """What the network gives for the evenly placed clips of some of the videos, [C, ...] for each that can be read.

    The network is in evaluation mode afterwards.
    """
    extractor = Extractor(
        network, pool=None, clips=clips, workers=min(workers, 4), dtype=getattr(torch, dtype), device=device
    )  # fmt: skip
    results = extractor.results([videos.paths[i] for i in which])
    found = {which[number]: torch.from_numpy(arrays["embedding"]) for number, _, arrays in results if arrays is not None}
    return {i: found[i] for i in sorted(found)}


def gather_top(which: Sequence[int], scores: dict[str, Tensor], num_videos: int, ranks: World) -> dict[str, Tensor]:
    """All ranks' most likely classes, [V, up to 5], from each rank's scores [v, K] of the videos `which`. Collective."""
    best = {name: found.topk(min(5, found.shape[1])).indices.cpu() for name, found in scores.items()}
    top = {name: torch.full((num_videos, rows.shape[1]), UNREAD) for name, rows in best.items()}
    for indices, rows in ranks.gather_objects((list(which), best)):
        for name, found in rows.items():
            top[name][indices] = found
    return top
