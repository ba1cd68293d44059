"""From frames to an encoder's input, on torchvision's transforms v2.

T time, H height, W width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..clip_spec import ClipSpec
from ..models import Encoder


class ClipTransform:
    """The evaluation transform of a ClipSpec: short side resized, centre crop, scaled to [0, 1], normalised. Picklable."""

    def __init__(self, spec: ClipSpec) -> None:
        from torchvision.transforms import v2

        self.spec = spec
        self._steps = v2.Compose(
            [
                v2.Resize(spec.resize, v2.InterpolationMode(spec.interpolation), antialias=True),
                v2.CenterCrop(spec.crop),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(spec.mean, spec.std),
            ]
        )

    def __call__(self, clip: Tensor | np.ndarray) -> Tensor:
        """uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]."""
        clip = torch.as_tensor(clip)
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != torch.uint8 or not clip.numel():
            raise ValueError(f"a clip is uint8 [T, H, W, 3], got {clip.dtype} {list(clip.shape)}")
        frames = self._steps(clip.permute(0, 3, 1, 2))  # [T, 3, crop, crop]
        return frames.transpose(0, 1).contiguous()

    def __repr__(self) -> str:
        return f"ClipTransform({self.spec})"


def clip_transform(model_or_spec: Encoder | ClipSpec) -> ClipTransform:
    """The evaluation transform for a model, or for a ClipSpec: uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]."""
    return ClipTransform(model_or_spec if isinstance(model_or_spec, ClipSpec) else model_or_spec.clip_spec)
