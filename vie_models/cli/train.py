"""`vie train`, `finetune` and `plot`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from .exit_codes import exit_code
from .flags import parse


@dataclasses.dataclass(kw_only=True)
class Train:
    """Trains an encoder: `vie train RECIPE --train-list LIST -o RUN`.

    The paper's recipes are vie_single, vie_trn, vie_3dresnet, vie_slow and vie_slowfast; those of small encoders end in _tiny
    and _small. See `vie train RECIPE --help` for the settings. The paper's baselines are other objectives: --objective
    supervised, rotation or order. You can stop a run at any time: the same command continues it from its last checkpoint. Exit
    code 3: some videos could not be read; RUN/failed_videos.jsonl says why. On several GPUs or machines:
    `torchrun ... -m vie_models.cli train RECIPE ...`.
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE ...")]
    """Name of the recipe. The settings follow it as flags."""

    def run(self) -> int:
        return train(self.recipe, ())


def train(name: str, flags: Sequence[str]) -> int:
    """Runs `vie train NAME` with flags."""
    from ..train import recipe

    return _train(recipe(name, out=tyro.MISSING, train_list=tyro.MISSING), flags, f"vie train {name}")


@dataclasses.dataclass(kw_only=True)
class Finetune:
    """Fine-tunes an encoder on labeled videos: `vie finetune MODEL --weights W --train-list L --val-list L -o RUN`.

    Without --weights, it trains from scratch. `vie finetune MODEL --help` lists the settings; batch size, learning rate and
    weight decay are the paper's. This is `vie train` with objective=supervised: you can stop it, continue it with the same
    command, and run it under torchrun.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL ...")]
    """Name of the model. The settings follow it as flags."""

    def run(self) -> int:
        return finetune(self.model, ())


def finetune(name: str, flags: Sequence[str]) -> int:
    """Runs `vie finetune NAME` with flags."""
    from ..train import finetuning

    return train_with(finetuning(name), name, flags, f"vie finetune {name}")


def train_with(settings: dict[str, Any], name: str, flags: Sequence[str], prog: str) -> int:
    """Trains the model `name` with `settings`; flags override them."""
    from ..train import TrainConfig

    return _train(TrainConfig(model=name, out=tyro.MISSING, train_list=tyro.MISSING, **settings), flags, prog)


def _train(default: Any, flags: Sequence[str], prog: str) -> int:
    """Trains with the settings of `default`; flags override them."""
    from ..evaluate.results import RESULTS, summary, unread_of
    from ..train import TrainConfig, count_failed, pretrain

    config = parse(TrainConfig, flags, prog, default)
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


@dataclasses.dataclass(kw_only=True)
class Plot:
    """Plots loss, learning rate and validation accuracy of runs as a PNG file."""

    runs: Positional[tuple[Path, ...]]
    """Run folders of `vie train`."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """PNG file to write. Default: curves.png in the first run folder."""

    def run(self) -> int:

        from ..train import plot_runs

        out = self.out or self.runs[0] / "curves.png"
        plot_runs(list(self.runs), out)
        print(out)
        return 0
