"""The tests of reproduce.footage: which videos are asked, what is learned from, and how answers are scored.

V videos, C clips each, D dimensions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vie_models.bank.voting import knn_of_rows
from vie_models.datasets.lists import read_list

from .footage_world import MAX_PER_CLASS, caltech, read_table, trains_on, unseen
from .worlds.moving_textures import MOTIONS

NEIGHBORS, TEMPERATURE = 10, 0.07
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Values of C, from which cross-validation over training groups chooses."""
PHOTOGRAPHS = {"caltech": caltech, "unseen": unseen}
"""Tests of photographs: what lists them, with their place in a random order of their class."""
TOYS = ("object", "motion")
DRAWS = 5000
"""Samples of the bootstrap."""


@dataclasses.dataclass(frozen=True)
class Videos:
    """A set of labeled videos or photographs."""

    paths: list[str]
    """V paths from the data's folder."""
    labels: np.ndarray
    """int64 [V]."""
    groups: np.ndarray
    """int64 [V]: videos of one group are alike, and never on both sides of a split."""
    seen: np.ndarray
    """bool [V]: whether the weights were trained on it, without its label."""
    clips: int = 5


@dataclasses.dataclass(frozen=True)
class Split:
    """One question: learn from some videos, name the others."""

    name: str
    videos: str
    """Name of the set."""
    folds: list[tuple[np.ndarray, np.ndarray]]
    """Indices to learn from, and indices to ask."""
    balanced: bool = False
    """Score the mean over classes, instead of the mean over videos."""


def read_sets(data: Path, toys: Path | None = None) -> dict[str, Videos]:
    """The five sets; and with `toys`, a folder of `python -m reproduce.worlds.moving_textures`, its objects and its motions."""
    ucf = read_table(data / "ucf101_subset20" / "labels.csv")
    fights = [row for row in read_table(data / "footage" / "footage.csv") if row["label"]]
    tank = read_table(data / "tank_state4" / "labels.csv")
    return {
        "ucf": Videos(
            [f"ucf101_subset20/{row['path']}" for row in ucf],
            _numbers([row["label"] for row in ucf]),
            _numbers([f"{row['label']} {row['group']}" for row in ucf]),
            np.array([row["suggested_split"] != "test" for row in ucf]),
        ),
        "fights": Videos(
            [f"footage/{row['path']}" for row in fights],
            _numbers([row["label"] for row in fights]),
            _numbers([row["video"] for row in fights]),
            np.array([trains_on(row["video"]) for row in fights]),
        ),
        "tank": Videos(
            [f"tank_state4/{row['path']}" for row in tank],
            _numbers([row["label"] for row in tank]),
            np.array([row["suggested_split"] == "train" for row in tank]).astype(np.int64),
            np.zeros(len(tank), bool),
        ),
        "caltech": _photographs(caltech(data), seen=MAX_PER_CLASS),
        "unseen": _photographs(unseen(data), seen=0),
        **({} if toys is None else {f"toy {label}s": _toys(toys, label) for label in TOYS}),
    }


def _photographs(photos: list[tuple[str, str, int]], seen: int) -> Videos:
    """Photographs by their class; those with a place < `seen` were trained on."""
    paths, names, places = zip(*photos, strict=True)
    return Videos(list(paths), _numbers(list(names)), np.arange(len(photos)), np.array(places) < seen, clips=1)


