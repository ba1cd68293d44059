"""thingsvision: an extractor for our encoders through its interface for custom models (needs `thingsvision`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from ..models import Encoder
from ..video import clip_transform
from .layers import NamedLayers


def extractor(model: Encoder, device: str = "cpu") -> Any:
    """Returns thingsvision's extractor of an encoder.

    Its modules have the names of layers: `extract_features(batches, module_name="encode_6", flatten_acts=True)`. Batches are
    images [B, 3, H, W] as its `get_transformations()` makes them, each taken for a clip that stands still, or clips
    [B, 3, T, H, W] as `clip_transform` makes them. Unflattened activations are [B, C, T', H', W'].

    Raises:
        ImportError: thingsvision is not installed.
    """
    try:
        from thingsvision import get_extractor_from_model
    except ImportError as error:
        raise ImportError("needs thingsvision: pip install thingsvision, in an environment with numpy < 2") from error
    return get_extractor_from_model(model=NamedLayers(model), device=device, preprocess=ImageTransform(model), backend="pt")


class ImageTransform:
    """The evaluation transform of an image: PIL image -> float32 [3, crop, crop]. Picklable."""

    def __init__(self, model: Encoder) -> None:
        self._transform = clip_transform(model)

    def __call__(self, image: Image) -> Tensor:
        return self._transform(np.array(image.convert("RGB"))[None])[:, 0]
