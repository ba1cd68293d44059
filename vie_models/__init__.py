"""VIE: video encoders learned without labels (Zhuang et al., CVPR 2020), in PyTorch.

    import vie_models as vie
    model = vie.create_model("vie_3dresnet", pretrained=True)
    clip = vie.load_clip("video.mp4", model)                # uint8 [T, H, W, 3]
    embedding = model(vie.clip_transform(model)(clip)[None])  # [1, 128]

Each name is imported on first use, so `import vie_models` loads neither torch nor PyAV, torchvision or timm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clip_spec import ClipSpec
from .lazy import lazy_names
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .encoders import VideoEncoder, WrappedModule, load_encoder
    from .features import Extractor, Features, extract_ray, load_features
    from .models import Encoder, list_models, two_pathway
    from .video import (
        ClipTransform,
        TrainTransform,
        VideoError,
        clip_transform,
        load_clip,
        random_clip,
        train_transform,
    )
    from .weights import (
        CheckpointError,
        WeightsError,
        create_model,
        export_model,
        from_pretrained,
        list_weights,
        load_memory_bank,
        read_checkpoint,
        save_pretrained,
        tf_to_state_dict,
    )

__getattr__, _lazy = lazy_names(
    __name__,
    {
        ".encoders": ["VideoEncoder", "WrappedModule", "load_encoder"],
        ".features": ["Extractor", "Features", "extract_ray", "load_features"],
        ".models": ["Encoder", "list_models", "two_pathway"],
        ".video": [
            "ClipTransform",
            "TrainTransform",
            "VideoError",
            "clip_transform",
            "load_clip",
            "random_clip",
            "train_transform",
        ],
        ".weights": [
            "CheckpointError",
            "WeightsError",
            "create_model",
            "export_model",
            "from_pretrained",
            "list_weights",
            "load_memory_bank",
            "read_checkpoint",
            "save_pretrained",
            "tf_to_state_dict",
        ],
    },
)
__all__ = ["ClipSpec", *_lazy]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
