"""ClipSpec: the clips that an encoder expects. It is saved with the weights, and models, weights and video read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol, get_args, get_type_hints

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Placement = Literal["even", "paper"]
"""Where test clips lie. "even": evenly spaced from the start of the video to its end. "paper": as the paper's evaluation places
those of the model, by `ClipSpec.placement`."""
Augmentation = Literal["color_jitter", "affine_jitter", "resized_crop", "multi_scale_crop", "random_crop"]
"""How `train_transform` changes the frames of a training clip: see video/transforms.py."""

_RARE = ("antialias", "resampler", "center")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Which frames make a clip, and how they become the input of an encoder. A field out of range raises ValueError."""

    num_frames: int
    """Number of frames in a clip (T)."""
    frame_interval: int = 1
    """Distance between successive frames of a clip, in frames of the `fps` grid."""
    fps: float = 25.0
    """Rate of the time grid from which frames are chosen, in frames per second."""
    resize: int | tuple[int, int] = 256
    """Length of the short side after resizing, in pixels; or height and width, which change the shape of the picture."""
    crop: int = 224
    """Side of the square center crop, in pixels."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of each channel (RGB, values in [0, 1]), subtracted from the pixels."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of each channel (RGB, values in [0, 1]), by which the pixels are divided."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation method for resizing frames."""
    antialias: bool = True
    """Whether frames are smoothed before they are made smaller. Pillow always does."""
    resampler: Literal["torch", "torch_float", "unrounded", "pillow"] = "torch"
    """Whose arithmetic resizes frames. "torch": torchvision.transforms.v2, in whole numbers. "torch_float":
    torchvision.transforms, in float32, then rounded. "unrounded": in float32, not rounded. "pillow": Pillow's, in whole
    numbers."""
    center: Literal["nearest", "floor"] = "nearest"
    """Where the center crop lies if its margins differ by a pixel: torchvision rounds half to even, transformers down."""
    placement: Literal["ends", "tiled", "inner", "segments", "bins"] = "ends"
    """How the paper places the clips of this model, and whether it draws their frames from bins: see video/clips.py. Training
    and test clips with the placement "paper" follow it."""

    def __post_init__(self) -> None:
        if not isinstance(self.resize, int):
            object.__setattr__(self, "resize", tuple(self.resize))  # JSON gives lists
            if len(self.sides) != 2:
                raise ValueError(f"ClipSpec.resize must be the short side, or height and width, in pixels, got {self.resize!r}")
        numbers = {name: getattr(self, name) for name in ("num_frames", "frame_interval", "crop")}
        for name, value in [*numbers.items(), *(("resize", side) for side in self.sides)]:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"ClipSpec.{name} must be a whole number >= 1, got {value!r}")
        if not self.fps > 0:
            raise ValueError(f"ClipSpec.fps must be > 0 frames per second, got {self.fps!r}")
        if self.crop > self.short_side:
            raise ValueError(f"ClipSpec.crop must be at most resize ({self.resize} pixels), got {self.crop}")
        if self.resampler == "pillow" and not self.antialias:
            raise ValueError("ClipSpec.antialias must be True for Pillow, which always smooths, got False")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != 3:
                raise ValueError(f"ClipSpec.{name} must have one value for each of R, G, B, got {value!r}")
            object.__setattr__(self, name, tuple(float(v) for v in value))  # JSON gives lists
        if min(self.std) <= 0:
            raise ValueError(f"ClipSpec.std must be > 0 in every channel, got {self.std!r}")
        for name in ("interpolation", "resampler", "center", "placement"):
            choices = get_args(get_type_hints(ClipSpec)[name])
            if getattr(self, name) not in choices:
                raise ValueError(f"ClipSpec.{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    @property
    def sides(self) -> tuple[int, ...]:
        """The short side after resizing, or height and width."""
        return (self.resize,) if isinstance(self.resize, int) else self.resize

    @property
    def short_side(self) -> int:
        """Length of the short side after resizing, in pixels."""
        return min(self.sides)

    @property
    def length(self) -> int:
        """Length of a clip in grid points: num_frames * frame_interval.

        Each frame stands for `frame_interval` grid points, the last one too. So clips end to end sample a video at one rate,
        and a window of that length, cut into `num_frames` equal parts, has its frames as far apart as a clip.
        """
        return self.num_frames * self.frame_interval

    @property
    def seconds(self) -> float:
        """Length of a clip in seconds: `length` grid points."""
        return self.length / self.fps

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values. Those that VIE's own clips never change are left out at their defaults."""
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        values = dataclasses.asdict(self)
        return {name: v for name, v in values.items() if name not in _RARE or v != fields[name]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ClipSpec:
        """Builds a ClipSpec from what `to_dict` returns. An unknown or missing field raises ValueError."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown ClipSpec field(s) {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        if "num_frames" not in fields:
            raise ValueError("a ClipSpec needs num_frames")
        return cls(**fields)


class HasClipSpec(Protocol):
    """An encoder, as far as clips are concerned."""

    @property
    def clip_spec(self) -> ClipSpec:
        """The clips that it expects."""


def spec_of(model_or_spec: HasClipSpec | ClipSpec) -> ClipSpec:
    """Returns the ClipSpec of a model, or the ClipSpec itself."""
    return model_or_spec if isinstance(model_or_spec, ClipSpec) else model_or_spec.clip_spec
