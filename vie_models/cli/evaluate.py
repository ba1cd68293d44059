"""`vie eval`, `probe`, `predict` and `report`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluate.settings import Comparison, Evaluation, Probing
from ..failures import MAX_FAILED, check_failures, check_max_failed
from ..models import list_models
from .arguments import Group, command
from .exit_codes import exit_code
from .extract import default_device
from .train import LINEAR

if TYPE_CHECKING:
    from ..evaluate.logistic import Fit


def _say_untrained(config: Evaluation) -> None:
    if config.weights is None and config.model in list_models():
        print("no --weights given: evaluating an untrained encoder", file=sys.stderr)


@command(model="MODEL")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Knn(Evaluation):
    """Classifies videos by their nearest neighbors in a train list, or in the memory bank of the weights (--bank).

    Writes results.json, with a prediction for every video, a confusion matrix, and the wrong videos (errors-*).
    """

    def run(self) -> int:
        from ..evaluate.protocols import evaluate_knn
        from ..evaluate.results import summary, unread_of

        _say_untrained(self)
        evaluate_knn(self)
        print(summary(self.out))
        return exit_code(unread_of(self.out))


@command(model="MODEL", hidden=("bank", "neighbors", "temperature"))
@dataclasses.dataclass(frozen=True, kw_only=True)
class Logistic(Probing):
    """Fits a logistic regression to pooled features, for small datasets. `vie probe` is the same, and keeps it.

    Writes results.json, with a prediction for every video, a confusion matrix, and the wrong videos (errors-*).
    """

    keeps = False

    def run(self) -> int:
        from ..evaluate.probe import fit_probe
        from ..evaluate.results import summary, unread_of

        _say_untrained(self)
        _, found = fit_probe(self, save=self.keeps)
        print(fit_summary(found))
        print(summary(self.out))
        if self.keeps:
            print(f"`vie predict VIDEO ... --weights {self.out}` names new videos")
        return exit_code(unread_of(self.out))


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


@command(model="MODEL", hidden=("bank", "neighbors", "temperature"))
@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe(Logistic):
    """Learns names from labeled videos: `vie probe MODEL --weights W --train-list L --val-list L -o PROBE`.

    Fits a logistic regression to frozen features, for datasets below some hundred videos of each class; `vie predict VIDEO ...
    --weights PROBE` then names new videos. Also writes results.json, a confusion matrix and the wrong videos (errors-*) of
    val_list. From which confidence on a name is given comes from training videos that cross-validation holds out, one half
    with a class that the fit knows, one half without.
    """

    keeps = True


def fit_summary(found: Fit) -> str:
    """Says what cross-validation found."""
    at = found.threshold
    lines = [
        f"cross-validation: top-1 {100 * found.accuracy:.1f} % of {at.num_videos} training videos that were held out, with C = "
        f"{found.penalty:g}",
        f"a name needs a probability of {at.confidence:.3f}: then {100 * at.precision:.0f} % of the names were right "
        f"({100 * at.asked:.0f} % were asked for)",
        f"of the videos whose class was known, {100 * at.right:.0f} % got their name, {100 * at.wrong:.0f} % a wrong one, "
        f"{100 * (1 - at.right - at.wrong):.0f} % none",
    ]
    if at.unknown_named is None:
        lines.append("with two classes, videos of unknown classes could not be tried: they may get a name")
    else:
        lines.append(f"of the videos whose class was left out, {100 * at.unknown_named:.0f} % got a name")
    return "\n".join(lines)


@command(videos="VIDEO ...")
@dataclasses.dataclass(kw_only=True)
class Predict:
    """Names what happens in videos: `vie predict VIDEO ... --weights W`.

    W is a probe, a fine-tuned encoder, or weights with a memory bank, of which the rows nearest to a video's clips vote. A name
    is given if its probability (or its share of all votes, also of those without a name) is large enough; otherwise the command
    says that it does not know. How large comes with a probe, and with the banks of published sets (docs/weights.md).
    """

    videos: tuple[str, ...]
    """Video files, their http(s) addresses, folders of %06d.jpg frames, and folders to search for both."""
    weights: Path
    """Folder of a probe (`vie probe`) or of an exported run (`vie export`), or a published weight set, or a model with one."""
    out: Path | None = None
    """File for the probabilities of every name, per clip and per video: .csv or .json."""
    classes: Path | None = None
    """Text file that names the labels, label 0 on the first line. Default: classes.txt in the weight folder.
    Labels without names are printed as numbers; so are those of the authors' Kinetics bank, whose names are not published."""
    clips: int | None = None
    """Number of clips per video, evenly spaced. Default: 5, or as the probe was fitted."""
    neighbors: int | None = None
    """Memory bank: number of rows that vote for each clip. Default: 10."""
    temperature: float | None = None
    """Memory bank: a row votes with weight exp(cosine similarity / temperature). Default: 0.07."""
    max_failed: float = MAX_FAILED
    """Largest share of the videos that may fail, from 0 to 1. All are tried in any case."""
    threshold: float | None = None
    """Probability or share of all votes, from 0 to 1, from which on a name is given. 0: the five highest, right or wrong.
    Default: the probe's or the weight set's own, or 0.9 where it was not measured (your own weights, other --neighbors)."""
    device: str | None = None
    """Device that runs the model, such as cpu or cuda:1. Default: the GPU if there is one."""
    workers: int | None = None
    """Number of processes that decode. Default: one per core, at most 16. 0 decodes in the main process."""
    json: bool = False
    """Print one line of JSON per video, with all probabilities."""

    def run(self) -> int:
        from ..evaluate.predict import check_format, load_predictor, write_predictions
        from ..features.inputs import find_videos

        check_max_failed(self.max_failed)
        if self.out is not None:
            check_format(self.out)
        videos = find_videos(self.videos)
        predictor = load_predictor(self.weights, classes=self.classes, neighbors=self.neighbors, temperature=self.temperature)
        least = predictor.threshold if self.threshold is None else self.threshold
        print(f"{predictor.about()}\na name needs {100 * least:.3g} %", file=sys.stderr)
        predictions = []
        for found in predictor.predict(
            videos,
            clips=self.clips,
            threshold=self.threshold,
            device=self.device or default_device(),
            workers=self.workers,
        ):
            predictions.append(found)
            if self.json:
                print(json.dumps(dataclasses.asdict(found)))
            elif found.reason is not None:
                print(f"failed: {found.path}: {found.reason}", file=sys.stderr)
            else:
                names = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.names)
                nearest = "" if found.nearest is None else f" (nearest row: cosine {found.nearest:.2f})"
                unsure = f"no name: at most {100 * (found.confidence or 0):.0f} %"
                print(f"{found.path}: {names or unsure}{nearest}")
        if self.out is not None:
            order = {str(path): i for i, path in enumerate(videos)}
            write_predictions(self.out, sorted(predictions, key=lambda one: order[one.path]), predictor.names)
        failed = [f"{one.path}: {one.reason}" for one in predictions if one.reason is not None]
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
