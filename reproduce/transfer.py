"""Measures what pre-training brings: `python -m reproduce.transfer LABELS.csv [--recipes ...] [flags of vie train]`.

LABELS.csv has the columns path (relative to its folder), label, frames and suggested_split ("test"; all other rows are for
training). For each recipe and seed, trains an encoder on the training videos without their labels (`vie train` with the extra
flags), or takes it from FOLDER/<recipe>-<seed> with --weights FOLDER. Then evaluates this encoder and an untrained one on the
test videos: by kNN, by linear readouts or a logistic regression, and by fine-tuning. Also evaluates kNN on raw pixels. Each
result comes from its own `vie` command, and finished results are not computed again. Prints the table of `vie report`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vie_models.evaluate.report import report
from vie_models.evaluate.results import RESULTS

from . import raw_pixels
from .commands import done
from .footage_world import read_table

LINEAR = ["--batch-size", "32", "--epochs", "30"]
FINETUNE = ["--batch-size", "32", "--epochs", "100", "--lr", "0.03", "--weight-decay", "1e-4"]
"""Settings for few videos. The paper's are for batches of 128, thousands of videos and weights trained on Kinetics."""
PROTOCOLS = {
    **{name: ["eval", name] for name in ("knn", "linear", "logistic")},
    "finetune": ["finetune"],
}


def write_lists(labels: Path, out: Path) -> None:
    """Writes train.txt and val.txt, with lines `path frames label`."""
    rows = read_table(labels)
    classes = sorted({row["label"] for row in rows})
    for split in ("train", "val"):
        lines = [
            f"{row['path']} {row['frames']} {classes.index(row['label'])}\n"
            for row in rows
            if (row["suggested_split"] == "test") == (split == "val")
        ]
        (out / f"{split}.txt").write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="CSV file of the videos")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="folder for everything")
    parser.add_argument(
        "--recipes", nargs="+", default=["vie_single_tiny", "vie_3dresnet_tiny", "vie_slowfast_tiny"], help="recipes to train"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run of each recipe per seed")
    parser.add_argument(
        "--protocols", nargs="+", choices=PROTOCOLS, default=["knn", "linear", "finetune"], help="evaluations to run"
    )
    parser.add_argument("--weights", type=Path, help="folder of weight folders <recipe>-<seed>, instead of training")
    parser.add_argument("--workers", default="2", help="processes that read videos")
    options, flags = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write_lists(options.labels, options.out)
    lists = ["--train-list", f"{options.out}/train.txt", "--val-list", f"{options.out}/val.txt"]
    common = [*lists, "--root", str(options.labels.parent), "--workers", options.workers]
    for recipe in options.recipes:
        for seed in options.seeds:
            name = f"{recipe}-{seed}"
            run, weights = options.out / "runs" / name, (options.weights or options.out / "weights") / name
            if not (weights / "config.json").exists():
                done(["train", recipe, *common, "--seed", str(seed), "-o", str(run), *flags])
                done(["export", str(run), str(weights)])
            for protocol in options.protocols:
                own = {"linear": LINEAR, "finetune": FINETUNE}.get(protocol, [])
                own = [*own, "--validate-every", "1000000", "--save-every", "1000000"] if own else []
                for start in ("untrained", "trained"):
                    out = options.out / f"{protocol}-{start}" / name
                    begin = ["--weights", str(weights)] if start == "trained" else []
                    if not (out / RESULTS).exists():
                        done([*PROTOCOLS[protocol], recipe, *common, *own, *begin, "--seed", str(seed), "-o", str(out)])
    if not (options.out / "raw-pixels" / RESULTS).exists():
        raw_pixels.evaluate(
            options.out / "train.txt", options.out / "val.txt", options.labels.parent, options.out / "raw-pixels"
        )
    print(report([options.out], options.out / "report.md"))


if __name__ == "__main__":
    main()
