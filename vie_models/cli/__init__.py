"""Video encoders learned without labels: their weights, the features of videos, training and evaluation.

Exit codes: 0 all done; 1 the job could not be done; 2 wrong arguments; 3 done, but some videos failed or are
damaged; 130 stopped by Ctrl-C.
"""

# torch takes a second to import: the modules here import it, and what needs it, only in the commands that do

from __future__ import annotations

import sys
from typing import Any

import tyro

from .data import Data, data
from .evaluate import EVALUATIONS, Eval, Predict, Report
from .exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from .extract import Extract
from .flags import NamedCommand
from .models import Info, List
from .train import Finetune, Plot, Train, finetune, train
from .weights import Card, Convert, Export, Join, Publish

COMMANDS: dict[str, Any] = {
    **{"list": List, "info": Info, "extract": Extract},
    **{"data": Data, "train": Train, "finetune": Finetune, "plot": Plot},
    **{"eval": Eval, "predict": Predict, "report": Report},
    **{"export": Export, "convert": Convert, "join": Join, "card": Card, "publish": Publish},
}
NAMED_COMMANDS: dict[tuple[str, ...], NamedCommand] = {
    **{("data",): data, ("train",): train, ("finetune",): finetune},
    **{("eval", protocol): run for protocol, run in EVALUATIONS.items()},
}


def main(args: list[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    arguments = sys.argv[1:] if args is None else args
    if arguments == ["--version"]:
        from ..version import __version__

        print(f"vie_models {__version__}")
        return 0
    try:
        for words, run in NAMED_COMMANDS.items():
            name = arguments[len(words) : len(words) + 1]
            if arguments[: len(words)] == list(words) and name and not name[0].startswith("-"):
                return run(name[0], arguments[len(words) + 1 :])
        command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="vie", description=__doc__, args=arguments)
        return command.run()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        print("vie: stopped; what is done is kept, and the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED


def _exit_code(error: Exception) -> int:
    from ..weights import CheckpointError

    usage = isinstance(error, (ValueError, FileNotFoundError)) and not isinstance(error, CheckpointError)
    return EXIT_USAGE if usage else EXIT_FAILED
