"""From frames to an encoder's input, on torchvision's transforms v2. One draw serves all frames of a clip.

T time, H height, W width.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ..clip_spec import ClipSpec

MULTI_SCALES = (1.0, 0.841, 0.707, 0.595, 0.5)
Recipe = Literal["color_jitter", "multi_scale_crop", "random_crop"]


class HasClipSpec(Protocol):
    """An encoder, as far as transforms know one."""

    clip_spec: ClipSpec


class ClipTransform:
    """uint8 [T, H, W, 3] -> float32 [3, T, crop, crop], normalised. Picklable. The steps are those of evaluation.

    Short side resized to `spec.resize`, centre crop of `spec.crop`.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self.spec = spec
        self._normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec.mean, spec.std)])
        self._crop = v2.Compose([v2.Resize(spec.resize, self._interpolation, antialias=True), v2.CenterCrop(spec.crop)])

    @property
    def _interpolation(self) -> v2.InterpolationMode:
        return v2.InterpolationMode(self.spec.interpolation)

    def __call__(self, clip: Tensor | np.ndarray) -> Tensor:
        """uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]."""
        return self.normalise(self.crop(clip))

    def crop(self, clip: Tensor | np.ndarray) -> Tensor:
        """uint8 [T, H, W, 3] -> uint8 [T, 3, crop, crop]: the first half of the way. Each frame by itself."""
        return self._crop(self._frames(clip))

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 [..., T, 3, H, W] -> float32 [..., 3, T, H, W]: the second half, for one clip or a batch, on any device."""
        return self._normalise(frames).transpose(-4, -3).contiguous()

    def _frames(self, clip: Tensor | np.ndarray) -> Tensor:
        """[T, H, W, 3] -> [T, 3, H, W]."""
        clip = torch.as_tensor(clip)
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != torch.uint8 or not clip.numel():
            raise ValueError(f"a clip is uint8 [T, H, W, 3], got {clip.dtype} {list(clip.shape)}")
        return clip.permute(0, 3, 1, 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec})"


class TrainTransform(ClipTransform):
    """A random view of a clip, by one of the original's two recipes, or by the first without its colours.

    "color_jitter" (pre-training): short side resized to a random length from 8/7 to 10/7 of the crop (256 to 320 for 224),
    random crop; brightness, contrast and saturation changed by up to 0.4, hue by up to 0.4, in random order; grey with
    probability 0.3; mirrored with probability 0.5.

    "multi_scale_crop" (fine-tuning): a square at one of the four corners or the centre, its side the short side times 1,
    0.841, 0.707, 0.595 or 0.5, resized to the crop; mirrored with probability 0.5.

    "random_crop": the size, crop and mirroring of "color_jitter", and colours as they are.
    """

    def __init__(self, spec: ClipSpec, recipe: Recipe = "color_jitter") -> None:
        super().__init__(spec)
        self.recipe = recipe
        if recipe in ("color_jitter", "random_crop"):
            lengths = list(range(spec.crop * 8 // 7, spec.crop * 10 // 7 + 1))
            colours = [v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4), v2.RandomGrayscale(0.3)]
            self._crop = v2.Compose(
                [
                    v2.RandomShortestSize(lengths, interpolation=self._interpolation, antialias=True),
                    v2.RandomCrop(spec.crop),
                    *(colours if recipe == "color_jitter" else []),
                    v2.RandomHorizontalFlip(0.5),
                ]
            )
        elif recipe == "multi_scale_crop":
            self._crop = v2.Compose([self._multi_scale_crop, v2.RandomHorizontalFlip(0.5)])
        else:
            raise ValueError(f"recipe must be one of {', '.join(get_args(Recipe))}, got {recipe!r}")

    def __call__(self, clip: Tensor | np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]; the draw depends on `generator` alone (default: torch's own)."""
        return self.normalise(self.crop(clip, generator))

    def crop(self, clip: Tensor | np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [T, H, W, 3] -> uint8 [T, 3, crop, crop]: the first half of the way, and all that is random in it."""
        frames = self._frames(clip)
        seed = int(torch.randint(2**62, (), generator=generator))
        state = torch.get_rng_state()  # torchvision draws from torch's own generator
        try:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU too, and keep a note of each call
            return self._crop(frames)
        finally:
            torch.set_rng_state(state)

    def _multi_scale_crop(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        side = round(min(height, width) * MULTI_SCALES[int(torch.randint(len(MULTI_SCALES), ()))])
        down, right = height - side, width - side
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        top, left = corners[int(torch.randint(len(corners), ()))]
        size = [self.spec.crop, self.spec.crop]
        return functional.resized_crop(frames, top, left, side, side, size, self._interpolation, antialias=True)


def clip_transform(model_or_spec: HasClipSpec | ClipSpec) -> ClipTransform:
    """The evaluation transform for a model, or for a ClipSpec: uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]."""
    return ClipTransform(_spec(model_or_spec))


def train_transform(model_or_spec: HasClipSpec | ClipSpec, recipe: Recipe = "color_jitter") -> TrainTransform:
    """A training transform for a model, or for a ClipSpec: uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]."""
    return TrainTransform(_spec(model_or_spec), recipe)


def _spec(model_or_spec: HasClipSpec | ClipSpec) -> ClipSpec:
    return model_or_spec if isinstance(model_or_spec, ClipSpec) else model_or_spec.clip_spec
