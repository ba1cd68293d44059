"""Shows how accuracy grows with training: `python -m reproduce.footage_growth DATA [--results FOOTAGE] [--out growth.png]`.

Reads what `python -m reproduce.footage DATA --weights ...` found for runs of reproduce.footage_training. Prints tables, and
draws them. Fits a line to accuracy over the logarithm of clips seen, and prints what it says of the paper's training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from vie_models.evaluate.figure import new_figure

from .footage_tests import read_sets, read_splits, score
from .footage_training import SHORT

CLIPS = 64
"""A step's."""
STEPS = {"vie_single_tiny-steps750-0": 750, "vie_single_tiny-steps1500-0": 1500, "vie_single_tiny-short-0": SHORT,
         "vie_single_tiny-0": 8000}  # fmt: skip
INSTANCES = {"vie_single_tiny-part0.3-0": 1651, "vie_single_tiny-part0.7-0": 3853, "vie_single_tiny-short-0": 5505}
"""Runs of SHORT steps."""
PAPER = 128 * 1_375_000
"""Clips of VIE-Single's run on Kinetics: batch size and steps of the release."""
MEASURES = {"UCF101, kNN": ("ucf", "knn embedding"), "UCF101, logistic": ("ucf", "logistic encode_10"),
            "Caltech-101, logistic": ("caltech 30", "logistic encode_10")}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photographs and videos")
    parser.add_argument("--results", type=Path, default=Path("runs/footage"), help="output of reproduce.footage")
    parser.add_argument("--out", type=Path, default=Path("growth.png"), help="the picture")
    options = parser.parse_args()
    sets = read_sets(options.data)
    splits = read_splits(options.data, sets)

    def accuracy(run: str, test: str, key: str) -> float:
        split = splits[test]
        predictions = json.loads((options.results / run / f"{test}.json").read_text())[key]
        return 100 * score(np.array(predictions), sets[split.videos], split)[0]

    figure = new_figure((9, 3.5))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (what, runs) in zip(axes, {"steps": STEPS, "instances": INSTANCES}.items(), strict=True):
        print(f"| {what} | {' | '.join(MEASURES)} |\n|---|" + "---|" * len(MEASURES))
        found = np.array([[accuracy(run, *measure) for measure in MEASURES.values()] for run in runs])
        for number, row in zip(runs.values(), found, strict=True):
            print(f"| {number} | {' | '.join(f'{value:.1f}' for value in row)} |")
        print()
        for name, column in zip(MEASURES, found.T, strict=True):
            ax.semilogx(list(runs.values()), column, "o-", label=name)
            if what == "steps":
                slope, base = np.polyfit(np.log10([CLIPS * number for number in runs.values()]), column, 1)
                far = slope * np.log10(PAPER) + base
                print(f"{name}: {slope:.1f} points for ten times the clips, so {far:.0f} % at {PAPER:,}")
        ax.set_xlabel(what)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy, %")
    axes[0].legend()
    figure.savefig(options.out, dpi=120)
    print(options.out)


if __name__ == "__main__":
    main()
