"""thingsvision: an extractor for our encoders through its interface for custom models (needs `thingsvision`)."""

from __future__ import annotations

from typing import Any

from torchvision.transforms import v2

from ..models import Encoder
from ..video.transforms import ClipTransform
from .layers import NamedLayers


def extractor(model: Encoder, device: str = "cpu") -> Any:
    """Returns thingsvision's extractor of an encoder.

    Its modules have the names of layers: `extract_features(batches, module_name="encode_6", flatten_acts=True)`. Batches are
    images [B, 3, H, W] as `get_transformations` makes them, each taken for a clip that stands still, or clips
    [B, 3, T, H, W] as `clip_transform` makes them. Unflattened activations are [B, C, T', H', W'].

    Raises:
        ImportError: thingsvision is not installed.
    """
    try:
        from thingsvision import get_extractor_from_model
    except ImportError as error:
        raise ImportError("needs thingsvision: pip install thingsvision, in an environment with numpy < 2") from error
    return get_extractor_from_model(model=NamedLayers(model), device=device, transforms=image_transform(model), backend="pt")


def image_transform(model: Encoder) -> v2.Compose:
    """Returns the evaluation transform for an image: PIL image -> float32 [3, crop, crop]."""
    transform = ClipTransform(model.clip_spec)
    return v2.Compose([v2.PILToTensor(), lambda image: transform(image.permute(1, 2, 0)[None])[:, 0]])
