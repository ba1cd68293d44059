"""What a trained encoder is good for: linear readouts of its layers, and the settings of fine-tuning.

Source: Zhuang et al., CVPR 2020, section 4, and the original release. b clips, L readouts, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models import Encoder
from ...models.encoder import OUTPUT, new_head

MOST_VALUES = 200_000
"""Maps of more values than these are pooled before they are read out."""


def default_layers(encoder: Encoder) -> tuple[str, ...]:
    """The layers that the paper reads out; of both pathways together where there are two."""
    layers = ("encode_6", "encode_8", "encode_10")
    if "static.encode_6" in encoder.layer_names:
        return tuple(f"static.{layer}+dynamic.{layer}" for layer in layers)
    return layers


def readout_features(maps: Tensor) -> Tensor:
    """A layer's activations [b, C, T, H, W] -> what is read out, [b, n]: the mean over time, flattened.

    Where that would be over 200,000 values a clip, it is averaged over 2 x 2 pixels, and then, if it is still so, over 4 x 4.
    """
    x = maps.mean(2)
    for size in (2, 4):
        if x[0].numel() > MOST_VALUES:
            x = F.avg_pool2d(x, size)
    return x.flatten(1)


class LinearReadouts(Encoder):
    """Dense layers on layers of a frozen encoder, which stays in evaluation mode, whatever mode this is put in.

    Args:
        encoder: whose layers are read out.
        layers: their names; "a+b" reads out two of them together.
        num_classes: K.
    """

    def __init__(self, encoder: Encoder, layers: Sequence[str], num_classes: int) -> None:
        super().__init__()
        self.encoder, self.layers = encoder.eval().requires_grad_(False), tuple(layers)
        self.num_classes, self.clip_spec, self.layer_modules = num_classes, encoder.clip_spec, {}
        self.model_name, self.model_args = encoder.model_name, encoder.model_args
        spec, like = encoder.clip_spec, next(encoder.parameters())
        with torch.no_grad():
            features = self.features(torch.zeros(1, 3, spec.num_frames, spec.crop, spec.crop).to(like))
        self.heads = nn.ModuleList([new_head(x.shape[1], num_classes) for x in features])

    def train(self, mode: bool = True) -> LinearReadouts:
        super().train(mode)
        self.encoder.eval()
        return self

    def features(self, x: Tensor) -> list[Tensor]:
        """[b, 3, T, H, W] -> what each readout is given, [b, n] each."""
        names = [layer.split("+") for layer in self.layers]
        with torch.no_grad():
            maps = self.encoder.forward_intermediates(x, sorted({name for group in names for name in group}))
        return [torch.cat([readout_features(maps[name]) for name in group], dim=1) for group in names]

    def forward(self, x: Tensor) -> Tensor:
        """[b, 3, T, H, W] -> logits [b, L, K]."""
        return torch.stack([head(f) for head, f in zip(self.heads, self.features(x), strict=True)], dim=1)

    def forward_intermediates(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        return {OUTPUT: self(x)}
