"""From frames to an encoder's input, with torchvision's transforms v2. All frames of a clip share one random draw.

T time, H height, W width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Resize, v2
from torchvision.transforms import functional as functional_v1
from torchvision.transforms.v2 import functional

from ..clip_spec import Augmentation, ClipSpec, HasClipSpec, spec_of
from ..devices import to_device
from .color_jitter import change_colors, change_colors_affinely, draw_colors

MULTI_SCALES = (1.0, 0.841, 0.707, 0.595, 0.5)
SHARES, SHAPES = (0.2, 1.0), (3 / 4, 4 / 3)
"""Least and greatest area, as a share of the frame, and width over height of what "resized_crop" cuts out."""
COLOR_CHANGES = {
    "color_jitter": change_colors,
    "affine_jitter": change_colors_affinely,
    "resized_crop": change_colors_affinely,
}
"""What changes the colors of frames in place, for each recipe that does."""


class ClipTransform:
    """The evaluation transform: uint8 [T, H, W, 3] or [T, 3, H, W] -> float32 [3, T, crop, crop], normalized. Picklable.

    Resizes frames as `spec.resize` says and crops a center square of `spec.crop` pixels. Channels are the axis of
    length 3, the last one if both are (frames 3 pixels wide). Input of another shape or type raises ValueError.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self.spec = spec

    @property
    def _interpolation(self) -> v2.InterpolationMode:
        return v2.InterpolationMode(self.spec.interpolation)

    def __call__(self, clip: Tensor | np.ndarray) -> Tensor:
        """uint8 [T, H, W, 3] or [T, 3, H, W] -> float32 [3, T, crop, crop]."""
        return self.normalize(self.crop(clip))

    def crop(self, clip: Tensor | np.ndarray) -> Tensor:
        """uint8 [T, H, W, 3] or [T, 3, H, W] -> [T, 3, crop, crop]: the first half, on each frame separately.

        The result is uint8; float32, from 0 to 255, if the resampler is "unrounded".
        """
        frames, spec = self._frames(clip), self.spec
        frames = RESAMPLERS[spec.resampler](frames, list(spec.sides), self._interpolation, antialias=spec.antialias)
        margins = [length - spec.crop for length in frames.shape[-2:]]
        top, left = (margin // 2 if spec.center == "floor" else round(margin / 2) for margin in margins)
        return frames[..., top : top + spec.crop, left : left + spec.crop]

    def normalize(
        self, frames: Tensor, dtype: torch.dtype = torch.float32, memory_format: torch.memory_format = torch.contiguous_format
    ) -> Tensor:
        """[..., T, 3, H, W], 0 to 255 -> [..., 3, T, H, W] of a type and layout: the second half, for one clip or a batch.

        On a GPU it is one pass, a product and a sum in float32, which may differ from the CPU's in the last bit.
        """
        x = frames.transpose(-4, -3)
        mean, std, shift, scale = _constants(self.spec.mean, self.spec.std, x.device)
        if x.device.type == "cuda":
            out = torch.empty(x.shape, dtype=dtype, device=x.device, memory_format=memory_format)
            return torch.addcmul(shift, x, scale, out=out)
        x = x.to(torch.float32, memory_format=torch.contiguous_format).mul_(1 / 255).sub_(mean).div_(std)
        return x.to(dtype, memory_format=memory_format)

    def _frames(self, clip: Tensor | np.ndarray) -> Tensor:
        """[T, H, W, 3], or [T, 3, H, W] as it is -> [T, 3, H, W]."""
        clip = clip if isinstance(clip, Tensor) else torch.from_numpy(np.asarray(clip))
        if clip.ndim != 4 or 3 not in (clip.shape[-1], clip.shape[1]) or clip.dtype != torch.uint8 or not clip.numel():
            raise ValueError(f"a clip must be uint8 [T, H, W, 3] or [T, 3, H, W], got {clip.dtype} {list(clip.shape)}")
        return clip.permute(0, 3, 1, 2) if clip.shape[-1] == 3 else clip

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec})"


