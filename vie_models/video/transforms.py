"""From frames to an encoder's input, with torchvision's transforms v2. All frames of a clip share one random draw.

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
    """The part of an encoder that transforms use."""

    clip_spec: ClipSpec


class ClipTransform:
    """The evaluation transform: uint8 [T, H, W, 3] -> float32 [3, T, crop, crop], normalised. Picklable.

    Resizes the short side to `spec.resize` pixels and crops a centre square of `spec.crop` pixels. Input of another shape or
    type raises ValueError.
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
        """uint8 [T, H, W, 3] -> uint8 [T, 3, crop, crop]: the first half of the transform, on each frame separately."""
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
    """A random view of a clip for training: uint8 [T, H, W, 3] -> float32 [3, T, crop, crop], normalised.

    "color_jitter" is the original's recipe for pre-training. It resizes the short side to a random length from 8/7 to 10/7 of
    the crop (256 to 320 for 224) and crops at random. It changes brightness, contrast, saturation and hue by up to 0.4 each,
    in random order. It makes the clip grey with probability 0.3, and mirrors it with probability 0.5.

    "multi_scale_crop" is the original's recipe for fine-tuning. It cuts a square at one of the four corners or the centre,
    whose side is the short side times 1, 0.841, 0.707, 0.595 or 0.5. It resizes the square to the crop, and mirrors it with
    probability 0.5.

    "random_crop" resizes, crops and mirrors as "color_jitter" does, and leaves colours unchanged.
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
        """uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]; only `generator` decides the draw (default: torch's global one)."""
        return self.normalise(self.crop(clip, generator))

    def crop(self, clip: Tensor | np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [T, H, W, 3] -> uint8 [T, 3, crop, crop]: the first half of the transform, with all its random steps."""
        frames = self._frames(clip)
        seed = int(torch.randint(2**62, (), generator=generator))
        state = torch.get_rng_state()  # torchvision draws from torch's global generator
        try:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU too, and record each call
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
    """Returns the evaluation transform of a model or a ClipSpec: uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]."""
    return ClipTransform(_spec(model_or_spec))


def train_transform(model_or_spec: HasClipSpec | ClipSpec, recipe: Recipe = "color_jitter") -> TrainTransform:
    """Returns a training transform of a model or a ClipSpec: uint8 [T, H, W, 3] -> float32 [3, T, crop, crop].

    `TrainTransform` describes the recipes. An unknown recipe raises ValueError.
    """
    return TrainTransform(_spec(model_or_spec), recipe)


def _spec(model_or_spec: HasClipSpec | ClipSpec) -> ClipSpec:
    return model_or_spec if isinstance(model_or_spec, ClipSpec) else model_or_spec.clip_spec
