"""Supervised classification: the paper's supervised baseline, fine-tuning, and linear readouts of a frozen encoder's layers.

Source of the readouts: Zhuang et al., CVPR 2020, section 4, and the original release. b clips, L readouts, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bank.ranks import World
from ...models import Encoder
from ...models.encoder import new_head
from .objective import Objective

MAX_VALUES = 200_000
"""Activations with more values than this per clip are pooled before they are read out."""


class SupervisedObjective(Objective):
    """Cross-entropy with the labels. With several readouts, their losses are added; each trains only its own layer.

    Args:
        labels: labels of all videos, [N].
        world: the processes of the run.
    """

    def __init__(self, labels: Tensor, world: World) -> None:
        self.labels = labels.to(world.device)

    def losses(self, step: int, output: Tensor, indices: Tensor, part: slice) -> Tensor:
        """Returns the loss of each clip, [b], from logits [b, K], or [b, L, K] of L readouts."""
        labels = self.labels[indices.clamp(min=0)]
        if output.ndim == 2:
            return F.cross_entropy(output, labels, reduction="none")
        return F.cross_entropy(output.transpose(1, 2), labels[:, None].expand(-1, output.shape[1]), reduction="none").sum(1)


def default_layers(encoder: Encoder) -> tuple[str, ...]:
    """Returns the layers that the paper reads out. For a two-pathway encoder, each joins both pathways."""
    layers = ("encode_6", "encode_8", "encode_10")
    if "static.encode_6" in encoder.layer_names:
        return tuple(f"static.{layer}+dynamic.{layer}" for layer in layers)
    return layers


def readout_features(maps: Tensor) -> Tensor:
    """Returns a layer's activations [b, C, T, H, W] as features [b, n]: averaged over time and flattened.

    Above 200,000 values per clip, they are averaged over 2 x 2 pixels. If that is still too many, they are then averaged over
    4 x 4 pixels.
    """
    x = maps.mean(2)
    for size in (2, 4):
        if x[0].numel() > MAX_VALUES:
            x = F.avg_pool2d(x, size)
    return x.flatten(1)


class LinearReadouts(Encoder):
    """Linear readouts of layers of a frozen encoder. The encoder always stays in evaluation mode.

    Args:
        encoder: the encoder to read out. Its parameters are frozen in place.
        layers: names of the layers; "a+b" joins two layers.
        num_classes: K.
    """

    def __init__(self, encoder: Encoder, layers: Sequence[str], num_classes: int) -> None:
        super().__init__()
        self.encoder, self.layers = encoder.eval().requires_grad_(False), tuple(layers)
        self.num_classes, self.clip_spec, self.layer_modules = num_classes, encoder.clip_spec, {}
        self.model_name, self.model_args = encoder.model_name, encoder.model_args
        spec, like = encoder.clip_spec, next(encoder.parameters())
        with torch.no_grad():
            features = self.features(torch.zeros(1, 3, spec.num_frames, spec.crop, spec.crop, device="cpu").to(like))
        self.heads = nn.ModuleList([new_head(x.shape[1], num_classes) for x in features])

    def train(self, mode: bool = True) -> LinearReadouts:
        super().train(mode)
        self.encoder.eval()
        return self

    def features(self, x: Tensor) -> list[Tensor]:
        """Returns the input of each readout, [b, n], for clips [b, 3, T, H, W]."""
        names = [layer.split("+") for layer in self.layers]
        with torch.no_grad():
            maps = self.encoder.forward_layers(x, sorted({name for group in names for name in group}))
        return [torch.cat([readout_features(maps[name]) for name in group], dim=1) for group in names]

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [b, L, K] for clips [b, 3, T, H, W]."""
        return torch.stack([head(f) for head, f in zip(self.heads, self.features(x), strict=True)], dim=1)

    def forward_layers(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """It has no layers but its output."""
        return {name: self(x) for name in self.check_layers(layers)}
