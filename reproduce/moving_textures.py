"""Measures what VIE learns from moving textures: `python -m reproduce.moving_textures [--seeds 0 1] [--models ...]`.

Renders the videos (worlds/moving_textures.py). Trains every model with every seed in several ways: by IR and LA, by IR alone
for as many steps, and by the paper's baselines (OPN, 3DRotNet, and supervised by either label). Joins the two-pathway models.
Evaluates all of them, untrained encoders and raw pixels on object and motion, for test videos and for held-out objects, by kNN
and by a logistic regression on pooled features. Each result comes from its own `vie` command, and finished results are not
computed again. Prints the table of `vie report`. The whole takes hours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vie_models.evaluate.report import report
from vie_models.evaluate.results import RESULTS
from vie_models.train.checkpoint import CHECKPOINTS

from . import raw_pixels
from .commands import done
from .worlds.moving_textures import make_videos

MODELS = ("vie_single_tiny", "vie_3dresnet_tiny", "vie_slowfast_tiny")
TASKS = {
    "object": ("object/train", "object/val"),
    "motion": ("motion/train", "motion/val"),
    "held-out-object": ("object/held_out_known", "object/held_out"),
    "held-out-motion": ("motion/train", "motion/held_out"),
}
"""Training list and validation list of each task."""
IR_STEPS, STEPS = 4000, 6000
SETTINGS = [
    *("--batch-size", "32", "--noise", "0", "--clusters", "256", "--background", "768", "--temperature", "0.2"),
    *("--bank-momentum", "0.8", "--bank-start", "random", "--augmentation", "random_crop", "--lr", "0.05"),
    *("--warmup-steps", "0", "--schedule", "boundaries", "--weight-decay", "1e-3", "--norm-momentum", "0.03"),
]
"""For one or two thousand videos; chosen in short trials of vie_single_tiny."""
VIE = ["--ir-steps", str(IR_STEPS), "--steps", str(STEPS), "--lr-boundaries", "4800", "5600"]
SUPERVISED = ["--objective", "supervised", "--steps", "500", "--lr-boundaries", "350", "450"]
BASELINES = {
    ("vie_single_tiny", "opn"): ["--objective", "order", "--steps", "2000", "--lr-boundaries", "1500", "1800"],
    ("vie_3dresnet_tiny", "rotnet"): ["--objective", "rotation", "--steps", "1200", "--lr-boundaries", "800", "1050"],
}


def lists(world: Path, train: str, val: str | None = None) -> list[str]:
    found = ["--train-list", f"{world / train}.txt", "--root", str(world)]
    return found + (["--val-list", f"{world / val}.txt"] if val else [])


def trained(options: argparse.Namespace, model: str, kind: str, seed: int, flags: list[str]) -> Path:
    """Returns the weight folder of a run. Trains and exports it if it does not exist."""
    name = f"{model}{kind and '-'}{kind}-{seed}"
    run, weights = options.out / "runs" / name, options.out / "weights" / name
    if not (weights / "config.json").exists():
        common = [*lists(options.world, "motion/train"), "--workers", options.workers, "--seed", str(seed)]
        done(["train", model, *common, "-o", str(run), *SETTINGS, *(flags or VIE)])
        done(["export", str(run), str(weights), "--dtype", "float16"])
    return weights


def ir_alone(options: argparse.Namespace, model: str, seed: int) -> Path:
    """Trains by instance recognition alone, from the checkpoint where the recipe's run switches to local aggregation."""
    checkpoint = options.out / "runs" / f"{model}-{seed}" / CHECKPOINTS / f"step-{IR_STEPS:09d}"
    return trained(options, model, "ir", seed, [*VIE, "--ir-steps", str(STEPS), "--resume", str(checkpoint)])


def evaluate(options: argparse.Namespace, model: str, weights: Path | None, seed: int) -> None:
    name = weights.name if weights else f"{model}-untrained-{seed}"
    for task, (train, val) in TASKS.items():
        for protocol in ("knn", "logistic"):
            out = options.out / protocol / task / name
            begin = ["--weights", str(weights)] if weights else ["--seed", str(seed)]
            if not (out / RESULTS).exists():
                common = [*lists(options.world, train, val), "--workers", options.workers]
                done(["eval", protocol, model, *common, *begin, "-o", str(out)])


def supervised(options: argparse.Namespace, model: str, seed: int) -> None:
    for task in ("object", "motion"):
        out = options.out / "supervised" / task / f"{model}-{seed}"
        common = [*lists(options.world, *TASKS[task]), "--workers", options.workers, "--seed", str(seed)]
        if not (out / RESULTS).exists():
            done(["train", model, *common, *SETTINGS, *SUPERVISED, "--validate-every", "500", "-o", str(out)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/moving-textures"), help="folder for everything")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="models to train")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="one run of each model per seed")
    parser.add_argument("--videos", type=int, default=1536, help="number of training videos")
    parser.add_argument("--workers", default="2", help="processes that read videos")
    options = parser.parse_args()
    options.world = options.out / "videos"
    make_videos(options.world, options.videos, workers=int(options.workers), progress=True)
    for seed in options.seeds:
        for model in options.models:
            evaluate(options, model, trained(options, model, "", seed, []), seed)
            evaluate(options, model, None, seed)
            supervised(options, model, seed)
            evaluate(options, model, ir_alone(options, model, seed), seed)
        for (model, kind), flags in BASELINES.items():
            if model in options.models:
                evaluate(options, model, trained(options, model, kind, seed, flags), seed)
        static, dynamic = (options.out / "weights" / f"{model}-{seed}" for model in (MODELS[0], MODELS[2]))
        if static.exists() and dynamic.exists():
            joined = options.out / "weights" / f"vie_twopathway_tiny-{seed}"
            done(["join", str(static), str(dynamic), str(joined)])
            evaluate(options, "vie_twopathway_tiny", joined, seed)
            evaluate(options, "vie_twopathway_tiny", None, seed)
    for task, (train, val) in TASKS.items():
        out = options.out / "raw-pixels" / task
        if not (out / RESULTS).exists():
            raw_pixels.evaluate(options.world / f"{train}.txt", options.world / f"{val}.txt", options.world, out)
    print(report([options.out], options.out / "report.md"))


if __name__ == "__main__":
    main()
