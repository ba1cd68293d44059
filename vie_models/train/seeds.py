"""The random generators of training, each a function of numbers such as the seed and the step."""

from __future__ import annotations

import numpy as np
import torch


def generator(*numbers: int) -> torch.Generator:
    """Returns a generator seeded by all `numbers`. Neighboring numbers give unrelated draws.

    Args:
        numbers: the run's seed and what the draw is for: a step, an epoch, or an epoch and a video.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator().manual_seed(seed)
