"""`vie train`, `finetune` and `plot`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from tyro import MISSING

from ..models import MODELS, list_models
from ..train import recipes
from ..train.settings import TrainConfig
from .arguments import Group, command
from .exit_codes import exit_code

_VIE = (
    *("ir_steps", "noise", "background", "clusters", "clusterings", "kmeans_iterations", "temperature", "bank_momentum"),
    *("bank_start", "neighbors"),
)
"""Settings of the memory bank, which other objectives do not have."""


@command()
@dataclasses.dataclass(kw_only=True)
class Train(TrainConfig):
    """Trains an encoder by a recipe, without labels unless --objective says otherwise.

    You can stop a run at any time: the same command continues it from its last checkpoint. Exit code 3: some videos could not
    be read; RUN/failed_videos.jsonl says why. On several GPUs or machines: `torchrun ... -m vie_models.cli train RECIPE ...`.
    """

    def run(self) -> int:
        from ..evaluate.results import RESULTS, summary, unread_of
        from ..train import count_failed, pretrain

        config = TrainConfig(**{field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)})
        if config.objective == "readout" and config.weights is None and config.resume is None:
            print("no --weights given: training readouts of an untrained encoder", file=sys.stderr)
        out = pretrain(config)
        failed = count_failed(out)
        if (out / RESULTS).exists():
            print(summary(out))
            failed += unread_of(out)
        export = "" if config.objective == "readout" else f"; `vie export {out} OUT` writes its weights"
        print(f"all steps are done; metrics and checkpoints are in {out}{export}")
        return exit_code(failed)


@command(hidden=(*_VIE, "model", "objective", "layers"))
@dataclasses.dataclass(kw_only=True)
class Finetune(Train):
    """Fine-tunes an encoder on labeled videos. Without --weights, it trains from scratch.

    Batch size, learning rate and weight decay are the paper's. This is `vie train` with objective=supervised: you can stop it,
    continue it with the same command, and run it under torchrun.
    """


@command(hidden=(*_VIE, "model", "objective"))
@dataclasses.dataclass(kw_only=True)
class Linear(Train):
    """Trains linear readouts of the layers of a frozen encoder, as in the paper, and writes results.json.

    Without --weights, the encoder is an untrained one, for comparison.
    """


_SUMMARIES = {name: entry.summary for name, entry in MODELS.items()}
RECIPES = Group(
    "recipe",
    """Trains an encoder: `vie train RECIPE --train-list LIST -o RUN`.

    The recipes of large encoders are the paper's; those of small encoders end in _tiny and _small. The paper's baselines are
    other objectives: --objective supervised, rotation or order. `vie train RECIPE --help` lists the settings.
    """,
    {name: Train(**vars(recipes.recipe(name, out=MISSING, train_list=MISSING))) for name in recipes.RECIPES},
    _SUMMARIES,
)
FINETUNE = Group(
    "model",
    """Fine-tunes an encoder on labeled videos: `vie finetune MODEL --weights W --train-list L --val-list L -o RUN`.

    `vie finetune MODEL --help` lists the settings.
    """,
    {
        name: Finetune(model=name, out=MISSING, train_list=MISSING, **recipes.finetuning(name))  # type: ignore[arg-type]
        for name in list_models()
    },
    _SUMMARIES,
)
LINEAR = Group(
    "model",
    """Trains linear readouts of a frozen encoder's layers, as in the paper: `vie eval linear MODEL --weights W ...`.

    `vie eval linear MODEL --help` lists the settings.
    """,
    {name: Linear(model=name, out=MISSING, train_list=MISSING, **recipes.LINEAR) for name in list_models()},
    _SUMMARIES,
)


@command(runs="RUN ...")
@dataclasses.dataclass(kw_only=True)
class Plot:
    """Plots loss, learning rate and validation accuracy of runs as a PNG file."""

    runs: tuple[Path, ...]
    """Run folders of `vie train`."""
    out: Path | None = None
    """PNG file to write. Default: curves.png in the first run folder."""

    def run(self) -> int:
        from ..train import plot_runs

        out = self.out or self.runs[0] / "curves.png"
        plot_runs(list(self.runs), out)
        print(out)
        return 0
