"""Named settings: a recipe for each row of the paper, small ones of ours, and those of readouts and fine-tuning.

Source of the numbers: Zhuang et al., CVPR 2020, and the original release.
"""

from __future__ import annotations

import dataclasses
import difflib
import shlex
from pathlib import Path
from typing import Any

from .settings import TrainConfig

RECIPES: dict[str, dict[str, Any]] = {
    "vie_single": dict(batch_size=128, lr_boundaries=(1_020_011, 1_220_011), steps=1_375_000),
    "vie_slow": dict(lr_boundaries=(1_170_011, 1_380_011), steps=1_440_000),
    "vie_slowfast": dict(lr_boundaries=(1_120_011, 1_294_998), steps=1_350_000),
    "vie_3dresnet": dict(clusters=10_000, background=4096, lr_boundaries=(974_946, 1_304_998), steps=1_450_000),
    # goes on from VIE-Single's run (--resume); where the original ended is not known: 110,000 steps after the last boundary
    "vie_trn": dict(lr_boundaries=(1_455_011, 1_570_011), steps=1_680_011),
}


# for a thousand or two of videos, such as those of `vie data moving-textures OUT --videos 1536`: rate, temperature and bank
# momentum by short trials of vie_single_tiny
_TINY = dict(
    batch_size=32, noise=0, clusters=256, background=768, temperature=0.2, bank_momentum=0.8, augmentation="random_crop",
    lr=0.05, weight_decay=1e-3, norm_momentum=0.03, ir_steps=4000, steps=6000, lr_boundaries=(4800, 5600),
    validate_every=1000, save_every=1000, log_every=100, workers=2,
)  # fmt: skip


RECIPES |= {f"vie_{name}_tiny": _TINY for name in ("single", "3dresnet", "slowfast")}


def recipe(name: str, **settings: Any) -> TrainConfig:
    """The run of a named recipe, with `settings` (at least out= and train_list=) replacing its own.

    Raises:
        ValueError: there is no such recipe, or a setting is out of its range.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        raise ValueError(f"no recipe {name!r}{f', perhaps {near[0]}' if near else ''}; there are {', '.join(RECIPES)}")
    return TrainConfig(**{"model": name, **RECIPES[name], **settings})


_OF_MACHINES = ("device", "workers", "log_every", "save_every", "keep", "max_failures")  # nothing learnt depends on them


def command_line(config: TrainConfig) -> str:
    """The `vie train` command of a run: its recipe, and a flag for each setting in which it differs from that."""
    usual = recipe(config.model, out=config.out, train_list=config.train_list)
    words = ["vie", "train", config.model]
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), "--" + field.name.replace("_", "-")
        if field.name not in ("out", "train_list") and (value == getattr(usual, field.name) or field.name in _OF_MACHINES):
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words += [flag, *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def without_places(config: TrainConfig) -> TrainConfig:
    """The same without where things lay on the machine of the run, for others to read: the videos in ROOT, the run in RUN."""
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
    objective="supervised", augmentation="multi_scale_crop", batch_size=128, lr=0.0005, momentum=0.9, weight_decay=1e-5,
    epochs=30.0, schedule="cosine", norm_momentum=0.1,
)  # fmt: skip
"""The batch, learning rate and weight decay are the paper's; how long, how the rate falls and how fast the running
statistics of batch norms follow, the release does not say: these are ours."""


def finetuning(model: str) -> dict[str, Any]:
    """The settings of fine-tuning a model: batches are half as large for two pathways, as in the paper."""
    return {**FINETUNE, "batch_size": 64} if "twopathway" in model else dict(FINETUNE)
