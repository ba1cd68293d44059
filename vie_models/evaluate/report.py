"""One table of all runs and evaluations: top-1 measured here, next to top-1 published by the authors."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..files import replacing
from ..weights.card import Measured
from .figure import new_figure
from .results import RESULTS

RELEASE = "printed by the original release"
PUBLISHED: dict[tuple[str, str, str], tuple[float, str]] = {
    ("vie_3dresnet", "Kinetics-400", "knn"): (0.323, RELEASE),
    ("vie_3dresnet", "Kinetics-400", "encode_6"): (0.337, RELEASE),
    ("vie_3dresnet", "Kinetics-400", "encode_8"): (0.417, RELEASE),
    ("vie_3dresnet", "Kinetics-400", "encode_10"): (0.436, RELEASE),
    ("vie_3dresnet", "ImageNet", "encode_6"): (0.305, RELEASE),
    ("vie_3dresnet", "ImageNet", "encode_8"): (0.355, RELEASE),
    ("vie_3dresnet", "ImageNet", "encode_10"): (0.326, RELEASE),
}
"""Published top-1 accuracies, from 0 to 1: (model, dataset, protocol) -> (top-1, source)."""
_SIZES = {(400, 19_000, 20_500): "Kinetics-400", (1000, 50_000, 50_000): "ImageNet"}  # number of classes, range of test videos


@dataclasses.dataclass
class Row:
    """A row of the table: runs that differ only in their seed."""

    model: str
    dataset: str
    protocol: str
    weights: str
    top1: list[float] = dataclasses.field(default_factory=list)
    intervals: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    hashes: list[str] = dataclasses.field(default_factory=list)
    """Hash of each run's weights."""

    def measured(self) -> str:
        """Returns top-1 in percent: mean and standard deviation over runs, or one run with its 95 % interval."""
        if len(self.top1) > 1:
            mean, spread = 100 * statistics.mean(self.top1), 100 * statistics.stdev(self.top1)
            return f"{mean:.1f} ± {spread:.1f} ({len(self.top1)} runs)"
        low, high = self.intervals[0]
        return f"{100 * self.top1[0]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def report(folders: list[Path], out: Path) -> str:
    """Writes a table of results to `out`, with a PNG beside it, and returns the table as Markdown.

    Runs with the same model, list, protocol and starting weights share a row. A row has the mean and standard deviation over
    its runs, or a single run with its 95 % interval.

    Args:
        folders: folders to search for results.json, with their subfolders.
        out: Markdown file to write.

    Raises:
        FileNotFoundError: the folders have no results.json.
    """
    rows = read_rows(folders)
    text = _markdown(rows)
    with replacing(out) as path:
        path.write_text(text)
    _picture(rows, out.with_suffix(".png"))
    return text


def read_rows(folders: list[Path]) -> list[Row]:
    """Reads all results in `folders` and returns the rows, sorted. Raises FileNotFoundError if there are no results."""
    files = sorted({file for folder in folders for file in folder.rglob(RESULTS)})
    if not files:
        raise FileNotFoundError(f"there is no {RESULTS} in {', '.join(map(str, folders))}: give output folders of evaluations")
    rows: dict[tuple[str, ...], Row] = {}
    for file in files:
        result = json.loads(file.read_text())
        for protocol, found in result["protocols"].items():
            row = _row(result, protocol)
            row = rows.setdefault((row.dataset, row.protocol, row.model, row.weights), row)
            row.top1.append(found["top1"])
            row.intervals.append(tuple(found["top1_interval"]))
            row.hashes.append(result["weights"])
    return [rows[key] for key in sorted(rows)]


def measured_of(weights: str, rows: list[Row]) -> list[Measured]:
    """Returns the measurements of the weights with the hash `weights` (from `hash_of_weights`), for their model card."""
    return [
        Measured(
            dataset=row.dataset,
            protocol=row.protocol,
            value=round(100 * row.top1[row.hashes.index(weights)], 1),
            spread=row.measured(),
        )
        for row in rows
        if weights in row.hashes
    ]


def _row(result: dict[str, Any], protocol: str) -> Row:
    settings = result["settings"]
    name = {"supervised": "fine-tuned" if settings.get("weights") else "from scratch"}.get(protocol, protocol)
    untrained = "trained on the list" if result["task"] in ("vie", "rotation", "order") else "untrained"
    width = settings.get("width")
    model = result["model"] + (f" (width {width})" if width else "")
    return Row(model, _dataset(result), name, _start(settings.get("weights") or untrained))


def _start(weights: str) -> str:
    """Returns the name of a weight folder without the number at its end, which tells seeds apart."""
    return Path(weights).name.rstrip("0123456789").rstrip("-_") or weights


def _dataset(result: dict[str, Any]) -> str:
    """Returns the dataset's name if its size matches one with published numbers, or else the path of its list."""
    classes = len({video["label"] for video in result["videos"]})
    for (number, fewest, most), name in _SIZES.items():
        if classes == number and fewest <= result["num_videos"] <= most:
            return name
    val_list = Path(result["settings"]["val_list"])
    return f"{val_list.parent.name}/{val_list.name}"


def _markdown(rows: list[Row]) -> str:
    lines = [
        "| test videos | protocol | model | weights | top-1 published, % (source) | top-1 measured here, % | not reproduced |",
        "|---|---|---|---|---|---|---|",
    ]
    measured = set()
    for row in rows:
        key = (row.model, row.dataset, row.protocol)
        measured.add(key)
        published = f"{100 * PUBLISHED[key][0]:.1f} ({PUBLISHED[key][1]})" if key in PUBLISHED else "not known"
        lines.append(f"| {row.dataset} | {row.protocol} | {row.model} | {row.weights} | {published} | {row.measured()} | |")
    for (model, dataset, protocol), (top1, source) in PUBLISHED.items():
        if (model, dataset, protocol) not in measured:
            lines.append(f"| {dataset} | {protocol} | {model} | the authors' | {100 * top1:.1f} ({source}) | | not measured |")
    return "\n".join(lines) + "\n"


def _picture(rows: list[Row], out: Path) -> None:
    """Draws a bar for each row, in one panel per list of test videos."""
    panels: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        panels[row.dataset].append(row)
    figure = new_figure((9, 1 + sum(0.8 + 0.28 * len(group) for group in panels.values())))
    heights = [1 + len(group) for group in panels.values()]
    for axes, (dataset, group) in zip(
        figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0], panels.items(), strict=True
    ):
        names = [f"{row.protocol}: {row.model}, {row.weights}" for row in group]
        means = [100 * statistics.mean(row.top1) for row in group]
        spreads = [100 * statistics.stdev(row.top1) if len(row.top1) > 1 else 0 for row in group]
        axes.barh(names, means, xerr=spreads, color="tab:blue", height=0.7)
        axes.invert_yaxis()
        axes.set(title=dataset, xlabel="top-1, %")
    figure.savefig(out, dpi=100)
