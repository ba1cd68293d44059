"""Trains what docs/reproduction.md compares: `python -m reproduce.footage_training WORLD [NAME ...] [--out OUT]`.

WORLD is a folder of reproduce.footage_world. Without names, makes every run of the table below that OUT/weights does not have.
A stopped run goes on where it was. The whole takes a day on two cores. bfloat16 is several times as fast on CPUs that have it;
on others, pass --dtype float32.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

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
AGAIN = ("--lr", "0.03", "--warmup-steps", "100")
"""A second stage, from trained weights."""
MORE, SHORT = 1000, 1500
"""Steps of a second stage, and of runs that are compared with each other alone."""

RUNS: dict[str, TrainingRun] = {
    **{f"{TINY}-{seed}": TrainingRun(TINY, _seed(seed)) for seed in range(3)},
    **{f"vie_{name}_tiny-0": TrainingRun(f"vie_{name}_tiny") for name in ("3dresnet", "slowfast")},
    f"{SMALL}-0": TrainingRun(SMALL, _steps(12_000)),
    **{f"vie_{name}_small-0": TrainingRun(f"vie_{name}_small") for name in ("3dresnet", "slowfast")},
    # local aggregation against instance recognition, from the same weights and for as many steps
    **{f"{TINY}-ir-{s}": TrainingRun(TINY, (*_seed(s), *_steps(MORE), *AGAIN), f"{TINY}-{s}") for s in range(3)},
    **{f"{TINY}-la-{s}": TrainingRun(TINY, (*_seed(s), *_steps(MORE, la=True), *AGAIN), f"{TINY}-{s}") for s in range(3)},
    **{
        f"{SMALL}-{name}-0": TrainingRun(SMALL, (*_steps(MORE, la=name == "la"), *AGAIN), f"{SMALL}-0") for name in ("ir", "la")
    },
    # what local aggregation needs
    **{
        f"{TINY}-la-{name}-0": TrainingRun(TINY, (*_steps(MORE, la=True), *AGAIN, *flags), f"{TINY}-0")
        for name, flags in {
            "coarse": ("--clusters", "60"),
            "fine": ("--clusters", "1500"),
            "three": ("--clusterings", "3"),
            "near": ("--background", "200"),
            "far": ("--background", "2400"),
        }.items()
    },
    # what instance recognition needs: each beside vie_single_tiny-short-0
    **{
        f"{TINY}-{name}-0": TrainingRun(TINY, (*_steps(SHORT), *flags))
        for name, flags in {
            "short": (),
            "t0.07": ("--temperature", "0.07"),
            "t0.2": ("--temperature", "0.2"),
            "part0.3": ("--part", "0.3"),
            "part0.7": ("--part", "0.7"),
            "random-bank": ("--bank-start", "random"),
            "slow": ("--lr", "0.03"),
        }.items()
    },
    **{f"{TINY}-{kind}-0": TrainingRun(TINY, _steps(SHORT), list=kind) for kind in ("photos", "videos")},
    **{f"{TINY}-steps{steps}-0": TrainingRun(TINY, _steps(steps)) for steps in (750, 3000)},
    # the paper's baselines
    f"{TINY}-opn-0": TrainingRun(TINY, ("--objective", "order", *_steps(SHORT), "--bank-start", "random")),
    "vie_3dresnet_tiny-rotnet-0": TrainingRun(
        "vie_3dresnet_tiny", ("--objective", "rotation", *_steps(500), "--batch-size", "16", "--bank-start", "random")
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
    done(["train", run.model, *lists, *run.flags, *begin, *fast, *extra, "-o", str(out / "runs" / name)])
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
