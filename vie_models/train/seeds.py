"""Where everything random in training comes from."""

from __future__ import annotations

import numpy as np
import torch


def generator(*numbers: int) -> torch.Generator:
    """A generator for a run's seed and what the draw is for (a step; an epoch; an epoch and a video).

    Neighbouring numbers give unrelated draws.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator().manual_seed(seed)