def _toys(toys: Path, label: str) -> Videos:
    """Rendered videos by one of their labels, with absolute paths; a group is a scene, filmed with each motion."""
    parts = [read_list(toys / label / f"{part}.txt", toys.resolve()) for part in ("train", "val")]
    paths = [part.paths.name(i) for part in parts for i in range(len(part))]
    groups = np.concatenate([i * 10**6 + np.arange(len(part)) // len(MOTIONS) for i, part in enumerate(parts)])
    return Videos(paths, np.concatenate([part.labels.numpy() for part in parts]), groups, np.zeros(len(paths), bool), clips=2)


def read_splits(data: Path, sets: dict[str, Videos]) -> dict[str, Split]:
    """The questions asked of the sets."""
    ucf, fights, tank = sets["ucf"], sets["fights"], sets["tank"]
    numbers = np.array([row["group"] for row in read_table(data / "ucf101_subset20" / "labels.csv")])
    places = {name: np.array([place for *_, place in photos(data)]) for name, photos in PHOTOGRAPHS.items()}
    splits = [
        Split("ucf", "ucf", [_fold(numbers != number, numbers == number) for number in np.unique(numbers)]),
        Split("ucf official", "ucf", [_fold(ucf.seen, ~ucf.seen)]),
        Split("fights", "fights", list(GroupKFold(10).split(fights.labels, groups=fights.groups))),
        Split("tank", "tank", [_fold(tank.groups == 1, tank.groups == 0)], balanced=True),
        *(
            Split(f"{name} {n}", name, [_fold(of_class < n, of_class >= MAX_PER_CLASS)], balanced=True)
            for name, of_class in places.items()
            for n in (15, MAX_PER_CLASS)
        ),
        *(Split(name, name, [_fold(*_learned(sets[name]))]) for name in sets if name.startswith("toy")),
    ]
    return {split.name: split for split in splits}


def _learned(toys: Videos) -> tuple[np.ndarray, np.ndarray]:
    """Which rendered videos are learned from, and which are asked, bool [V]."""
    learned = np.array([Path(path).parent.name == "train" for path in toys.paths])
    return learned, ~learned


def knn_predictions(values: np.ndarray, videos: Videos, split: Split, standardize: bool) -> np.ndarray:
    """Names by the nearest of the training videos' mean vectors, as `vie eval knn`.

    Args:
        values: [V, C, D].
        videos: the set.
        split: the question.
        standardize: scale each dimension by the training videos before directions are compared; embeddings need it not.

    Returns:
        int64 [V]; -1 for a video that is not asked.
    """
    found = np.full(len(videos.labels), -1)
    for known, asked in split.folds:
        rows, clips = values[known].mean(1), values[asked]
        if standardize:
            mean, spread = rows.mean(0), rows.std(0) + 1e-6
            rows, clips = (rows - mean) / spread, (clips - mean) / spread
        unit_rows = F.normalize(torch.from_numpy(rows), dim=1)
        unit_clips = F.normalize(torch.from_numpy(clips), dim=2)
        labels = torch.from_numpy(videos.labels)
        number = int(labels.max()) + 1
        found[asked] = knn_of_rows(unit_clips, unit_rows, labels[known], NEIGHBORS, TEMPERATURE, number).predictions
    return found


def logistic_predictions(values: np.ndarray, videos: Videos, split: Split) -> np.ndarray:
    """Names by logistic regression on means over clips; the penalty is chosen by cross-validation over training groups.

    Args and returns as for `knn_predictions`.
    """
    found, means = np.full(len(videos.labels), -1), values.mean(1)
    for known, asked in split.folds:
        line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        groups = videos.groups[known]
        inner = GroupKFold(3) if len(np.unique(groups)) > 3 else 3
        fit = GridSearchCV(line, {"logisticregression__C": PENALTIES}, cv=inner)
        of_groups = {} if inner == 3 else {"groups": groups}
        found[asked] = fit.fit(means[known], videos.labels[known], **of_groups).predict(means[asked])
    return found


def score(predictions: np.ndarray, videos: Videos, split: Split, which: np.ndarray | None = None) -> tuple[float, float, float]:
    """Accuracy, and its 95 % bootstrap interval over groups; of a balanced split over the videos of each class.

    Args:
        predictions: int64 [V]; -1 for a video that is not asked.
        videos: the set.
        split: the question.
        which: count these only, bool [V].
    """
    asked = predictions >= 0 if which is None else (predictions >= 0) & which
    hits, labels, random = (predictions == videos.labels)[asked], videos.labels[asked], np.random.default_rng(0)
    if split.balanced:  # photographs and videos are drawn within their class
        counts = np.unique(labels, return_counts=True)[1]
        means = np.array([hits[labels == label].mean() for label in np.unique(labels)])
        mean, drawn = means.mean(), (random.binomial(counts, means, (DRAWS, len(counts))) / counts).mean(1)
    else:
        groups = np.unique(videos.groups[asked], return_inverse=True)[1]
        sums = np.stack([np.bincount(groups, hits), np.bincount(groups)], 1)
        right, number = (random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), DRAWS) @ sums).T
        mean, drawn = hits.mean(), right / number
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(mean), float(low), float(high)


def _numbers(names: list[str]) -> np.ndarray:
    return np.unique(names, return_inverse=True)[1]


def _fold(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(known), np.flatnonzero(asked)
