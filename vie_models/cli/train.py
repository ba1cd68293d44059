"""`vie train`, `finetune` and `plot`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from .flags import parse


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
    from ..train.recipes import recipe

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
    from ..train.recipes import finetuning

    return train_with(finetuning(name), name, flags, f"vie finetune {name}")


def train_with(settings: dict[str, Any], name: str, flags: Sequence[str], prog: str) -> int:
    """Trains the model `name` with `settings`, but for the flags."""
    from ..train.settings import TrainConfig

    return _train(TrainConfig(model=name, out=tyro.MISSING, train_list=tyro.MISSING, **settings), flags, prog)


def _train(default: Any, flags: Sequence[str], prog: str) -> int:
    """Trains with the settings of `default`, but for the flags."""
    from ..evaluate.results import RESULTS, summary
    from ..train.loop import pretrain
    from ..train.settings import TrainConfig

    config = parse(TrainConfig, flags, prog, default)
    if config.objective == "readout" and config.weights is None and config.resume is None:
        print("no --weights: layers of an untrained encoder are read out", file=sys.stderr)
    out = pretrain(config, progress=sys.stderr.isatty())
    if (out / RESULTS).exists():
        print(summary(out))
    export = "" if config.objective == "readout" else f"; `vie export {out} OUT` makes weights of it"
    print(f"all steps are done: metrics and checkpoints in {out}{export}")
    return 0


@dataclasses.dataclass(kw_only=True)
class Plot:
    """Draws loss, learning rate and validation accuracy of runs to a PNG."""

    runs: Positional[tuple[Path, ...]]
    """Folders of `vie train`."""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The PNG. Default: curves.png in the (first) run."""

    def run(self) -> int:
        from ..train.plot import plot

        out = self.out or self.runs[0] / "curves.png"
        plot(list(self.runs), out)
        print(out)
        return 0
