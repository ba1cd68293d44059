"""Curves of training runs: loss, learning rate and validation accuracy, with the authors' curve where the recipe is theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..evaluate.figure import new_figure
from .logs import read_metrics
from .recipes import recipe
from .run import CONFIG
from .settings import FIXED, TrainConfig

PUBLISHED = Path(__file__).with_name("vie_3dresnet_trajectories.json")
"""kNN top-1 of VIE-3DResNet on Kinetics-400, one value every 5000 steps, from the original release."""


def plot_runs(runs: list[Path], out: Path) -> None:
    """Draws the metrics of training runs and writes them as a PNG.

    Raises:
        FileNotFoundError: a folder is not the folder of a run.
        ImportError: matplotlib is not installed.
    """
    figure = new_figure((8, 9))
    panels = dict(zip(("loss", "lr", "top-1"), figure.subplots(3, 1, sharex=True), strict=True))
    for run in runs:
        if not (run / CONFIG).exists():
            raise FileNotFoundError(f"{run} has no {CONFIG}: it is not the folder of a `vie train` run")
        config = TrainConfig.from_dict(json.loads((run / CONFIG).read_text()))
        lines = read_metrics(run)
        _curve(panels["loss"], lines, "loss", run.name)
        _curve(panels["lr"], lines, "lr", run.name)
        _curve(panels["top-1"], lines, "knn_top1", f"{run.name}: kNN", marker=".")
        _curve(panels["top-1"], lines, "top1", f"{run.name}: top-1", marker=".")
        if config.objective == "vie":
            for panel in panels.values():
                panel.axvline(config.ir_steps, color="gray", linewidth=0.5)
        if _is_published(config):
            _published(panels["top-1"])
    panels["lr"].set_yscale("log")
    for name, panel in panels.items():
        panel.set_ylabel(name)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small")
    panels["top-1"].set_xlabel("step (gray line: IR ends, LA starts)")
    figure.savefig(out, dpi=120)


def _curve(panel: Any, lines: list[dict[str, Any]], key: str, label: str, **style: Any) -> None:
    found = [(line["step"], line[key]) for line in lines if key in line]
    if found:
        panel.plot(*zip(*found, strict=True), label=label, **style)


def _is_published(config: TrainConfig) -> bool:
    """Returns whether the authors published the curve of this recipe. The videos may differ."""
    published = recipe("vie_3dresnet", out=config.out, train_list=config.train_list)
    return all(getattr(config, name) == getattr(published, name) for name in FIXED if name not in ("seed", "dtype"))


def _published(panel: Any) -> None:
    curves = json.loads(PUBLISHED.read_text())["curves"]
    values = [*curves["knn_top1_kinetics_ir"], *curves["knn_top1_kinetics_la"]]
    panel.plot([5000 * (k + 1) for k in range(len(values))], values, color="black", label="published (Kinetics-400)")
