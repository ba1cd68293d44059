"""A small fixed test of weights trained on moving textures: kNN accuracy on 96 videos, rendered in memory.

It checks the published numbers of the weights that come with the package, in seconds and without files.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from vie_models.bank.knn import knn_of_rows
from vie_models.datasets.moving_textures import FRAMES, MOTIONS, OBJECTS, draw_splits, render
from vie_models.models import Encoder
from vie_models.video.clips import test_clips
from vie_models.video.transforms import clip_transform

VIDEOS, CLIPS, NEIGHBOURS, TEMPERATURE = 96, 5, 10, 0.07


_rendered = functools.lru_cache(VIDEOS)(render)  # the same videos for every model


@torch.inference_mode()
def frozen_test(model: Encoder, bank: Tensor) -> dict[str, float]:
    """Returns the kNN top-1 accuracy, 0 to 1, for "object" and "motion", by votes of a memory bank [N, D].

    Row i of the bank must belong to training video i of `vie data moving-textures --videos N --seed 0`.
    """
    splits = draw_splits(len(bank))
    shown = splits["val"][:: max(1, len(splits["val"]) // VIDEOS)][:VIDEOS]
    transform, clips = clip_transform(model), test_clips(FRAMES, model.clip_spec, CLIPS)
    values = []
    for factors in shown:
        frames = _rendered(factors)
        values.append(model(torch.stack([transform(frames[list(clip.indices)]) for clip in clips])))
    found = {}
    for name, names, of in (("object", OBJECTS, "thing"), ("motion", MOTIONS, "motion")):
        labels, truth = (torch.tensor([getattr(f, of) for f in part]) for part in (splits["train"], shown))
        predictions = knn_of_rows(torch.stack(values), bank, labels, NEIGHBOURS, TEMPERATURE, len(names)).predictions
        found[name] = float((predictions == truth).float().mean())
    return found
