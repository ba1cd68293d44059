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
    """How good an encoder is: `vie eval PROTOCOL MODEL --weights W --train-list L --val-list L -o OUT`.

    knn: nearest neighbours, in a train list or in the bank that came with the weights (--bank). linear: readouts of the frozen
    encoder's layers, as in the paper. logistic: a logistic regression on pooled features, for few videos. `vie eval PROTOCOL
    MODEL --help` lists the settings. Leaves results.json, with a prediction for every video, and a confusion matrix.
    """

    protocol: Positional[Literal["knn", "linear", "logistic"]]
    """What is done."""
    model: Positional[str]
    """The model, whose settings are flags."""

    def run(self) -> int:
        return EVALUATIONS[self.protocol](self.model, ())


def linear(name: str, flags: Sequence[str]) -> int:
    """`vie eval linear NAME`."""
    from ..train.recipes import LINEAR

    return train_with(LINEAR, name, flags, f"vie eval linear {name}")


def knn(name: str, flags: Sequence[str]) -> int:
    """`vie eval knn NAME`."""
    from ..evaluate.protocols import evaluate_knn

    return _evaluate(evaluate_knn, name, flags, f"vie eval knn {name}")


def logistic(name: str, flags: Sequence[str]) -> int:
    """`vie eval logistic NAME`."""
    from ..evaluate.protocols import evaluate_logistic

    return _evaluate(evaluate_logistic, name, flags, f"vie eval logistic {name}")


def _evaluate(evaluate: Callable[[Any], Any], name: str, flags: Sequence[str], prog: str) -> int:
    from ..evaluate.protocols import Evaluation
    from ..evaluate.results import summary

    default = Evaluation(model=name, val_list=tyro.MISSING, out=tyro.MISSING)
    config = parse(Evaluation, flags, prog, default)
    if config.weights is None:
        print("no --weights: an untrained encoder is evaluated", file=sys.stderr)
    evaluate(config)
    print(summary(config.out))
    return 0


EVALUATIONS: dict[str, NamedCommand] = {"knn": knn, "linear": linear, "logistic": logistic}


@dataclasses.dataclass(kw_only=True)
class Predict:
    """Names what happens in videos by the nearest rows of the memory bank that came with weights: nothing is trained.

    Prints, for each video, the five names with the most votes, and their share of all votes.
    """

    videos: Positional[tuple[Path, ...]]
    """Video files, or folders of %06d.jpg frames."""
    model: str
    """The model."""
    weights: Path | None = None
    """A weight folder with bank.safetensors, or a published set's name. Default: the model's published set."""
    classes: Path | None = None
    """A text file whose line i names label i, from 0 on. Default: classes.txt in the weight folder; labels without names are
    numbers. The authors' Kinetics bank has numbers alone, and they do not say of which list of names."""
    clips: int = 5
    """Clips a video."""
    neighbours: int = 10
    """Bank rows that vote for each clip."""
    temperature: float = 0.07
    """Of the votes."""
    json: bool = False
    """Print a line of JSON a video."""

    def run(self) -> int:
        from ..evaluate.predict import predict

        failed = 0
        for found in predict(
            self.videos,
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
    """A table of models and protocols, Markdown and PNG, of the results.json of runs and evaluations.

    Beside what was measured stand the numbers that the authors published, with their source; what was not measured is named.
    """

    folders: Positional[tuple[Path, ...]]
    """Folders of runs and evaluations, or folders that hold such."""
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.md")
    """The Markdown file; the picture lies beside it."""

    def run(self) -> int:
        from ..evaluate.report import report

        print(report(list(self.folders), self.out))
        return 0
