"""One table of all runs and evaluations: top-1 measured here and, if asked for, top-1 published by the authors."""

from __future__ import annotations

import dataclasses
import json
import statistics
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

from ..encoders.pixels import PIXELS
from ..failures import NothingReadError
from ..files import replacing
from ..models import MODELS
from ..weights.card import Measured
from ..weights.catalog import CATALOG
from .figure import new_figure
from .results import RESULTS

PUBLISHED: dict[tuple[str, str, str], tuple[float, str]] = {
    (record.model, metric.dataset, metric.protocol): (metric.value, metric.source)
    for record in CATALOG.values()
    for metric in record.metrics
    if metric.dataset and metric.protocol
}
"""Published top-1 accuracies in percent: (model, dataset, protocol) -> (top-1, source)."""
_NO_MATTER = frozenset("seed out device workers save_every keep log_every validate_every max_failed max_failures".split())  # noqa: SIM905
"""Settings in which runs of one row may differ: the seed, and what does not change the result."""
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
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The settings that its runs share, as text."""

    def measured(self) -> str:
        """Returns top-1 in percent: mean and standard deviation over runs, or one run with its 95 % interval."""
        if len(self.top1) > 1:
            mean, spread = 100 * statistics.mean(self.top1), 100 * statistics.stdev(self.top1)
            return f"{mean:.1f} ± {spread:.1f} ({len(self.top1)} runs)"
        low, high = self.intervals[0]
        return f"{100 * self.top1[0]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def report(folders: list[Path], out: Path, *, published: bool = False) -> str:
    """Writes a table of results to `out`, with a PNG beside it, and returns the table as Markdown.

    Runs that differ in the seed alone share a row, which has their mean and standard deviation. The row of a single run has
    its 95 % interval. For weights, the settings of their training count, which are in the weight folder (training.json).

    Args:
        folders: folders to search for results.json, with their subfolders.
        out: Markdown file to write.
        published: add the top-1 that the authors published, and what has not been measured here.

    Raises:
        NothingReadError: the folders have no results.json.
        ValueError: a results.json is not one.
    """
    rows = read_rows(folders)
    text = _markdown(rows, published)
    with replacing(out) as path:
        path.write_text(text)
    _picture(rows, out.with_suffix(".png"))
    return text


def read_rows(folders: list[Path]) -> list[Row]:
    """Reads all results in `folders` and returns the rows, sorted. Raises NothingReadError if there are no results."""
    if missing := [folder for folder in folders if not folder.exists()]:
        raise FileNotFoundError(f"no folder {missing[0]}: give output folders of evaluations")
    files = sorted({file for folder in folders for file in folder.rglob(RESULTS)})
    if not files:
        raise NothingReadError(f"there is no {RESULTS} in {', '.join(map(str, folders))}: give output folders of evaluations")
    rows: dict[str, Row] = {}
    for file in files:
        try:
            result = json.loads(file.read_text())
            for protocol, found in result["protocols"].items():
                row = _row(result, protocol)
                key = json.dumps([row.dataset, row.protocol, row.model, row.weights, row.settings], sort_keys=True)
                row = rows.setdefault(key, row)
                row.top1.append(found["top1"])
                row.intervals.append(tuple(found["top1_interval"]))
                row.hashes.append(result["weights"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is not the result of an evaluation ({error!r}): remove it, or evaluate again") from error
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
    if result["task"] in ("knn", "logistic") and result["model"] not in MODELS:
        untrained = "random" if ",untrained" in result["model"] else "none" if result["model"] == PIXELS else "published"
    width = settings.get("width")
    model = result["model"] + (f" (width {width})" if width else "")
    given = settings.get("weights")
    shared = {key: value for key, value in settings.items() if key not in _NO_MATTER}
    if "layer" in shared:
        shared["layer"] = shared["layer"] or "output"
    if given and (training := _training(Path(given))):
        shared |= {"weights": _start(given), **{f"weights: {key}": value for key, value in training.items()}}
    return Row(model, _dataset(result), name, _start(given or untrained), settings=shared)


def _training(weights: Path) -> dict[str, Any] | None:
    """Returns the settings by which a weight folder was trained, without those that do not matter; None if not known."""
    file = weights / "training.json"
    if not file.is_file():
        return None
    found = json.loads(file.read_text())
    return {"step": found["step"], **{key: value for key, value in found["settings"].items() if key not in _NO_MATTER}}


def _start(weights: str) -> str:
    """Returns the name of a weight folder without the number at its end, which tells seeds apart."""
    return Path(weights).name.rstrip("0123456789").rstrip("-_") or weights


def _label(row: Row, rows: list[Row]) -> str:
    """Returns the row's weights, and the settings in which it differs from rows that look the same."""
    alike = [
        r for r in rows if (r.model, r.dataset, r.protocol, r.weights) == (row.model, row.dataset, row.protocol, row.weights)
    ]
    keys = {
        key for other in alike for key in {*other.settings, *row.settings} if other.settings.get(key) != row.settings.get(key)
    }
    differing = ", ".join(f"{key}={row.settings.get(key)}" for key in sorted(keys))
    return f"{row.weights} ({differing})" if differing else row.weights


def _dataset(result: dict[str, Any]) -> str:
    """Returns the dataset's name if its size matches one with published numbers, or else the path of its list."""
    classes = len({video["label"] for video in result["videos"]})
    for (number, fewest, most), name in _SIZES.items():
        if classes == number and fewest <= result["num_videos"] <= most:
            return name
    val_list = Path(result["settings"]["val_list"])
    return f"{val_list.parent.name}/{val_list.name}"


def _markdown(rows: list[Row], published: bool) -> str:
    heads = ["test videos", "protocol", "model", "weights", "top-1 measured here, %"]
    heads += ["top-1 published, % (source)"] if published else []
    table = [heads, ["---"] * len(heads)]
    for row in rows:
        key = (row.model, row.dataset, row.protocol)
        theirs = f"{PUBLISHED[key][0]:.1f} ({PUBLISHED[key][1]})" if key in PUBLISHED else "not known"
        table.append(
            [row.dataset, row.protocol, row.model, _label(row, rows), row.measured(), *([theirs] if published else [])]
        )
    measured = {(row.model, row.dataset, row.protocol) for row in rows}
    for (model, dataset, protocol), (top1, source) in PUBLISHED.items() if published else ():
        if (model, dataset, protocol) not in measured:
            table.append([dataset, protocol, model, "the authors'", "not measured", f"{top1:.1f} ({source})"])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


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
        names = [textwrap.fill(f"{row.protocol}: {row.model}, {_label(row, rows)}", 60) for row in group]
        means = [100 * statistics.mean(row.top1) for row in group]
        spreads = [100 * statistics.stdev(row.top1) if len(row.top1) > 1 else 0 for row in group]
        axes.barh(names, means, xerr=spreads, color="tab:blue", height=0.7)
        axes.invert_yaxis()
        axes.set(title=dataset, xlabel="top-1, %")
    figure.savefig(out, dpi=100)
