"""Named settings: the paper's recipes, our small ones, and the settings of linear readouts and fine-tuning.

Source of the numbers: Zhuang et al., CVPR 2020, and the original release.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from ..models import model_entry
from ..names import unknown_name
from .settings import TrainConfig

RECIPES: dict[str, dict[str, Any]] = {
    "vie_single": dict(batch_size=128, lr_boundaries=(1_020_011, 1_220_011), steps=1_375_000),
    "vie_slow": dict(lr_boundaries=(1_170_011, 1_380_011), steps=1_440_000),
    "vie_slowfast": dict(lr_boundaries=(1_120_011, 1_294_998), steps=1_350_000),
    "vie_3dresnet": dict(clusters=10_000, background=4096, lr_boundaries=(974_946, 1_304_998), steps=1_450_000),
    # continues VIE-Single's run (--resume); the original's last step is not known, ours is 110,000 after the last boundary
    "vie_trn": dict(lr_boundaries=(1_455_011, 1_570_011), steps=1_680_011),
}


# for several thousand instances, such as those of reproduce/footage_world.py; chosen in short trials of vie_single_tiny, see
# docs/reproduction.md
_SMALL: dict[str, Any] = dict(
    noise=0, temperature=0.1, bank_momentum=0.8, bank_start="embeddings", augmentation="affine_jitter", schedule="cosine",
    weight_decay=1e-3, norm_momentum=0.01, clusters=300, background=600, workers=2, validate_every=1000, save_every=1000,
    log_every=100,
)  # fmt: skip
_STATIC = dict(batch_size=64, lr=0.1, warmup_steps=200, steps=6000, ir_steps=6000)
_DYNAMIC = dict(batch_size=32, lr=0.05, warmup_steps=300, steps=3000, ir_steps=3000)
RECIPES |= {
    f"vie_{name}_{size}": {**_SMALL, **settings}
    for size in ("tiny", "small")
    for name, settings in {"single": _STATIC, "3dresnet": _DYNAMIC, "slowfast": _DYNAMIC}.items()
}


def recipe(name: str, **settings: Any) -> TrainConfig:
    """Returns the settings of a named recipe.

    Args:
        name: name of the recipe.
        settings: fields of `TrainConfig` that replace the recipe's own; at least `out` and `train_list`.

    Raises:
        ValueError: there is no such recipe, or a setting is out of range.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return TrainConfig(**{"model": name, **RECIPES[name], **settings})


# they do not change what is learned
_MACHINE_SETTINGS = ("device", "workers", "log_every", "save_every", "keep", "max_failed", "augment")


def command_line(config: TrainConfig) -> str:
    """Returns the `vie train` command of a run: its recipe, and a flag for each setting that differs from the recipe's."""
    usual = recipe(config.model, out=config.out, train_list=config.train_list)
    words = ["vie", "train", config.model]
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), "--" + field.name.replace("_", "-")
        if field.name not in ("out", "train_list") and (value == getattr(usual, field.name) or field.name in _MACHINE_SETTINGS):
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words += [flag, *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def without_places(config: TrainConfig) -> TrainConfig:
    """Returns the settings without the paths of the machine they ran on: videos are in ROOT, and the run is in RUN."""
    changed: dict[str, Path] = {"out": Path("RUN"), "root": Path("ROOT")}
    for name in ("train_list", "val_list", "weights", "resume"):
        if (path := getattr(config, name)) is not None:
            inside = path.is_relative_to(config.root) and config.root != Path()
            changed[name] = Path("ROOT", path.relative_to(config.root)) if inside else Path(path.name)
    return dataclasses.replace(config, **changed)  # type: ignore[arg-type]


LINEAR: dict[str, Any] = dict(
    objective="readout", augmentation="color_jitter", batch_size=128, lr=0.01, momentum=0.9, weight_decay=1e-4,
    epochs=30.0, schedule="cosine",
)  # fmt: skip


FINETUNE: dict[str, Any] = dict(
    objective="supervised", augmentation="multi_scale_crop", batch_size=32, lr=0.005, head_rate=10.0, momentum=0.9,
    weight_decay=1e-5, epochs=30.0, schedule="cosine", norm_momentum=0.1, validate_every=0, save_every=0, log_every=0,
)  # fmt: skip
"""Weight decay is the paper's, which takes batches of 128 (64 for two pathways) at a rate of 0.0005, for thousands of videos.
The release does not give epochs, schedule and norm_momentum. All others are ours, for lists of some dozen or hundred videos."""


def finetuning(model: str) -> dict[str, Any]:
    """Returns the settings for fine-tuning a model. With two pathways, batches are half as large, as in the paper."""
    return {**FINETUNE, "batch_size": 16} if model_entry(model).two_pathway else dict(FINETUNE)
