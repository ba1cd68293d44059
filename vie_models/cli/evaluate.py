"""`vie eval`, `predict` and `report`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from .exit_codes import EXIT_SOME_FAILED
from .flags import NamedCommand, parse
from .train import train_with


@dataclasses.dataclass(kw_only=True)
class Eval:
    """Evaluates an encoder: `vie eval PROTOCOL MODEL --weights W --train-list L --val-list L -o OUT`.

    knn classifies by nearest neighbours, in a train list or in the memory bank that came with the weights (--bank). linear
    trains readouts of the frozen encoder's layers, as in the paper. logistic fits a logistic regression to pooled features, for
    small datasets. `vie eval PROTOCOL MODEL --help` lists the settings. The command writes results.json, with a prediction for
    every video, and a confusion matrix.
    """

    protocol: Positional[Literal["knn", "linear", "logistic"]]
    """Evaluation to run."""
    model: Positional[str]
    """Name of the model. The settings follow it as flags."""

    def run(self) -> int:
        return EVALUATIONS[self.protocol](self.model, ())


def linear(name: str, flags: Sequence[str]) -> int:
    """Runs `vie eval linear NAME` with flags."""
    from ..train.recipes import LINEAR

    return train_with(LINEAR, name, flags, f"vie eval linear {name}")


def knn(name: str, flags: Sequence[str]) -> int:
    """Runs `vie eval knn NAME` with flags."""
    from ..evaluate.protocols import evaluate_knn

    return _evaluate(evaluate_knn, name, flags, f"vie eval knn {name}")


def logistic(name: str, flags: Sequence[str]) -> int:
    """Runs `vie eval logistic NAME` with flags."""
    from ..evaluate.protocols import evaluate_logistic

    return _evaluate(evaluate_logistic, name, flags, f"vie eval logistic {name}")


def _evaluate(evaluate: Callable[[Any], Any], name: str, flags: Sequence[str], prog: str) -> int:
    from ..evaluate.protocols import Evaluation
    from ..evaluate.results import summary

    default = Evaluation(model=name, val_list=tyro.MISSING, out=tyro.MISSING)
    config = parse(Evaluation, flags, prog, default)
    if config.weights is None:
        print("no --weights given: evaluating an untrained encoder", file=sys.stderr)
    evaluate(config)
    print(summary(config.out))
    return 0


EVALUATIONS: dict[str, NamedCommand] = {"knn": knn, "linear": linear, "logistic": logistic}


@dataclasses.dataclass(kw_only=True)
class Predict:
    """Names what happens in videos, without training, from the memory bank that came with the weights.

    The bank rows nearest to a video's clips vote. For each video, prints the five names with the most votes, and their share of
    all votes.
    """

    videos: Positional[tuple[Path, ...]]
    """Video files, folders of %06d.jpg frames, and folders to search for both."""
    model: str
    """Name of the model."""
    weights: Path | None = None
    """Weight folder with bank.safetensors, or name of a weight set. Default: the model's published weights."""
    classes: Path | None = None
    """Text file that names the labels, label 0 on the first line. Default: classes.txt in the weight folder.
    Labels without names are printed as numbers; so are those of the authors' Kinetics bank, whose names are not published."""
    clips: int = 5
    """Number of clips per video, evenly spaced."""
    neighbours: int = 10
    """Number of bank rows that vote for each clip."""
    temperature: float = 0.07
    """Temperature of the votes: a bank row votes with weight exp(cosine similarity / temperature)."""
    json: bool = False
    """Print one line of JSON per video."""

    def run(self) -> int:
        from ..evaluate.predict import predict
        from ..features.jobs import videos_of

        failed = 0
        for found in predict(
            videos_of(self.videos),
            self.model,
            self.weights,
            classes=self.classes,
            clips=self.clips,
            neighbours=self.neighbours,
            temperature=self.temperature,
        ):
            failed += found.reason is not None
            if self.json:
                print(json.dumps(dataclasses.asdict(found)))
            elif found.reason is not None:
                print(f"failed: {found.path}: {found.reason}", file=sys.stderr)
            else:
                print(f"{found.path}: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.names))
        return EXIT_SOME_FAILED if failed else 0


@dataclasses.dataclass(kw_only=True)
class Report:
    """Writes a table (Markdown) and a picture (PNG) of the results of runs and evaluations.

    The table also has the numbers that the authors published, with their source, and names what has not been measured.
    """

    folders: Positional[tuple[Path, ...]]
    """Folders of runs and evaluations, or folders that contain them."""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.md")
    """Markdown file to write. The picture is written beside it."""

    def run(self) -> int:
        from ..evaluate.report import report

        print(report(list(self.folders), self.out))
        return 0
