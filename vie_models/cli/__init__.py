"""Video encoders learned without labels: weights, features of videos, training and evaluation.

For the settings of a command, see `vie COMMAND --help`. Exit codes: 0 all done; 1 the job failed, or nothing could be read;
2 wrong arguments; 3 done, but some videos failed or are damaged; 130 stopped by Ctrl-C.
"""

# Importing torch takes a second, so these modules import it (and whatever needs it) only inside the commands that use it.

from __future__ import annotations

import os
import sys
from typing import Any

import tyro

from .app import App
from .data import Data, data
from .doctor import Doctor
from .evaluate import EVALUATIONS, Eval, Predict, Report
from .exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from .extract import Extract
from .flags import NamedCommand
from .models import Info, List
from .neuro import Neuro, neuro
from .programs import Program
from .search import Cluster, Duplicates, IndexFeatures, Search, Segment
from .train import Finetune, Plot, Train, finetune, train
from .weights import Card, Convert, Export, Join, Publish

GROUPS: dict[str, dict[str, Any]] = {
    "Models and features": {"list": List, "info": Info, "extract": Extract},
    "A page to look at": {"app": App},
    "Search": {
        "index": IndexFeatures,
        "search": Search,
        "duplicates": Duplicates,
        "cluster": Cluster,
        "segment": Segment,
    },
    "Training": {"data": Data, "train": Train, "finetune": Finetune, "plot": Plot},
    "Evaluation": {"eval": Eval, "predict": Predict, "report": Report},
    "Networks and brains": {"neuro": Neuro},
    "Weights": {"export": Export, "convert": Convert, "join": Join, "card": Card, "publish": Publish},
    "Other programs": {"program": Program},
    "This machine": {"doctor": Doctor},
}
"""The commands as `vie --help` lists them."""
COMMANDS: dict[str, Any] = {name: command for group in GROUPS.values() for name, command in group.items()}
NAMED_COMMANDS: dict[tuple[str, ...], NamedCommand] = {
    **{("data",): data, ("train",): train, ("finetune",): finetune, ("neuro",): neuro},
    **{("eval", protocol): run for protocol, run in EVALUATIONS.items()},
}


def main(args: list[str] | None = None) -> int:
    """Runs the console script `vie` and returns its exit code."""
    arguments = sys.argv[1:] if args is None else args
    if arguments == ["--version"]:
        from ..version import __version__

        print(f"vie_models {__version__}")
        return 0
    if arguments[:1] == ["--install-completion"]:
        return _install_completion(arguments[1:])
    if arguments in ([], ["-h"], ["--help"]):
        print(_overview())
        return 0 if arguments else EXIT_USAGE
    try:
        for words, run in NAMED_COMMANDS.items():
            name = arguments[len(words) : len(words) + 1]
            if arguments[: len(words)] == list(words) and name and not name[0].startswith("-"):
                return run(name[0], arguments[len(words) + 1 :])
        command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="vie", description=__doc__, args=arguments)
        return command.run()
    except BrokenPipeError:  # whoever read what we print has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        print("vie: stopped; finished work is kept, and the same command continues from there", file=sys.stderr)
        return EXIT_INTERRUPTED


def _install_completion(shells: list[str]) -> int:
    from .completion import install

    try:
        print(install(shells[0] if shells else None))
    except (ValueError, OSError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return _exit_code(error)
    return 0


def _overview() -> str:
    """What `vie --help` prints: one line per command, in groups."""
    lines = ["usage: vie COMMAND ...", "", (__doc__ or "").strip()]
    for group, commands in GROUPS.items():
        lines += ["", group]
        for name, command in commands.items():
            summary = " ".join(command.__doc__.split("\n\n")[0].split())
            lines.append(f"  {name:14}{summary}")
    lines += ["", "`vie --install-completion` makes the shell complete commands, flags and names (bash, zsh, fish)."]
    return "\n".join(lines)


def _exit_code(error: Exception) -> int:
    """A wrong argument is the user's; a video, checkpoint or list that turns out to be unreadable is not."""
    from ..failures import TooManyFailuresError
    from ..video.frames import VideoError
    from ..weights import CheckpointError

    usage = isinstance(error, (ValueError, FileNotFoundError))
    failed = isinstance(error, (CheckpointError, TooManyFailuresError, VideoError))
    return EXIT_USAGE if usage and not failed else EXIT_FAILED
