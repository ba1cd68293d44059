"""Compares short runs of training, to choose its settings: `python -m reproduce.footage_judge WORLD --weights FOLDER ...`.

Asks about photographs and videos that were trained on, without their labels, so that the tests of reproduce.footage have no
part in the choice: classes of mini-ImageNet and of Caltech-101, each photograph named by those of the other four fifths, and
actions of UCF101, whose groups of recordings are left out by tenths. By kNN on the embedding and by ridge regression on
encode_10. Prints a table; after ±, half of the 95 % interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vie_models.datasets.lists import read_list

from .footage import EMBEDDING, load, outputs
from .footage_tests import Split, Videos, knn_predictions, score

LAYER = "encode_10"
PENALTIES = (1e1, 1e2, 1e3, 1e4)
SOURCES = {"mini-ImageNet": "/photos/mini_imagenet84/", "Caltech-101": "/photos/caltech101/", "UCF101": "/ucf101_subset20/"}
CLIPS = {"UCF101": 5}


def read_questions(world: Path) -> dict[str, tuple[Videos, Split]]:
    """The labeled photographs and videos of each source, in a world's list, and how they are asked."""
    videos = read_list(world / "91" / "all.txt", world / "91")
    paths, labels = [videos.paths.name(i) for i in range(len(videos))], videos.labels.numpy()
    found = {}
    for name, part in SOURCES.items():
        own = [i for i, path in enumerate(paths) if part in path and labels[i] >= 0]
        groups = np.arange(len(own))
        folds = list(KFold(5, shuffle=True, random_state=0).split(groups))
        if name in CLIPS:  # v_CLASS_gGROUP_cCLIP.avi
            numbers = [paths[i].rpartition("_g")[2].partition("_")[0] for i in own]
            recordings = [f"{labels[i]} {number}" for i, number in zip(own, numbers, strict=True)]
            groups = np.unique(recordings, return_inverse=True)[1]
            folds = list(GroupKFold(10).split(numbers, groups=numbers))
        seen = np.ones(len(own), bool)
        found[name] = (Videos([paths[i] for i in own], labels[own], groups, seen, CLIPS.get(name, 1)), Split(name, name, folds))
    return found


def ridge_predictions(values: np.ndarray, videos: Videos, split: Split) -> np.ndarray:
    """Names by ridge regression on means over clips [V, C, D], int64 [V]. It is much faster than logistic regression."""
    found, means = np.full(len(videos.labels), -1), values.mean(1)
    for known, asked in split.folds:
        fit = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES))
        found[asked] = fit.fit(means[known], videos.labels[known]).predict(means[asked])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path, help="folder of reproduce.footage_world")
    parser.add_argument("--weights", nargs="+", required=True, help="weight folders, or names of published sets")
    parser.add_argument("--workers", type=int, default=1, help="processes that read videos")
    options = parser.parse_args()
    options.data, options.placement = Path(), "even"
    questions = read_questions(options.world)
    columns = [f"{name}, {protocol}" for name in questions for protocol in ("kNN", "ridge")]
    print(f"| of what was trained on, % | {' | '.join(columns)} |\n|---|" + "---|" * len(columns), flush=True)
    for weights in options.weights:
        model, cells = load(weights), []
        for videos, split in questions.values():
            arrays = outputs(model, videos, options)
            by_knn = knn_predictions(arrays[EMBEDDING], videos, split, standardize=False)
            for predictions in (by_knn, ridge_predictions(arrays[LAYER], videos, split)):
                mean, low, high = (100 * number for number in score(predictions, videos, split))
                cells.append(f"{mean:.1f} ± {(high - low) / 2:.1f}")
        print(f"| {Path(weights).name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
