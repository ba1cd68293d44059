"""ClipSpec: what an encoder expects of a clip. It travels with the weights and is read by models, weights and video."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Which frames make a clip and how they become the input of an encoder."""

    num_frames: int
    """Frames in a clip (T)."""
    frame_interval: int = 1
    """Distance between successive frames of the clip, in frames of the `fps` grid."""
    fps: float = 25.0
    """Rate of the time grid on which frames are chosen, in frames per second."""
    resize: int = 256
    """Length of the short side after resizing, in pixels."""
    crop: int = 224
    """Side of the square centre crop, in pixels."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per-channel mean (RGB, of values in [0, 1]) that is subtracted."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Per-channel standard deviation (RGB, of values in [0, 1]) that is divided by."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation of the resize."""
    placement: Literal["ends", "tiled", "inner", "segments", "bins"] = "ends"
    """How several test clips are placed in a video, and whether frames are drawn from bins: see video/clips.py."""

    def __post_init__(self) -> None:
        for name in ("num_frames", "frame_interval", "resize", "crop"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"ClipSpec.{name} must be a whole number >= 1, got {value!r}")
        if not self.fps > 0:
            raise ValueError(f"ClipSpec.fps must be > 0 frames per second, got {self.fps!r}")
        if self.crop > self.resize:
            raise ValueError(f"ClipSpec.crop must fit in the resized short side ({self.resize}), got {self.crop}")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != 3:
                raise ValueError(f"ClipSpec.{name} must have one value for each of R, G, B, got {value!r}")
            object.__setattr__(self, name, tuple(float(v) for v in value))  # JSON gives lists
        if min(self.std) <= 0:
            raise ValueError(f"ClipSpec.std must be > 0 in every channel, got {self.std!r}")
        for name in ("interpolation", "placement"):
            choices = get_args(get_type_hints(ClipSpec)[name])
            if getattr(self, name) not in choices:
                raise ValueError(f"ClipSpec.{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    @property
    def seconds(self) -> float:
        """Time from the first frame of a clip to the end of the last one's grid interval, in seconds."""
        return ((self.num_frames - 1) * self.frame_interval + 1) / self.fps

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ClipSpec:
        """The inverse of `to_dict`; an unknown or missing field raises ValueError."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"unknown ClipSpec field(s) {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        if "num_frames" not in fields:
            raise ValueError("a ClipSpec needs num_frames")
        return cls(**fields)
