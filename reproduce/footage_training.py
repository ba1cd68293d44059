"""Trains on photographs and footage: `python -m reproduce.footage_training WORLD [NAME ...] [--out OUT]`.

WORLD is a folder of reproduce.footage_world. Without names, makes every run of the table below that OUT/weights does not have.
A stopped run goes on where it was. Runs are given by what differs from their recipe. bfloat16 is faster on CPUs that have it;
on others, pass --dtype float32.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from vie_models.train.recipes import RECIPES

from .commands import done


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """A `vie train` command."""

    model: str
    flags: tuple[str, ...] = ()
    """What differs from the recipe."""
    start: str = ""
    """Name of the run whose weights it begins with."""
    list: str = "all"
    """List of the world."""


def _steps(number: int, la: bool = False) -> tuple[str, ...]:
    return ("--steps", str(number), "--ir-steps", "0" if la else str(number))


def _seed(number: int) -> tuple[str, ...]:
    return ("--seed", str(number))


TINY, SMALL = "vie_single_tiny", "vie_single_small"
SEEDS = range(3)
SHORT = 3000
"""Steps of runs that are compared with each other alone."""
STATIC = (*_steps(1000), "--lr", "0.03", "--warmup-steps", "100")
DYNAMIC = (*_steps(700), "--lr", "0.02", "--warmup-steps", "100")
"""The second stage, on real videos alone."""
EXACT = ("--dtype", "float32")
"""For 3-D ResNets, whose gradients some releases of PyTorch compute wrongly in bfloat16 (vie_models/models/precision.py)."""
FIRST: dict[str, tuple[str, ...]] = {
    TINY: _steps(8000),
    SMALL: _steps(12_000),
    **{f"vie_slowfast_{size}": (*_steps(4000), "--crop", "48") for size in ("tiny", "small")},
    "vie_3dresnet_tiny": (*_steps(2000), "--crop", "48", *EXACT),
    "vie_3dresnet_small": (*_steps(1500), "--crop", "48", *EXACT),
}
"""Models, and the flags of their first stage, on all photographs and videos. Clips are smaller there for dynamic encoders, so
that they see more of them in the same time."""


def _flags_of(recipe: str) -> tuple[str, ...]:
    """A recipe as flags, for models that have no small one."""
    return tuple(word for name, value in RECIPES[recipe].items() for word in (f"--{name.replace('_', '-')}", str(value)))


def _both_stages(model: str, seed: int) -> dict[str, TrainingRun]:
    first = f"{model}-first-{seed}"
    second = STATIC if "single" in model else (*DYNAMIC, *EXACT) if "3dresnet" in model else DYNAMIC
    return {
        first: TrainingRun(model, (*_seed(seed), *FIRST[model])),
        f"{model}-{seed}": TrainingRun(model, (*_seed(seed), *second), first, "videos"),
    }


def _la(name: str, seed: int, *flags: str) -> dict[str, TrainingRun]:
    """The second stage by local aggregation instead of instance recognition."""
    clusters = ("--clusters", "100", "--background", "200")
    run = TrainingRun(
        TINY, (*_seed(seed), *STATIC, *_steps(1000, la=True), *clusters, *flags), f"{TINY}-first-{seed}", "videos"
    )
    return {f"{TINY}-{name}-{seed}": run}


RUNS: dict[str, TrainingRun] = {
    # the sets that come with the package, and more seeds of one
    **{name: run for model in FIRST for name, run in _both_stages(model, 0).items()},
    **{name: run for seed in SEEDS for name, run in _both_stages(TINY, seed).items()},
    # local aggregation, and what it needs
    **{name: run for seed in SEEDS for name, run in _la("la", seed).items()},
    **_la("la-coarse", 0, "--clusters", "30"),
    **_la("la-fine", 0, "--clusters", "250"),
    **_la("la-three", 0, "--clusterings", "3"),
    **_la("la-near", 0, "--background", "50"),
    # what instance recognition needs: each beside vie_single_tiny-short
    **{
        f"{TINY}-{name}-0": TrainingRun(TINY, (*_steps(SHORT), *flags))
        for name, flags in {
            "short": (),
            "t0.07": ("--temperature", "0.07"),
            "t0.2": ("--temperature", "0.2"),
            "part0.3": ("--part", "0.3"),
            "part0.7": ("--part", "0.7"),
            "random-bank": ("--bank-start", "random"),
            "quick-bank": ("--bank-momentum", "0.5"),
            "small-decay": ("--weight-decay", "1e-4"),
            "resized-crop": ("--augmentation", "resized_crop"),
            "bins": ("--binned",),
            "short-la": ("--ir-steps", str(SHORT // 2)),
        }.items()
    },
    "vie_trn-short-0": TrainingRun("vie_trn", (*_flags_of(TINY), *_steps(SHORT), "--width", "16", "--crop", "64")),
    **{f"{TINY}-{kind}-0": TrainingRun(TINY, _steps(SHORT), list=kind) for kind in ("photos", "videos")},
    **{f"{TINY}-steps{steps}-0": TrainingRun(TINY, _steps(steps)) for steps in (750, 1500)},
    # the paper's baselines
    f"{TINY}-opn-0": TrainingRun(TINY, ("--objective", "order", *_steps(1500))),
    "vie_3dresnet_tiny-rotnet-0": TrainingRun(
        "vie_3dresnet_tiny", ("--objective", "rotation", *_steps(500), "--batch-size", "16", *EXACT)
    ),
}
"""By the name of their weights, whose last part is the seed."""


def train(name: str, world: Path, out: Path, extra: list[str]) -> None:
    """Makes the weights OUT/weights/NAME, and first those it begins with, unless they exist."""
    run, weights = RUNS[name], out / "weights" / name
    if (weights / "config.json").exists():
        return
    begin = []
    if run.start:
        train(run.start, world, out, extra)
        begin = ["--weights", str(out / "weights" / run.start)]
    lists = ["--train-list", str(world / "91" / f"{run.list}.txt"), "--root", str(world / "91")]
    fast = ["--dtype", "bfloat16", "--channels-last", "--workers", "1"]
    done(["train", run.model, *lists, *fast, *run.flags, *begin, *extra, "-o", str(out / "runs" / name)])
    done(["export", str(out / "runs" / name), str(weights), "--dtype", "float16"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path, help="folder of reproduce.footage_world")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"runs: {', '.join(RUNS)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/footage-training"), help="folder for runs and weights")
    options, extra = parser.parse_known_args()
    if unknown := sorted(set(options.names) - set(RUNS)):
        parser.error(f"there is no run {', '.join(unknown)}; choose from {', '.join(RUNS)}")
    for name in options.names or RUNS:
        train(name, options.world, options.out, extra)


if __name__ == "__main__":
    main()
