"""VIE: video encoders learned without labels (Zhuang et al., CVPR 2020), in PyTorch.

    import vie_models as vie
    model = vie.create_model("vie_3dresnet", pretrained=True)
    clip = vie.load_clip("video.mp4", model.clip_spec)      # uint8 [T, H, W, 3]
    embedding = model(vie.clip_transform(model)(clip)[None])  # [1, 128]

Each name is imported on first use, so `import vie_models` loads neither torch nor PyAV, torchvision or timm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clip_spec import ClipSpec
from .lazy import lazy_names
from .version import __version__ as __version__
from .weights.timm_hook import register_with_timm

if TYPE_CHECKING:
    from .features.extractor import Extractor
    from .features.folder import Features, load_features
    from .features.ray import extract_ray
    from .models.encoder import Encoder
    from .models.registry import list_models
    from .models.twopathway import two_pathway
    from .video.frames import VideoError
    from .video.sources import load_clip, random_clip
    from .video.transforms import ClipTransform, TrainTransform, clip_transform, train_transform
    from .weights.cache import load_memory_bank
    from .weights.catalog import list_weights
    from .weights.errors import WeightsError
    from .weights.folder import save_pretrained
    from .weights.programs import export_model
    from .weights.store import create_model, from_pretrained
    from .weights.tensorflow.bundle import CheckpointError, read_checkpoint
    from .weights.tensorflow.names import tf_to_state_dict

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
    "export_model",
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

__getattr__ = lazy_names(
    __name__,
    {
        "CheckpointError": ".weights.tensorflow.bundle",
        "ClipTransform": ".video.transforms",
        "Encoder": ".models.encoder",
        "Extractor": ".features.extractor",
        "Features": ".features.folder",
        "TrainTransform": ".video.transforms",
        "VideoError": ".video.frames",
        "WeightsError": ".weights.errors",
        "clip_transform": ".video.transforms",
        "create_model": ".weights.store",
        "export_model": ".weights.programs",
        "extract_ray": ".features.ray",
        "from_pretrained": ".weights.store",
        "list_models": ".models.registry",
        "list_weights": ".weights.catalog",
        "load_clip": ".video.sources",
        "load_features": ".features.folder",
        "load_memory_bank": ".weights.cache",
        "random_clip": ".video.sources",
        "read_checkpoint": ".weights.tensorflow.bundle",
        "save_pretrained": ".weights.folder",
        "tf_to_state_dict": ".weights.tensorflow.names",
        "train_transform": ".video.transforms",
        "two_pathway": ".models.twopathway",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_timm()
