"""The commands of training and evaluation: `vie train`, `finetune`, `eval`, `predict`, `report`, `plot`, `export` and `card`.

Importing this is cheap: what a command needs is imported when it runs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from .data_commands import EXIT_SOME_FAILED, Data, data, long_flags


@dataclasses.dataclass(kw_only=True)
class Train:
    """Trains an encoder: `vie train RECIPE --train-list LIST -o RUN`; `vie train RECIPE --help` lists the settings.

    Recipes: vie_single, vie_trn, vie_3dresnet, vie_slow and vie_slowfast are the paper's; vie_single_tiny, vie_3dresnet_tiny
    and vie_slowfast_tiny are small. The paper's baselines are other objectives: --objective supervised, rotation or order.
    Stop it when you like: the same command goes on where it was. On several GPUs or machines: `torchrun ... -m vie_models.cli
    train RECIPE ...`.
    """

    recipe: Positional[str]
    """Name of the recipe, whose settings are flags."""

    def run(self) -> int:
        return train(self.recipe, ())


def train(name: str, flags: Sequence[str]) -> int:
    """`vie train NAME`."""
    from .recipes import recipe

    return _train(recipe(name, out=tyro.MISSING, train_list=tyro.MISSING), flags, f"vie train {name}")


@dataclasses.dataclass(kw_only=True)
class Finetune:
    """Fine-tunes an encoder on labelled videos: `vie finetune MODEL --weights W --train-list L --val-list L -o RUN`.

    Without --weights it is trained from scratch. `vie finetune MODEL --help` lists the settings; batch, rate and decay are the
    paper's. It is `vie train` with objective=supervised: it can be stopped, goes on by the same command, and runs under
    torchrun.
    """

    model: Positional[str]
    """The model, whose settings are flags."""

    def run(self) -> int:
        return finetune(self.model, ())


def finetune(name: str, flags: Sequence[str]) -> int:
    """`vie finetune NAME`."""
    from .transfer import finetuning

    return _transfer(name, finetuning(name), flags, f"vie finetune {name}")


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
        return WITH_SETTINGS["eval", self.protocol](self.model, ())


def linear(name: str, flags: Sequence[str]) -> int:
    """`vie eval linear NAME`."""
    from .transfer import LINEAR

    return _transfer(name, LINEAR, flags, f"vie eval linear {name}")


def knn(name: str, flags: Sequence[str]) -> int:
    """`vie eval knn NAME`."""
    from .evaluate import evaluate_knn

    return _evaluate(evaluate_knn, name, flags, f"vie eval knn {name}")


def logistic(name: str, flags: Sequence[str]) -> int:
    """`vie eval logistic NAME`."""
    from .evaluate import evaluate_logistic

    return _evaluate(evaluate_logistic, name, flags, f"vie eval logistic {name}")


def _evaluate(evaluate: Callable[[Any], Any], name: str, flags: Sequence[str], prog: str) -> int:
    from .evaluate import Evaluation

    default = Evaluation(model=name, val_list=tyro.MISSING, out=tyro.MISSING)
    config = tyro.cli(Evaluation, default=default, args=long_flags(flags), prog=prog)
    if config.weights is None:
        print("no --weights: an untrained encoder is evaluated", file=sys.stderr)
    evaluate(config)
    _print_results(config.out)
    return 0


def _transfer(name: str, settings: dict[str, Any], flags: Sequence[str], prog: str) -> int:
    from .recipes import TrainConfig

    return _train(TrainConfig(model=name, out=tyro.MISSING, train_list=tyro.MISSING, **settings), flags, prog)


def _train(default: Any, flags: Sequence[str], prog: str) -> int:
    """Trains with the settings of `default`, but for the flags."""
    from .pretrain import pretrain
    from .recipes import TrainConfig
    from .results import RESULTS

    config = tyro.cli(TrainConfig, default=default, args=long_flags(flags), prog=prog)
    if config.objective == "readout" and config.weights is None and config.resume is None:
        print("no --weights: layers of an untrained encoder are read out", file=sys.stderr)
    out = pretrain(config, progress=sys.stderr.isatty())
    if (out / RESULTS).exists():
        _print_results(out)
    export = "" if config.objective == "readout" else f"; `vie export {out} OUT` makes weights of it"
    print(f"all steps are done: metrics and checkpoints in {out}{export}")
    return 0


def _print_results(folder: Path) -> None:
    from .results import RESULTS

    results = json.loads((folder / RESULTS).read_text())
    for protocol, found in results["protocols"].items():
        low, high = (100 * bound for bound in found["top1_interval"])
        print(
            f"{protocol}: top-1 {100 * found['top1']:.1f} % (95 %: {low:.1f} to {high:.1f}), top-5 {100 * found['top5']:.1f} %"
        )
    print(f"{results['num_videos']} videos, {results['unread']} of them could not be read; all of it is in {folder / RESULTS}")


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
        from .predict import predict

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
        from .report import report

        print(report(list(self.folders), self.out))
        return 0


@dataclasses.dataclass(kw_only=True)
class Card:
    """Writes the model card of a weight folder, README.md, which `vie publish` checks.

    ABOUT is a JSON file with what only its author knows: licence (the Hub's identifier), licence_text, summary, training_data,
    procedure, intended_use and limits; perhaps commands and evaluation. All else is taken from the folder and from results.
    """

    folder: Positional[Path]
    """A weight folder; its name, MODEL.TAG, is the set's."""
    about: Positional[Path]
    """The JSON file."""
    results: tuple[Path, ...] = ()
    """Folders with results.json: what they say of these weights, and of runs that differ in their seed, is in the card."""

    def run(self) -> int:
        from ..weights.card import CARD, About, write_card
        from ..weights.folder import hash_of_weights, load_folder
        from .report import measured_of, read_rows

        fields = json.loads(self.about.read_text())
        rows = read_rows(list(self.results)) if self.results else []
        measured = measured_of(hash_of_weights(load_folder(self.folder)), rows)
        try:
            about = About(name=self.folder.resolve().name, measured=measured, **{"commands": self._commands(), **fields})
        except TypeError as error:
            raise ValueError(f"{self.about} is not what a card needs: {error}") from error
        write_card(self.folder, about)
        print(f"{self.folder / CARD}: {len(measured)} measured numbers")
        return 0

    def _commands(self) -> list[str]:
        from .export import TRAINING

        file = self.folder / TRAINING
        command = json.loads(file.read_text())["command"] if file.exists() else None
        return [command] if command else []


@dataclasses.dataclass(kw_only=True)
class Plot:
    """Draws loss, learning rate and validation accuracy of runs to a PNG."""

    runs: Positional[tuple[Path, ...]]
    """Folders of `vie train`."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The PNG. Default: curves.png in the (first) run."""

    def run(self) -> int:
        from .plot import plot

        out = self.out or self.runs[0] / "curves.png"
        plot(list(self.runs), out)
        print(out)
        return 0


@dataclasses.dataclass(kw_only=True)
class Export:
    """Makes a weight folder of a run's last checkpoint: what from_pretrained loads, with the memory bank beside it."""

    run_folder: Annotated[Positional[Path], arg(name="run", metavar="RUN")]
    """Folder of `vie train`."""
    out: Positional[Path]
    """Folder to write to."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of weights and bank: float16 is half as large, and is loaded as float32."""

    def run(self) -> int:
        import torch

        from .export import export

        print_weights(export(self.run_folder, self.out, getattr(torch, self.dtype)), self.out)
        return 0


def print_weights(model: Any, folder: Path) -> None:
    """What lies in a weight folder."""
    files = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"{folder}: {model.model_name} of width {model.model_args['width']}: {files}")


COMMANDS: dict[str, Any] = {
    **{"data": Data, "train": Train, "finetune": Finetune, "eval": Eval, "predict": Predict},
    **{"report": Report, "plot": Plot, "export": Export, "card": Card},
}
WITH_SETTINGS: dict[tuple[str, ...], Callable[[str, Sequence[str]], int]] = {
    **{("data",): data, ("train",): train, ("finetune",): finetune},
    **{("eval", "knn"): knn, ("eval", "linear"): linear, ("eval", "logistic"): logistic},
}
"""Commands that are followed by a name, on which the settings depend, and by flags."""
