"""Video encoders learned without labels: weights, features of videos, training and evaluation.

For the settings of a command, see `vie COMMAND --help`. Exit codes: 0 all done; 1 the job failed, or nothing could be read;
2 wrong arguments; 3 done, but some videos failed or are damaged; 130 stopped by Ctrl-C.
"""

# Importing torch takes seconds, so these modules import it (and whatever needs it) only inside the commands that use it.

from __future__ import annotations

import os
import sys
from typing import Any

from ..names import unknown_name
from .app import App
from .arguments import Group, parse_command, summary
from .data import DATASETS
from .doctor import Doctor
from .evaluate import PROTOCOLS, Predict, Probe, Report
from .exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from .extract import Extract
from .models import Info, List
from .neuro import NEURO
from .program import Program
from .search import Cluster, Duplicates, IndexFeatures, Search, Segment
from .train import FINETUNE, RECIPES, Plot
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
    "Training": {"data": DATASETS, "train": RECIPES, "finetune": FINETUNE, "plot": Plot},
    "Evaluation": {"eval": PROTOCOLS, "probe": Probe, "predict": Predict, "report": Report},
    "Networks and brains": {"neuro": NEURO},
    "Weights": {"export": Export, "convert": Convert, "join": Join, "card": Card, "publish": Publish},
    "Other programs": {"program": Program},
    "This machine": {"doctor": Doctor},
}
"""The commands as `vie --help` lists them: a dataclass with `run`, one with its settings, or a `Group` of those."""
COMMANDS: dict[str, Any] = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(args: list[str] | None = None) -> int:
    """Runs the console script `vie` and returns its exit code."""
    arguments = sys.argv[1:] if args is None else args
    if arguments == ["--version"]:
        from ..version import __version__

        print(f"vie_models {__version__}")
        return 0
    if arguments in ([], ["-h"], ["--help"]):
        print(_overview())
        return 0 if arguments else EXIT_USAGE
    try:
        return parse(arguments).run()
    except BrokenPipeError:  # whoever read what we print has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        print("vie: stopped; finished work is kept, and the same command continues from there", file=sys.stderr)
        return EXIT_INTERRUPTED


def parse(words: list[str]) -> Any:
    """Returns the command that the words ask for, ready to run. Wrong words end the program with exit code 2.

    tyro gets the innermost group or command that the first words name: it takes seconds to prepare all commands at once.
    """
    node: Any = Group("command", __doc__ or "", COMMANDS)
    prog = "vie"
    while isinstance(node, Group) and words and words[0] in node.commands:
        node, prog, words = node.commands[words[0]], f"{prog} {words[0]}", words[1:]
    if isinstance(node, Group) and words and not words[0].startswith("-"):
        raise unknown_name(node.what, words[0], node.commands)
    return parse_command(node, words, prog)


def _overview() -> str:
    """What `vie --help` prints: one line per command, in groups."""
    lines = ["usage: vie COMMAND ...", "", (__doc__ or "").strip()]
    for group, commands in GROUPS.items():
        lines += ["", group]
        lines += [f"  {name:14}{summary(command)}" for name, command in commands.items()]
    shells = "`vie --tyro-print-completion SHELL` prints what makes a shell (bash, zsh, fish) complete commands and flags."
    return "\n".join([*lines, "", shells])


def _exit_code(error: Exception) -> int:
    """A wrong argument is the user's; a video, checkpoint or list that turns out to be unreadable is not."""
    from ..failures import TooManyFailuresError
    from ..video.frames import VideoError
    from ..weights import CheckpointError

    usage = isinstance(error, (ValueError, FileNotFoundError))
    failed = isinstance(error, (CheckpointError, TooManyFailuresError, VideoError))
    return EXIT_USAGE if usage and not failed else EXIT_FAILED
