"""torch.hub entry points; hubconf.py re-exports them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .models import MODELS, Encoder, list_models
from .weights import create_model, from_pretrained, list_weights

if TYPE_CHECKING:
    from .video.transforms import ClipTransform


def _entry_point(name: str) -> Callable[..., Encoder]:
    def load(pretrained: bool = False, **kwargs: Any) -> Encoder:
        return create_model(name, pretrained, **kwargs)

    published = ", ".join(list_weights(f"{name}.*")) or "none yet"
    spec = MODELS[name].clip_spec
    load.__name__ = load.__qualname__ = name
    load.__doc__ = f"""VIE encoder: {MODELS[name].summary}.

    Takes clips [B, 3, {spec.num_frames}, {spec.crop}, {spec.crop}] and returns unit-length embeddings [B, D].
    Published weights: {published}.

    Args:
        pretrained (bool): load the published weights.
        checkpoint_path: weights to load instead (folder, .safetensors, TensorFlow checkpoint or PyTorch state_dict).
        num_classes: None for embeddings, 0 for pooled features, N for the logits of a new head.
        **kwargs: arguments of vie_models.create_model (width=, cache_dir=, progress=, ...).
    """
    return load


def vie_embedder(
    model: str | os.PathLike[str] = "vie_3dresnet", *, checkpoint_path: Any = None, **kwargs: Any
) -> tuple[Encoder, ClipTransform]:
    """Returns a pretrained VIE encoder and the transform that prepares its input.

        encoder, transform = torch.hub.load(REPO, "vie_embedder")
        embedding = encoder(transform(frames)[None])   # frames: uint8 [T, H, W, 3] -> [1, 128]

    Args:
        model: name of a model with published weights, or of a weight set ("vie_3dresnet.k400"); or a repository of the Hugging
            Face Hub ("org/name") or the path of a weight folder, a `Path` or with a slash in it.
        checkpoint_path: weights to load instead of the published ones.
        **kwargs: arguments of vie_models.create_model, or for a repository or folder those of vie_models.from_pretrained.
    """
    from .video.transforms import clip_transform

    if checkpoint_path is None and (isinstance(model, os.PathLike) or {"/", "\\"} & set(model)):
        encoder = from_pretrained(model, **kwargs)
    else:
        encoder = create_model(str(model), pretrained=checkpoint_path is None, checkpoint_path=checkpoint_path, **kwargs)
    return encoder, clip_transform(encoder)


ENTRY_POINTS = {**{name: _entry_point(name) for name in list_models()}, "vie_embedder": vie_embedder}
