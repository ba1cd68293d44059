"""`vie eval`, `predict` and `report`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from ..evaluate.settings import Comparison, Evaluation
from ..failures import MAX_FAILED, check_failures, check_max_failed
from ..models import list_models
from .arguments import Group, command
from .exit_codes import exit_code
from .extract import default_device
from .train import LINEAR

_NAMES = 50  # of a bank, to be listed


class _Evaluation(Evaluation):
    """What kNN and logistic regression have in common."""

    def run(self) -> int:
        from ..evaluate import protocols
        from ..evaluate.results import summary, unread_of

        if self.weights is None and self.model in list_models():
            print("no --weights given: evaluating an untrained encoder", file=sys.stderr)
        evaluate = protocols.evaluate_knn if isinstance(self, Knn) else protocols.evaluate_logistic
        evaluate(self)
        print(summary(self.out))
        return exit_code(unread_of(self.out))


@command(model="MODEL")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Knn(_Evaluation):
    """Classifies videos by their nearest neighbors in a train list, or in the memory bank of the weights (--bank).

    Writes results.json, with a prediction for every video, and a confusion matrix.
    """


@command(model="MODEL", hidden=("bank", "neighbors", "temperature"))
@dataclasses.dataclass(frozen=True, kw_only=True)
class Logistic(_Evaluation):
    """Fits a logistic regression to pooled features, for small datasets.

    Writes results.json, with a prediction for every video, and a confusion matrix.
    """


@command(encoders="MODEL ...")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(Comparison):
    """Compares encoders of any package by kNN and logistic regression on the same videos, for each model and layer.

    Writes a table (report.md) with 95 % intervals, and its picture.
    """

    def run(self) -> int:
        from ..evaluate.compare import compare

        print(compare(self))
        return 0


PROTOCOLS = Group(
    "protocol",
    """Evaluates an encoder: `vie eval PROTOCOL MODEL --weights W --train-list L --val-list L -o OUT`.""",
    {"knn": Knn, "linear": LINEAR, "logistic": Logistic, "compare": Compare},
)


@command(model="MODEL", videos="VIDEO ...")
@dataclasses.dataclass(kw_only=True)
class Predict:
    """Names what happens in videos, without training, from the memory bank that came with the weights.

    The bank rows nearest to a video's clips vote, also those without a name. A name is given if its share of all votes is large
    enough; otherwise the command says that it does not know. How large it must be was measured for each published set, with
    videos half of which show none of the names, so that 80 % of the given names are right (docs/weights.md). A bank knows only
    the names of its own videos, which the command lists first.
    """

    model: str
    """Name of the model."""
    videos: tuple[str, ...]
    """Video files, their http(s) addresses, folders of %06d.jpg frames, and folders to search for both."""
    weights: Path | None = None
    """Weight folder with bank.safetensors, or name of a weight set. Default: the model's published weights."""
    classes: Path | None = None
    """Text file that names the labels, label 0 on the first line. Default: classes.txt in the weight folder.
    Labels without names are printed as numbers; so are those of the authors' Kinetics bank, whose names are not published."""
    clips: int = 5
    """Number of clips per video, evenly spaced."""
    neighbors: int = 10
    """Number of bank rows that vote for each clip."""
    temperature: float = 0.07
    """Temperature of the votes: a bank row votes with weight exp(cosine similarity / temperature)."""
    max_failed: float = MAX_FAILED
    """Largest share of the videos that may fail, from 0 to 1. All are tried in any case."""
    agreement: float | None = None
    """Share of all votes, from 0 to 1, from which on a name is given. 0: the five names with the most votes, right or wrong.
    Default: as measured for the weights, or 0.9 where that was not measured (your own weights, other --neighbors)."""
    device: str | None = None
    """Device that runs the model, such as cpu or cuda:1. Default: the GPU if there is one."""
    json: bool = False
    """Print one line of JSON per video."""

    def run(self) -> int:
        from ..evaluate.predict import load_predictor
        from ..features.inputs import find_videos

        check_max_failed(self.max_failed)
        videos = find_videos(self.videos)
        predictor = load_predictor(self.model, self.weights, classes=self.classes)
        known = predictor.known[:_NAMES] + [f"{len(predictor.known) - _NAMES} more"] * (len(predictor.known) > _NAMES)
        least = predictor.least(self.neighbors, self.temperature) if self.agreement is None else self.agreement
        print(
            f"the bank has {len(predictor.rows)} rows and knows {len(predictor.known)} names: {', '.join(known)}\n"
            f"a name needs {100 * least:.0f} % of the votes",
            file=sys.stderr,
        )
        failed: list[str] = []
        for found in predictor.predict(
            videos,
            clips=self.clips,
            neighbors=self.neighbors,
            temperature=self.temperature,
            agreement=self.agreement,
            device=self.device or default_device(),
        ):
            if found.reason is not None:
                failed.append(f"{found.path}: {found.reason}")
            if self.json:
                print(json.dumps(dataclasses.asdict(found)))
            elif found.reason is not None:
                print(f"failed: {found.path}: {found.reason}", file=sys.stderr)
            else:
                names = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.names)
                unsure = f"no name: at most {100 * (found.agreement or 0):.0f} % of the votes agree"
                print(f"{found.path}: {names or unsure} (nearest row: cosine {found.nearest:.2f})")
        if failed:
            check_failures(len(failed), len(videos), self.max_failed, what="videos", first=failed[0])
        return exit_code(len(failed))


@command(folders="FOLDER ...")
@dataclasses.dataclass(kw_only=True)
class Report:
    """Writes a table (Markdown) and a picture (PNG) of the results of runs and evaluations.

    Runs that differ in the seed alone share a row, with mean and standard deviation.
    """

    folders: tuple[Path, ...]
    """Folders of runs and evaluations, or folders that contain them."""
    out: Path = Path("report.md")
    """Markdown file to write. The picture is written beside it."""
    published: bool = False
    """Add the numbers that the authors published, with their source, and name what has not been measured here."""

    def run(self) -> int:
        from ..evaluate.report import report

        print(report(list(self.folders), self.out, published=self.published))
        return 0
