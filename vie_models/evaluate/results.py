"""Results of an evaluation: results.json with a prediction for every video, a confusion matrix, and the wrong videos.

V videos, K classes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import replacing
from .errors import Wrong, write_errors
from .figure import new_figure

RESULTS = "results.json"
UNREAD = -1
WRITTEN, NAMED = 30, 60
"""Classes of a confusion matrix on a small figure, and of one with names and counts."""


@dataclasses.dataclass(frozen=True)
class Withheld:
    """Which answers are withheld."""

    threshold: float
    """Those with a lower score."""
    known: list[int]
    """The classes that were learned. No answer is right for videos of others."""


@dataclasses.dataclass(frozen=True)
class Results:
    """Predictions for the videos of a list, by one or more protocols."""

    about: dict[str, Any]
    """What was evaluated: model, hash of its weights and settings, as JSON-ready values."""
    paths: list[str]
    """V paths of the videos."""
    labels: Tensor
    """Labels of the videos, int64 [V]."""
    top: dict[str, Tensor]
    """Most likely classes by each protocol, best first, int64 [V, up to 5]; -1 for a video that could not be read."""
    classes: list[str] | None = None
    """Class names; label i is the i-th. None: unknown."""
    scores: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Scores of the classes in `top`, float32, if they are known: probabilities, or for kNN sums of votes."""
    withheld: Withheld | None = None
    """Which answers are withheld, if any."""

    @property
    def unread(self) -> int:
        """Number of videos that could not be read."""
        return int((next(iter(self.top.values()))[:, 0] == UNREAD).sum())

    def hits(self, protocol: str, k: int = 1) -> np.ndarray:
        """Returns whether the label is among the first k classes, bool [V]. A video that could not be read counts as wrong."""
        return (self.top[protocol][:, :k] == self.labels[:, None]).any(1).numpy()

    def summary(self, protocol: str) -> dict[str, Any]:
        """Returns accuracies, from 0 to 1, with their 95 % intervals.

        `top1` and `top5` weigh each video the same, `class_mean` each class. `per_class` has each class in the list.
        """
        summary: dict[str, Any] = {}
        for name, k in (("top1", 1), ("top5", 5)):
            hits = self.hits(protocol, k)
            summary |= {name: float(hits.mean()), f"{name}_interval": list(wilson_interval(int(hits.sum()), len(hits)))}
        hits, labels = self.hits(protocol), self.labels.numpy()
        of_classes = {}
        for label in np.unique(labels).tolist():
            right, videos = int(hits[labels == label].sum()), int((labels == label).sum())
            interval = list(wilson_interval(right, videos))
            of_classes[self.name(label)] = {"top1": right / videos, "interval": interval, "right": right, "videos": videos}
        mean = float(np.mean([found["top1"] for found in of_classes.values()]))
        if self.withheld is not None:
            summary["named"] = {"threshold": self.withheld.threshold, **self.named(protocol, self.withheld)}
        return {**summary, "class_mean": mean, "per_class": of_classes}

    def wrong(self, protocol: str) -> list[Wrong]:
        """Returns the videos that are classified wrong, in the order of the list."""
        top = self.top[protocol][:, 0].tolist()
        scores = self.scores[protocol][:, 0].tolist() if protocol in self.scores else [0.0] * len(top)
        return [
            Wrong(self.paths[i], self.name(label), None if top[i] == UNREAD else self.name(top[i]), scores[i])
            for i, (label, hit) in enumerate(zip(self.labels.tolist(), self.hits(protocol).tolist(), strict=True))
            if not hit
        ]

    def named(self, protocol: str, withheld: Withheld) -> dict[str, int]:
        """Counts what happens if some answers are withheld.

        Returns:
            Numbers of videos: of known classes `right`, `wrong` and `withheld`; of unknown ones `unknown_named` and
            `unknown_withheld`.
        """
        read = (self.top[protocol][:, 0] != UNREAD).numpy()
        given = (self.scores[protocol][:, 0] >= withheld.threshold).numpy() & read
        hits, is_known = self.hits(protocol), np.isin(self.labels.numpy(), withheld.known)
        return {
            "right": int((given & hits & is_known).sum()),
            "wrong": int((given & ~hits & is_known).sum()),
            "withheld": int((~given & is_known).sum()),
            "unknown_named": int((given & ~is_known).sum()),
            "unknown_withheld": int((~given & ~is_known).sum()),
        }

    def name(self, label: int) -> str:
        """Returns the name of a label, or its number if it has none."""
        return self.classes[label] if self.classes and label < len(self.classes) else str(label)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of results.json."""
        tops, scores = ({name: rows.tolist() for name, rows in found.items()} for found in (self.top, self.scores))
        return {
            **self.about,
            "num_videos": len(self.paths),
            "unread": self.unread,
            "protocols": {protocol: self.summary(protocol) for protocol in self.top},
            "classes": self.classes,
            "videos": [
                {
                    "path": path,
                    "label": label,
                    "predictions": {name: rows[i] for name, rows in tops.items()},
                    "scores": {name: rows[i] for name, rows in scores.items()},
                }
                for i, (path, label) in enumerate(zip(self.paths, self.labels.tolist(), strict=True))
            ],
        }


def wilson_interval(right: int, videos: int) -> tuple[float, float]:
    """Returns the 95 % interval of an accuracy, by Wilson's score (1927).

    It is never empty, also if none or all are right. It assumes independent videos: if many are cut from one recording, the
    true interval is wider.

    Args:
        right: number of videos that are classified correctly.
        videos: number of all videos, 1 or more.
    """
    z = 1.959964
    share = right / videos
    middle = share + z**2 / (2 * videos)
    half = z * math.sqrt(share * (1 - share) / videos + z**2 / (4 * videos**2))
    over = 1 + z**2 / videos
    return max((middle - half) / over, 0.0), min((middle + half) / over, 1.0)


def write_results(folder: Path, results: Results) -> None:
    """Writes results.json and for each protocol errors-<protocol>.csv.

    If matplotlib is installed, also confusion-<protocol>.png and errors-<protocol>.png.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / RESULTS) as path:
        path.write_text(json.dumps(results.to_dict()) + "\n")
    for protocol in results.top:
        try:
            write_errors(folder, protocol, results.wrong(protocol), len(results.paths))
            _write_confusion(folder, results, protocol)
        except ImportError as error:
            print(f"no pictures beside {folder / RESULTS}: {error}", file=sys.stderr)


