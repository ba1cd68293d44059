"""Brain-Score vision: encoders as temporal models, committed to its registry by a plugin (needs `brainscore_vision`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..models import Encoder, list_models
from ..video import clip_transform
from ..weights import CITATION, create_model
from .layers import NamedLayers
from .windows import EMBEDDING


def activations_model(model: Encoder, identifier: str | None = None, **settings: Any) -> Any:
    """Wraps an encoder as Brain-Score's temporal PyTorch model.

    Brain-Score cuts a video into blocks of one clip: `clip_spec.num_frames` frames at fps / frame_interval frames per second.
    Layers are those of `model.layer_names`, and "embedding". An image is shown as a video that stands still.

    Args:
        model: the encoder.
        identifier: the name under which Brain-Score stores activations (default: the model's name).
        settings: arguments for Brain-Score's wrapper instead of these: `inferencer_cls`, `fps`, `num_frames`, `batch_size`,
            `dtype` (Brain-Score's default is float16), `max_spatial_size` and so on.

    Raises:
        ImportError: brainscore_vision is not installed.
    """
    try:
        from brainscore_vision.model_helpers.activations.temporal.core import BlockInferencer
        from brainscore_vision.model_helpers.activations.temporal.model import PytorchWrapper
    except ImportError as error:
        raise ImportError("needs Brain-Score: pip install brainscore_vision, in an environment with numpy < 2") from error
    spec, layers = model.clip_spec, NamedLayers(model)
    defaults = {
        "inferencer_cls": BlockInferencer,
        "fps": spec.fps / spec.frame_interval,
        "num_frames": spec.num_frames,
        "layer_activation_format": {name: "C" if name == EMBEDDING else "CTHW" for name in layers.layer_names},
    }
    return PytorchWrapper(identifier or model.model_name, layers, preprocessing(model), **{**defaults, **settings})


def preprocessing(model: Encoder) -> Callable[[Any], torch.Tensor]:
    """Returns what turns Brain-Score's `Video` into the encoder's input, [3, T, crop, crop]."""
    transform = clip_transform(model)
    return lambda video: transform(video.to_numpy())


def commit_model(identifier: str) -> Any:
    """Returns Brain-Score's ModelCommitment of a model or weight set by its name, with its published weights.

    Brain-Score itself chooses the layer for each brain region.
    """
    model = activations_model(create_model(identifier, pretrained=True), identifier)
    from brainscore_vision.model_helpers.brain_transformation import ModelCommitment

    layers = list(model._model.layer_names)
    return ModelCommitment(identifier=identifier, activations_model=model, layers=layers)


def write_plugin(folder: str | os.PathLike[str]) -> Path:
    """Writes a Brain-Score plugin that registers every model: the folder to submit, or to copy to `brainscore_vision/models`.

    Returns the folder. Raises FileExistsError if it exists.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    lines = [f"model_registry['{name}'] = lambda: commit_model('{name}')" for name in list_models()]
    files = {
        "__init__.py": [
            "from brainscore_vision import model_registry",
            "from vie_models.neuro.brainscore import commit_model",
            "",
            *lines,
        ],
        "model.py": ["def get_bibtex(identifier):", f'    return """{CITATION}"""'],
        "test.py": [
            "import pytest",
            "from brainscore_vision import load_model",
            "",
            "",
            f"@pytest.mark.parametrize('identifier', {list_models('*_tiny')})",
            "def test_load(identifier):",
            "    assert load_model(identifier).identifier == identifier",
        ],
        "requirements.txt": ["vie_models"],
    }
    for name, content in files.items():
        (folder / name).write_text("\n".join(content) + "\n")
    return folder
