"""What a published folder gets so that transformers loads it: keys of config.json, preprocessor files and one file of code.

The code (hub_code/modeling_vie.py) imports vie_models and transformers. Nothing here imports it: it is copied.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..clip_spec import ClipSpec
from ..models import Encoder
from .folder import CONFIG, read_config, write_json

CODE = "modeling_vie.py"
IMAGE_PROCESSOR, VIDEO_PROCESSOR = "preprocessor_config.json", "video_preprocessor_config.json"
CLASSES = "classes.txt"
FILES = (CODE, IMAGE_PROCESSOR, VIDEO_PROCESSOR)
"""Files that `write_transformers_files` adds."""
IMAGE = {"image_processor_type": "VideoMAEImageProcessor"}
"""In config.json too: transformers takes a local folder that timm reads for one of timm's, and looks only there."""
RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers, which transformers writes."""


def write_transformers_files(folder: Path, model: Encoder) -> None:
    """Adds to a weight folder what transformers' AutoModel, AutoVideoProcessor, AutoImageProcessor and pipelines read.

    Keys of config.json that vie_models and timm read stay as they are.
    """
    names = classes(folder, model.num_classes or 0)
    write_json(folder / CONFIG, {**read_config(folder / CONFIG), **model_keys(names)})
    frames = frame_keys(model.clip_spec)
    write_json(folder / IMAGE_PROCESSOR, {**IMAGE, **frames})
    video: dict[str, Any] = {
        "video_processor_type": "VIEVideoProcessor",
        "auto_map": {"AutoVideoProcessor": _reference("VIEVideoProcessor")},
        "do_sample_frames": True,
        "clip_spec": model.clip_spec.to_dict(),
    }
    write_json(folder / VIDEO_PROCESSOR, {**video, **frames})
    shutil.copyfile(Path(__file__).parent / "hub_code" / CODE, folder / CODE)


def model_keys(names: list[str]) -> dict[str, Any]:
    """Keys of config.json for transformers. `names` are those of the classifier's classes; empty for an encoder without one."""
    main = "VIEForVideoClassification" if names else "VIEModel"
    return {
        "model_type": "vie",
        "architectures": [main],
        "auto_map": {
            "AutoConfig": _reference("VIEConfig"),
            "AutoModel": _reference(main),
            "AutoModelForVideoClassification": _reference("VIEForVideoClassification"),
        },
        **IMAGE,
        "dtype": "float32",  # vie_models computes in float32, whatever the file has
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def classes(folder: Path, num_classes: int) -> list[str]:
    """Names of a classifier's outputs: those of classes.txt, if it has as many, else LABEL_0, LABEL_1, ..."""
    file = folder / CLASSES
    names = file.read_text().splitlines() if file.exists() else []
    return names if len(names) == num_classes else [f"LABEL_{i}" for i in range(num_classes)]


def frame_keys(spec: ClipSpec) -> dict[str, Any]:
    """How frames are prepared, in the keys of transformers' VideoMAE."""
    return {
        "do_resize": True,
        "size": {"shortest_edge": spec.resize},
        "default_to_square": False,
        "resample": RESAMPLE[spec.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": spec.crop, "width": spec.crop},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def _reference(name: str) -> str:
    return f"{Path(CODE).stem}.{name}"
