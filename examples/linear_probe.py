"""Measures how much each layer knows of labels: `python examples/linear_probe.py FEATURES LABELS.csv [--layers ...]`.

FEATURES is a folder that `vie extract ... --layers` wrote. LABELS.csv has the columns path (the end of a path in the manifest),
label, and split (train or test). For each layer, fits a logistic regression to features averaged over the clips of a video.
Needs scikit-learn. `vie eval logistic` and `vie eval linear` are similar, but start from videos.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vie_models as vie


def main() -> None:
    """Loads features, fits one classifier per layer and prints its test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="folder of features")
    parser.add_argument("labels", type=Path, help="CSV file with path, label and split")
    parser.add_argument("--layers", nargs="+", default=["embedding"], help="layers to test")
    args = parser.parse_args()
    with args.labels.open(newline="") as file:
        rows = list(csv.DictReader(file))

    features = vie.load_features(args.features, args.layers)
    clips_of = {row["path"]: np.flatnonzero([str(p).endswith(row["path"]) for p in features.table["path"]]) for row in rows}
    rows = [row for row in rows if len(clips_of[row["path"]])]
    labels, train = np.array([row["label"] for row in rows]), np.array([row["split"] == "train" for row in rows])
    print(f"{train.sum()} videos to train on, {(~train).sum()} to test, {len(set(labels))} classes")
    for layer in args.layers:
        x = np.stack([features.arrays[layer][clips_of[row["path"]]].mean(0) for row in rows])
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(x[train], labels[train])
        print(f"{layer}: {100 * fit.score(x[~train], labels[~train]):.1f} % test accuracy")


if __name__ == "__main__":
    main()
