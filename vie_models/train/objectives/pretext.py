"""The pretext tasks that the paper trains again beside VIE: telling how a clip was turned, and in what order frames come.

Their labels are drawn, for each clip of a step, as a function of the seed and the step alone.
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
from ...models.encoder import OUTPUT
from ..seeds import generator
from .objective import Objective

ORDERS = list(permutations(range(4)))
"""The 24 orders of 4 frames."""
_CLASSES = sorted({min(order, order[::-1]) for order in ORDERS})
CLASS_OF_ORDER = [_CLASSES.index(min(order, order[::-1])) for order in ORDERS]
"""An order and its reverse are one of 12 classes: what is seen forwards may as well happen backwards."""


class PretextObjective(Objective):
    """Cross-entropy of what was drawn for each clip. Methods are collective.

    Args:
        seed: of the draws.
        world: the ranks.
    """

    num_views: int
    """How many views there are to be drawn from."""

    def __init__(self, seed: int, world: World) -> None:
        self.seed, self.world = seed, world
        self._drawn = torch.zeros(0, dtype=torch.int64)

    def begin_step(self, step: int, batch_size: int) -> None:
        self._drawn = self.world.own(torch.randint(self.num_views, (batch_size,), generator=generator(self.seed, step)))

    def views(self, frames: Tensor, part: slice) -> Tensor:
        return self.view(frames, self._drawn[part])

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        return F.cross_entropy(output, self.classes(self._drawn[part]).to(output.device), reduction="none")

    def view(self, frames: Tensor, drawn: Tensor) -> Tensor:
        """uint8 [b, T, 3, S, S] and which view of each clip [b] -> the views, of the same shape."""
        raise NotImplementedError

    def classes(self, drawn: Tensor) -> Tensor:
        """The label of each view, [b]."""
        raise NotImplementedError


class RotationObjective(PretextObjective):
    """3DRotNet: by how many quarter turns, counter-clockwise, all frames of a clip were turned: 4 classes."""

    num_views = 4

    def view(self, frames: Tensor, drawn: Tensor) -> Tensor:
        return torch.stack([clip.rot90(turns, (-2, -1)) for clip, turns in zip(frames, drawn.tolist(), strict=True)])

    def classes(self, drawn: Tensor) -> Tensor:
        return drawn


class OrderObjective(PretextObjective):
    """OPN: in which of 12 orders, a reversed one being the same, 4 frames of a video come."""

    num_views = len(ORDERS)

    def view(self, frames: Tensor, drawn: Tensor) -> Tensor:
        return torch.stack([clip[list(ORDERS[order])] for clip, order in zip(frames, drawn.tolist(), strict=True)])

    def classes(self, drawn: Tensor) -> Tensor:
        return torch.tensor(CLASS_OF_ORDER)[drawn]


class OrderClassifier(Encoder):
    """The network of OPN: a 2-D encoder on each of 4 frames, features of all 6 pairs of frames, and 12 logits.

    Ours, as the release does not say how it was done: frames are 8 of 25 a second apart; what is common to a video's frames,
    which says nothing of their order, is taken off their features; those of pairs are batch-normalised, and begin as
    differences of the two frames: a short training that begins with their sums finds nothing.

    Args:
        encoder: VIE-Single with num_classes=0.
        pair_size: features of a pair.
    """

    num_classes = len(_CLASSES)

    def __init__(self, encoder: Encoder, pair_size: int = 128) -> None:
        super().__init__()
        if encoder.clip_spec.num_frames != 1 or encoder.num_classes != 0:
            raise ValueError("the order of frames is told by a model of single frames (vie_single, vie_single_tiny)")
        self.encoder = encoder
        self.model_name, self.model_args, self.layer_modules = encoder.model_name, encoder.model_args, {}
        self.clip_spec = dataclasses.replace(encoder.clip_spec, num_frames=4, frame_interval=8, placement="ends")
        self.pairs = nn.Linear(2 * encoder.num_features, pair_size, bias=False)
        with torch.no_grad():
            self.pairs.weight[:, encoder.num_features :] = -self.pairs.weight[:, : encoder.num_features]
        self.norm = nn.BatchNorm1d(pair_size)
        self.head = nn.Linear(6 * pair_size, len(_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, 4, H, W] -> [B, 12]."""
        frames = self.encoder(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, 4))  # [B, 4, F]
        frames = frames - frames.mean(1, keepdim=True)
        pairs = torch.stack([torch.cat([frames[:, i], frames[:, j]], dim=1) for i, j in combinations(range(4), 2)], dim=1)
        found = self.norm(self.pairs(pairs).flatten(0, 1)).unflatten(0, (-1, 6))  # [B, 6, pair_size]
        return self.head(F.relu(found).flatten(1))

    def forward_intermediates(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        return {OUTPUT: self(x)}
