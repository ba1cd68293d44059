"""VIE: video encoders learned without labels (Zhuang et al., CVPR 2020), in PyTorch.

    import vie_models as vie
    model = vie.create_model("vie_3dresnet", pretrained=True)
    clip = vie.load_clip("video.mp4", model.clip_spec)      # uint8 [T, H, W, 3]
    embedding = model(vie.clip_transform(model)(clip)[None])  # [1, 128]

Importing this imports torch and nothing heavier; PyAV, torchvision and timm come when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from .clip_spec import ClipSpec
from .models import Encoder, list_models, two_pathway
from .weights import (
    CheckpointError,
    WeightsError,
    create_model,
    from_pretrained,
    list_weights,
    load_memory_bank,
    read_checkpoint,
    save_pretrained,
    tf_to_state_dict,
)
from .weights.timm_registry import register_with_timm

if TYPE_CHECKING:
    from .extract import Extractor
    from .extract_ray import extract_ray
    from .feature_folder import Features, load_features
    from .video.frames import VideoError
    from .video.sources import load_clip, random_clip
    from .video.transforms import ClipTransform, TrainTransform, clip_transform, train_transform

_LAZY = {
    "extract_ray": "vie_models.extract_ray",
    "Extractor": "vie_models.extract",
    "Features": "vie_models.feature_folder",
    "VideoError": "vie_models.video.frames",
    "load_clip": "vie_models.video.sources",
    "load_features": "vie_models.feature_folder",
    "random_clip": "vie_models.video.sources",
    "ClipTransform": "vie_models.video.transforms",
    "TrainTransform": "vie_models.video.transforms",
    "clip_transform": "vie_models.video.transforms",
    "train_transform": "vie_models.video.transforms",
}

__all__ = [
    "CheckpointError",
    "ClipSpec",
    "ClipTransform",
    "Encoder",
    "Extractor",
    "Features",
    "TrainTransform",
    "VideoError",
    "WeightsError",
    "clip_transform",
    "create_model",
    "extract_ray",
    "from_pretrained",
    "list_models",
    "list_weights",
    "load_clip",
    "load_features",
    "load_memory_bank",
    "random_clip",
    "read_checkpoint",
    "save_pretrained",
    "tf_to_state_dict",
    "train_transform",
    "two_pathway",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'vie_models' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_timm()