class TrainTransform(ClipTransform):
    """A random view of a clip for training: uint8 [T, H, W, 3] or [T, 3, H, W] -> float32 [3, T, crop, crop], normalized.

    "color_jitter" is the original's recipe for pre-training. It resizes the short side to a random length from 8/7 to 10/7 of
    the crop (256 to 320 for 224) and crops at random. It changes brightness, contrast, saturation and hue by up to 0.4 each,
    in random order. It makes the clip gray with probability 0.3, and mirrors it with probability 0.5.

    "affine_jitter" makes the same changes of colors as one affine map, in less time. The pictures are almost the same.

    "resized_crop" changes colors as "affine_jitter" does, and cuts out more or less: a rectangle of 20 to 100 % of the frame,
    resized to the crop. It is the usual one for images (Wu et al., CVPR 2018).

    "multi_scale_crop" is the original's recipe for fine-tuning. It cuts a square at one of the four corners or the center,
    whose side is the short side times 1, 0.841, 0.707, 0.595 or 0.5. It resizes the square to the crop, and mirrors it with
    probability 0.5.

    "random_crop" resizes, crops and mirrors as "color_jitter" does, and leaves colors unchanged.
    """

    def __init__(self, spec: ClipSpec, recipe: Augmentation = "color_jitter") -> None:
        super().__init__(spec)
        if recipe not in get_args(Augmentation):
            raise ValueError(f"recipe must be one of {', '.join(get_args(Augmentation))}, got {recipe!r}")
        self.recipe = recipe

    def __call__(self, clip: Tensor | np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [T, H, W, 3] -> float32 [3, T, crop, crop]; `generator` decides the draw (default: torch's global one)."""
        return self.normalize(self.crop(clip, generator))

    def crop(self, clip: Tensor | np.ndarray, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [T, H, W, 3] -> uint8 [T, 3, crop, crop]: the first half of the transform, with everything random in it."""
        frames, colors = self.view(clip, generator)
        if colors is None:
            return frames
        frames = frames.contiguous()
        COLOR_CHANGES[self.recipe](frames, torch.tensor([colors], dtype=torch.float64, device="cpu"))
        return frames

    def view(self, clip: Tensor | np.ndarray, generator: torch.Generator | None = None) -> tuple[Tensor, list[float] | None]:
        """Resizes, crops and mirrors a clip, and draws the change of its colors without making it.

        Returns:
            uint8 [T, 3, crop, crop], and the numbers that the recipe's entry of `COLOR_CHANGES` needs; None if it has none.
        """
        frames = self._frames(clip)
        draws = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator, device="cpu")))
        places = {"multi_scale_crop": self._square_resized, "resized_crop": self._rectangle_resized}
        frames = places.get(self.recipe, self._resized_square)(frames, draws)
        colors = draw_colors(draws) if self.recipe in COLOR_CHANGES else None
        if torch.rand(1, generator=draws, device="cpu") < 0.5:
            frames = frames.flip(-1)
        return frames, colors

    def _resized_square(self, frames: Tensor, draws: torch.Generator) -> Tensor:
        """A square anywhere in frames whose short side was resized to a random length."""
        height, width = frames.shape[-2:]
        crop = self.spec.crop
        shortest, longest = short_sides(self.spec)
        ratio = (shortest + _below(longest - shortest + 1, draws)) / min(height, width)
        height, width = int(height * ratio), int(width * ratio)
        frames = functional.resize(frames, [height, width], self._interpolation, antialias=True)
        top = _below(height - crop + 1, draws) if height > crop else 0
        left = _below(width - crop + 1, draws) if width > crop else 0
        return frames[..., top : top + crop, left : left + crop]

    def _square_resized(self, frames: Tensor, draws: torch.Generator) -> Tensor:
        """A square of one of five sizes, at one of five places, resized to the crop."""
        height, width = frames.shape[-2:]
        side = round(min(height, width) * MULTI_SCALES[_below(len(MULTI_SCALES), draws)])
        down, right = height - side, width - side
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        top, left = corners[_below(len(corners), draws)]
        size = [self.spec.crop, self.spec.crop]
        return functional.resized_crop(frames, top, left, side, side, size, self._interpolation, antialias=True)

    def _rectangle_resized(self, frames: Tensor, draws: torch.Generator) -> Tensor:
        """A rectangle of a random area and shape, anywhere, resized to the crop."""
        height, width = frames.shape[-2:]
        share, shape = torch.rand(2, generator=draws, dtype=torch.float64, device="cpu").tolist()
        area = (SHARES[0] + share * (SHARES[1] - SHARES[0])) * height * width
        ratio = SHAPES[0] * (SHAPES[1] / SHAPES[0]) ** shape
        down, right = min(round((area / ratio) ** 0.5), height), min(round((area * ratio) ** 0.5), width)
        top, left = _below(height - down + 1, draws), _below(width - right + 1, draws)
        size = [self.spec.crop, self.spec.crop]
        return functional.resized_crop(frames, top, left, down, right, size, self._interpolation, antialias=True)


@functools.lru_cache(maxsize=16)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Mean, standard deviation, -mean / std and 1 / (255 std), float32 [3, 1, 1, 1] each; they are copied once."""
    with torch.inference_mode(False):
        m, s = (torch.tensor(values, dtype=torch.float64, device="cpu") for values in (mean, std))
        each = torch.stack([m, s, -m / s, 1 / (255 * s)]).float()[..., None, None, None]
        return to_device(each, device).unbind()


def _resized_by_pillow(frames: Tensor, sides: list[int], interpolation: v2.InterpolationMode, *, antialias: bool) -> Tensor:
    resize = Resize(sides, interpolation)
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames.permute(0, 2, 3, 1).numpy())
    return torch.from_numpy(np.stack([np.asarray(resize(image)) for image in images])).permute(0, 3, 1, 2)


def _unrounded(frames: Tensor, *sizes: Any, antialias: bool) -> Tensor:
    return functional.resize(frames.float(), *sizes, antialias=antialias)


RESAMPLERS: dict[str, Callable[..., Tensor]] = {
    "torch": functional.resize,
    "torch_float": functional_v1.resize,
    "unrounded": _unrounded,
    "pillow": _resized_by_pillow,
}
"""What resizes frames [T, 3, H, W], for each `ClipSpec.resampler`."""


def short_sides(spec: ClipSpec) -> tuple[int, int]:
    """The least and the greatest short side, in pixels, to which "color_jitter" resizes frames."""
    return spec.crop * 8 // 7, spec.crop * 10 // 7


def _below(number: int, draws: torch.Generator) -> int:
    return int(torch.randint(number, (), generator=draws, device="cpu"))


def clip_transform(model_or_spec: HasClipSpec | ClipSpec) -> ClipTransform:
    """Returns the evaluation transform of a model or a ClipSpec.

    It takes uint8 [T, H, W, 3], as `load_clip` gives it, or [T, 3, H, W], as torchcodec does, and returns float32
    [3, T, crop, crop].
    """
    return ClipTransform(spec_of(model_or_spec))


def train_transform(model_or_spec: HasClipSpec | ClipSpec, recipe: Augmentation = "color_jitter") -> TrainTransform:
    """Returns a training transform of a model or a ClipSpec. It takes and returns what `clip_transform`'s does.

    `TrainTransform` describes the recipes. An unknown recipe raises ValueError.
    """
    return TrainTransform(spec_of(model_or_spec), recipe)