def _write_confusion(folder: Path, results: Results, protocol: str) -> None:
    """Draws a confusion matrix with the number of videos in each cell. The color is its share of the row, a label."""
    predictions = results.top[protocol][:, 0]
    read = predictions != UNREAD
    size = int(max(results.labels.max(), predictions.max())) + 1
    counts = torch.zeros(size, size, dtype=torch.int64, device="cpu")
    counts.index_put_(
        (results.labels[read], predictions[read]), torch.ones((), dtype=torch.int64, device="cpu"), accumulate=True
    )
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    figure = new_figure((8, 7) if size <= WRITTEN else (12, 11))
    axes = figure.subplots()
    hits = results.hits(protocol)
    unread = f", {int((~read).sum())} of them unread" if not read.all() else ""
    title = f"{protocol}: {int(hits.sum())} of {len(hits)} videos are right{unread}"
    axes.set(title=title, xlabel="answer", ylabel="label")
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, shrink=0.8, label="share of the label's videos")
    if size <= NAMED:
        names = [results.name(label) for label in range(size)]
        axes.set_xticks(range(size), names, rotation=90, fontsize="x-small")
        axes.set_yticks(range(size), names, fontsize="x-small")
        for label, answer in counts.nonzero().tolist():
            color = "white" if shares[label, answer] > 0.5 else "black"
            axes.text(answer, label, int(counts[label, answer]), ha="center", va="center", color=color, fontsize="x-small")
    with replacing(folder / f"confusion-{protocol}.png") as path:
        figure.savefig(path, dpi=100, format="png")


def read_top1(folder: Path, protocol: str) -> float:
    """Returns the accuracy in a folder's results.json, from 0 to 1."""
    return float(json.loads((folder / RESULTS).read_text())["protocols"][protocol]["top1"])


def unread_of(folder: Path) -> int:
    """Returns how many test and training videos of a folder's results.json could not be read."""
    results = json.loads((folder / RESULTS).read_text())
    return int(results["unread"] + results.get("train_unread", 0))


def summary(folder: Path) -> str:
    """Returns a short text of a folder's results.json: accuracies with 95 % intervals, and the number of unreadable videos."""
    results = json.loads((folder / RESULTS).read_text())
    lines = []
    for protocol, found in results["protocols"].items():
        low, high = (100 * bound for bound in found["top1_interval"])
        accuracy = f"top-1 {100 * found['top1']:.1f} % (95 %: {low:.1f} to {high:.1f}), top-5 {100 * found['top5']:.1f} %"
        lines.append(f"{protocol}: {accuracy}, mean over classes {100 * found['class_mean']:.1f} %")
        if given := found.get("named"):
            of_unknown = f"; of unknown classes: {given['unknown_named']} named, {given['unknown_withheld']} withheld"
            unknown = of_unknown if given["unknown_named"] + given["unknown_withheld"] else ""
            lines.append(
                f"names from {given['threshold']:g} on: {given['right']} right, {given['wrong']} wrong, {given['withheld']} "
                f"withheld{unknown}"
            )
    unread = f"{results['unread']} of them could not be read"
    if results.get("train_unread"):
        unread += f", nor could {results['train_unread']} training videos"
    return "\n".join([*lines, f"{results['num_videos']} videos, {unread}; details are in {folder / RESULTS}"])
