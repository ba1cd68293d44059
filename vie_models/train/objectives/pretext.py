"""The pretext tasks that the paper compares with VIE: predicting how a clip was turned, and in what order its frames come.

Labels are drawn for each clip of a step, as a function of the seed and the step alone.
Source: Jing et al., "Self-Supervised Spatiotemporal Feature Learning via Video Rotation Prediction", 2018 (3DRotNet); Lee et
al., "Unsupervised Representation Learning by Sorting Sequences", ICCV 2017 (OPN).

b clips of this rank's batch, T time, S side, F features of a frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bank.ranks import World
from ...models import Encoder
from ..seeds import generator
from .objective import Objective

ORDERS = list(permutations(range(4)))
"""The 24 orders of 4 frames."""
_CLASSES = sorted({min(order, order[::-1]) for order in ORDERS})
CLASS_OF_ORDER = [_CLASSES.index(min(order, order[::-1])) for order in ORDERS]
"""Class of each order, 12 in all. An order and its reverse are one class: most motions are as plausible backwards."""


class PretextObjective(Objective):
    """Cross-entropy with the label of the view that was drawn for each clip. Methods are collective: all ranks call them.

    Args:
        seed: seed for the draws.
        world: the processes of the run.
    """

    num_views: int
    """Number of views to draw from."""

    def __init__(self, seed: int, world: World) -> None:
        self.seed, self.world = seed, world
        self._drawn = torch.zeros(0, dtype=torch.int64, device="cpu")

    def begin_step(self, step: int, batch_size: int) -> None:
        self._drawn = self.world.local(
            torch.randint(self.num_views, (batch_size,), generator=generator(self.seed, step), device="cpu")
        )

    def views(self, frames: Tensor, part: slice) -> Tensor:
        return self.view(frames, self._drawn[part])

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        return F.cross_entropy(output, self.classes(self._drawn[part]).to(output.device), reduction="none")

    def view(self, frames: Tensor, drawn: Tensor) -> Tensor:
        """Returns a view of each clip, uint8 [b, T, 3, S, S]. `frames` has the same shape; `drawn` [b] says which view."""
        raise NotImplementedError

    def classes(self, drawn: Tensor) -> Tensor:
        """Returns the label of each view, [b]."""
        raise NotImplementedError


class RotationObjective(PretextObjective):
    """3DRotNet: the label is the number of counter-clockwise quarter turns of a clip, 4 classes."""

    num_views = 4

    def view(self, frames: Tensor, drawn: Tensor) -> Tensor:
        return torch.stack([clip.rot90(turns, (-2, -1)) for clip, turns in zip(frames, drawn.tolist(), strict=True)])

    def classes(self, drawn: Tensor) -> Tensor:
        return drawn


class OrderObjective(PretextObjective):
    """OPN: the label is the order of 4 frames of a video, 12 classes. An order and its reverse are the same class."""

    num_views = len(ORDERS)

    def view(self, frames: Tensor, drawn: Tensor) -> Tensor:
        return torch.stack([clip[list(ORDERS[order])] for clip, order in zip(frames, drawn.tolist(), strict=True)])

    def classes(self, drawn: Tensor) -> Tensor:
        return torch.tensor(CLASS_OF_ORDER, device="cpu")[drawn]


class OrderClassifier(Encoder):
    """The network of OPN: a 2-D encoder for each of 4 frames, features of all 6 pairs of frames, and 12 logits.

    The release does not describe its network, so these choices are ours. Frames are 8/25 s apart. The mean over a video's
    frames, which says nothing about their order, is subtracted from the features. Features of pairs are batch-normalized.
    They start as differences of the two frames, because a short training that starts with sums learns nothing.

    Args:
        encoder: VIE-Single with num_classes=0.
        pair_size: number of features of a pair.

    Raises:
        ValueError: the encoder takes more than one frame, or has a head.
    """

    num_classes = len(_CLASSES)

    def __init__(self, encoder: Encoder, pair_size: int = 128) -> None:
        super().__init__()
        if encoder.clip_spec.num_frames != 1 or encoder.num_classes != 0:
            raise ValueError("objective='order' needs a model of single frames: choose vie_single or vie_single_tiny")
        self.encoder = encoder
        self.model_name, self.model_args, self.layer_modules = encoder.model_name, encoder.model_args, {}
        self.clip_spec = dataclasses.replace(encoder.clip_spec, num_frames=4, frame_interval=8, placement="ends")
        self.pairs = nn.Linear(2 * encoder.num_features, pair_size, bias=False)
        with torch.no_grad():
            self.pairs.weight[:, encoder.num_features :] = -self.pairs.weight[:, : encoder.num_features]
        self.norm = nn.BatchNorm1d(pair_size)
        self.head = nn.Linear(6 * pair_size, len(_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [B, 12] for clips [B, 3, 4, H, W]."""
        frames = self.encoder(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, 4))  # [B, 4, F]
        frames = frames - frames.mean(1, keepdim=True)
        pairs = torch.stack([torch.cat([frames[:, i], frames[:, j]], dim=1) for i, j in combinations(range(4), 2)], dim=1)
        found = self.norm(self.pairs(pairs).flatten(0, 1)).unflatten(0, (-1, 6))  # [B, 6, pair_size]
        return self.head(F.relu(found).flatten(1))

    def forward_layers(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """It has no layers but its output."""
        return {name: self(x) for name in self.check_layers(layers)}
