"""Trains on photographs and footage: `python -m reproduce.footage_training WORLD [NAME ...] [--out OUT]`.

WORLD is a folder of reproduce.footage_world. Without names, makes every run of the table below that OUT/weights does not have.
A stopped run goes on where it was. Runs are given by what differs from their recipe. bfloat16 is faster on CPUs that have it;
on others, pass --dtype float32.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from vie_models.train import RECIPES

from .commands import done


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """A `vie train` command."""

    model: str
    flags: tuple[str, ...] = ()
    """What differs from the recipe."""
    start: str = ""
    """Name of the run, or of the published set, whose weights it begins with."""
    list: str = "all"
    """List of the world. Encoders of different lists remember different videos: join them without bank.safetensors."""


def _steps(number: int, la: bool = False) -> tuple[str, ...]:
    return ("--steps", str(number), "--ir-steps", "0" if la else str(number))


def _seed(number: int) -> tuple[str, ...]:
    return ("--seed", str(number))


TINY, SMALL = "vie_single_tiny", "vie_single_small"
SEEDS = range(3)
SHORT = 3000
"""Steps of runs that are compared with each other alone."""
MOST, END = 12_000, 1200
"""Steps that the first part of a longer run may have, and steps of its end."""
LONGER = ("--batch-size", "128", "--lr", "0.06", "--augmentation", "resized_crop")
"""Settings of longer runs. Photographs are still, so what is cut out of them makes the views."""
TRIAL = (*LONGER, *_steps(1200), "--crop", "48")
"""A short run with these settings, whose rate falls to zero, and what is changed in others (reproduce.footage_judge)."""
TRIALS = {
    "trial": (),
    "trial-t0.07": ("--temperature", "0.07"),
    "trial-t0.2": ("--temperature", "0.2"),
    "trial-quick-bank": ("--bank-momentum", "0.5"),
    "trial-small-decay": ("--weight-decay", "1e-4"),
    "trial-small-rate": ("--lr", "0.03"),
    "trial-large-rate": ("--lr", "0.12"),
    "trial-affine-jitter": ("--augmentation", "affine_jitter"),
}
EXACT = ("--dtype", "float32")
"""For 3-D ResNets, whose gradients some releases of PyTorch compute wrongly in bfloat16 (vie_models/models/precision.py)."""
STATIC = {TINY: _steps(8000), SMALL: _steps(12_000)}
DYNAMIC: dict[str, tuple[str, ...]] = {
    **{f"vie_slowfast_{size}": _steps(4000) for size in ("tiny", "small")},
    "vie_3dresnet_tiny": (*_steps(2000), *EXACT),
    "vie_3dresnet_small": (*_steps(1500), *EXACT),
}
"""Models of the package, and the flags of their training. That of dynamic encoders begins with smaller clips, so that they see
more of them in the same time."""
LAST = (*_steps(700), "--lr", "0.02", "--warmup-steps", "100")
"""The end of it, with clips of the usual size."""


def _flags_of(recipe: str) -> tuple[str, ...]:
    """A recipe as flags, for models that have no small one."""
    return tuple(word for name, value in RECIPES[recipe].items() for word in (f"--{name.replace('_', '-')}", str(value)))


def _longer(model: str, steps: int, start: str) -> dict[str, TrainingRun]:
    """Goes on with a static encoder: clips of 48 pixels at a constant rate, and then some of 64.

    With more steps, up to MOST, the first part goes on.
    """
    first = ("--steps", str(steps), "--ir-steps", str(MOST), "--crop", "48", "--schedule", "boundaries")
    return {
        f"{model}-long-0": TrainingRun(model, (*LONGER, *first), start),
        f"{model}-longer-0": TrainingRun(model, (*LONGER, *_steps(END)), f"{model}-long-0"),
    }


def _dynamic(model: str, flags: tuple[str, ...]) -> dict[str, TrainingRun]:
    last = (*LAST, *EXACT) if EXACT[0] in flags else LAST
    return {
        f"{model}-first-0": TrainingRun(model, (*flags, "--crop", "48"), list="dynamic"),
        f"{model}-0": TrainingRun(model, last, f"{model}-first-0", "dynamic"),
    }


def _on_videos(name: str, seed: int, *flags: str, la: bool = True) -> dict[str, TrainingRun]:
    """Goes on from a finished encoder with the real videos alone, by LA or by IR."""
    more = (
        *_seed(seed),
        *_steps(1000, la),
        "--lr",
        "0.03",
        "--warmup-steps",
        "100",
        "--clusters",
        "100",
        "--background",
        "200",
    )
    return {f"{TINY}-{name}-{seed}": TrainingRun(TINY, (*more, *flags), f"{TINY}-{seed}", "videos")}


RUNS: dict[str, TrainingRun] = {
    # the sets that come with the package, and more seeds of one
    **{f"{model}-0": TrainingRun(model, flags) for model, flags in STATIC.items()},
    **{name: run for model, flags in DYNAMIC.items() for name, run in _dynamic(model, flags).items()},
    **{f"{TINY}-{seed}": TrainingRun(TINY, (*_seed(seed), *STATIC[TINY])) for seed in SEEDS[1:]},
    # goes on from the set that comes with the package
    **_longer(SMALL, MOST, f"{SMALL}.natural"),
    # instance recognition and local aggregation for as many steps, and what local aggregation needs
    **{name: run for seed in SEEDS for name, run in _on_videos("ir", seed, la=False).items()},
    **{name: run for seed in SEEDS for name, run in _on_videos("la", seed).items()},
    **_on_videos("la-coarse", 0, "--clusters", "30"),
    **_on_videos("la-fine", 0, "--clusters", "250"),
    **_on_videos("la-three", 0, "--clusterings", "3"),
    **_on_videos("la-near", 0, "--background", "50"),
    # what instance recognition needs: each beside vie_single_tiny-short
    **{
        f"{TINY}-{name}-0": TrainingRun(TINY, (*_steps(SHORT), *flags))
        for name, flags in {
            "short": (),
            "part0.3": ("--part", "0.3"),
            "part0.7": ("--part", "0.7"),
            "bins": ("--binned",),
            "short-la": ("--ir-steps", str(SHORT // 2)),
        }.items()
    },
    # what longer runs need: each beside vie_single_tiny-trial
    **{f"{TINY}-{name}-0": TrainingRun(TINY, (*TRIAL, *flags), f"{TINY}.natural") for name, flags in TRIALS.items()},
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
    if run.start in RUNS:
        train(run.start, world, out, extra)
        begin = ["--weights", str(out / "weights" / run.start)]
    elif run.start:
        begin = ["--weights", run.start]
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
