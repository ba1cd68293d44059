"""How much each layer knows: `python examples/linear_probe.py FEATURES LABELS.csv [--layers ...]`.

FEATURES is a folder that `vie extract ... --layers` wrote. LABELS.csv has the columns path (as the manifest's paths end),
label, and split (train or test). For each layer a logistic regression is fitted to the means over a video's clips. Needs
scikit-learn. `vie eval logistic` and `vie eval linear` do the like from the videos.
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
    """Loads, fits, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features")
    parser.add_argument("labels", type=Path)
    parser.add_argument("--layers", nargs="+", default=["embedding"])
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
        print(f"{layer}: {100 * fit.score(x[~train], labels[~train]):.1f} % of the test videos")


if __name__ == "__main__":
    main()
