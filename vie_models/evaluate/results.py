"""Results of an evaluation: results.json with a prediction for every video, and a picture of the confusion matrix.

V videos, K classes.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import replacing
from .figure import new_figure

RESULTS = "results.json"
UNREAD = -1


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

    @property
    def unread(self) -> int:
        """Number of videos that could not be read."""
        return int((next(iter(self.top.values()))[:, 0] == UNREAD).sum())

    def hits(self, protocol: str, k: int = 1) -> np.ndarray:
        """Returns whether the label is among the first k classes, bool [V]. A video that could not be read counts as wrong."""
        return (self.top[protocol][:, :k] == self.labels[:, None]).any(1).numpy()

    def summary(self, protocol: str) -> dict[str, Any]:
        """Returns top1 and top5 with their 95 % intervals, and the accuracy of each class in the list, from 0 to 1."""
        summary: dict[str, Any] = {}
        for name, k in (("top1", 1), ("top5", 5)):
            hits = self.hits(protocol, k)
            summary |= {name: float(hits.mean()), f"{name}_interval": list(bootstrap_interval(hits))}
        hits, labels = self.hits(protocol), self.labels.numpy()
        summary["per_class"] = {self.name(label): float(hits[labels == label].mean()) for label in np.unique(labels).tolist()}
        return summary

    def name(self, label: int) -> str:
        """Returns the name of a label, or its number if it has none."""
        return self.classes[label] if self.classes and label < len(self.classes) else str(label)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of results.json."""
        tops = {protocol: top.tolist() for protocol, top in self.top.items()}
        return {
            **self.about,
            "num_videos": len(self.paths),
            "unread": self.unread,
            "protocols": {protocol: self.summary(protocol) for protocol in self.top},
            "classes": self.classes,
            "videos": [
                {"path": path, "label": label, "predictions": {name: rows[i] for name, rows in tops.items()}}
                for i, (path, label) in enumerate(zip(self.paths, self.labels.tolist(), strict=True))
            ],
        }


def bootstrap_interval(hits: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of an accuracy.

    The number of hits in a bootstrap sample is binomial, so it is drawn directly. The interval assumes independent videos. If
    many videos are cut from one recording, the true interval is wider.

    Args:
        hits: whether each video is classified correctly, bool [V].
        draws: number of bootstrap samples.
    """
    means = np.random.default_rng(0).binomial(len(hits), hits.mean(), draws) / len(hits)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def write_results(folder: Path, results: Results) -> None:
    """Writes results.json and, if matplotlib is installed, a confusion-<protocol>.png for each protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / RESULTS) as path:
        path.write_text(json.dumps(results.to_dict()) + "\n")
    for protocol, top in results.top.items():
        try:
            figure = new_figure((8, 7))
        except ImportError as error:
            print(f"no confusion matrix beside {folder / RESULTS}: {error}", file=sys.stderr)
            return
        _confusion(figure, results, top[:, 0], f"{protocol}: {100 * results.hits(protocol).mean():.1f} % top-1")
        figure.savefig(folder / f"confusion-{protocol}.png", dpi=100)


def _confusion(figure: Any, results: Results, predictions: Tensor, title: str) -> None:
    """Draws a confusion matrix. Each row is a label, normalized to a distribution over predictions."""
    read = predictions != UNREAD
    size = int(max(results.labels.max(), predictions.max())) + 1
    counts = torch.zeros(size, size, device="cpu")
    counts.index_put_((results.labels[read], predictions[read]), torch.ones(int(read.sum()), device="cpu"), accumulate=True)
    axes = figure.subplots()
    axes.set(title=title, xlabel="predicted", ylabel="label")
    figure.colorbar(
        axes.imshow((counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy(), vmin=0, vmax=1, cmap="Blues"), shrink=0.8
    )
    if size <= 60:
        names = [results.name(label) for label in range(size)]
        axes.set_xticks(range(size), names, rotation=90, fontsize="x-small")
        axes.set_yticks(range(size), names, fontsize="x-small")


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
        lines.append(f"{protocol}: {accuracy}")
    unread = f"{results['unread']} of them could not be read"
    if results.get("train_unread"):
        unread += f", nor could {results['train_unread']} training videos"
    return "\n".join([*lines, f"{results['num_videos']} videos, {unread}; details are in {folder / RESULTS}"])
