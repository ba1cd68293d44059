"""Shell completion of `vie`: writes a script for bash, zsh or fish with all commands, flags, models and choices.

The script is a table that does not start Python, so completing takes no time. After an upgrade, write it again.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from ..version import __version__

_POSITIONAL = get_args(Positional[int])[1]
SHELLS = ("bash", "zsh", "fish")

_BASH = """\
# Completes the words of `vie` (vie_models {version}). Written by `vie --install-completion`.
_vie() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} values="" flags=""
    case "${{COMP_WORDS[*]:1:COMP_CWORD-1}}" in
{cases}
    esac
    if [[ $current == -* ]]; then values=$flags; fi
    COMPREPLY=($(compgen -W "$values" -- "$current"))
}}
complete -o default -F _vie vie
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
_FISH = """\
# Completes the words of `vie` (vie_models {version}). Written by `vie --install-completion`.
function __vie_words
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l values ""
    set -l flags ""
    switch "$before[2..-1]"
{cases}
    end
    string match -q -- '-*' $current; and set values $flags
    string split -n ' ' -- $values
end
complete -c vie -a '(__vie_words)'
"""


def install(shell: str | None) -> str:
    """Writes the completion script of a shell and returns what to do next. None: the shell that $SHELL names.

    Raises:
        ValueError: the shell is none of bash, zsh and fish.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise ValueError(f"--install-completion takes one of {', '.join(SHELLS)}, got {name!r}")
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    path, then = {
        "bash": (
            data / "bash-completion" / "completions" / "vie",
            "bash-completion loads it by itself; without that package, ",
        ),
        "zsh": (data / "vie_models" / "completion.zsh", ""),
        "fish": (config / "fish" / "completions" / "vie.fish", "fish loads it by itself"),
    }[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(name))
    if name != "fish":
        then += f"add this line to ~/.{name}rc: source {shlex.quote(str(path))}"
    return f"wrote {path}; {then}. It works in a new shell. After an upgrade of vie_models, run this command again"


def script(shell: str) -> str:
    """Returns the completion script for bash, zsh or fish."""
    if shell == "fish":
        cases = "\n".join(
            f"        case '{pattern}'\n            set values '{values}'\n            set flags '{flags}'"
            for pattern, values, flags in _table()
        )
        return _FISH.format(version=__version__, cases=cases)
    cases = "\n".join(
        f'        {_bash_pattern(pattern)}) values="{values}"; flags="{flags}" ;;' for pattern, values, flags in _table()
    )
    bash = _BASH.format(version=__version__, cases=cases)
    return bash if shell == "bash" else _ZSH + bash


def _bash_pattern(pattern: str) -> str:
    return "*".join(f'"{part}"' for part in pattern.split("*"))


def _literals(hint: Any) -> list[str]:
    """Returns the choices in a type: of a Literal, or of the types that it is made of."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [value for part in get_args(hint) for value in _literals(part)]


def _table() -> list[tuple[str, str, str]]:
    """Returns what may follow the words typed so far: (pattern, values, flags). The first pattern that fits counts."""
    from ..evaluate.protocols import Evaluation
    from ..models import list_models
    from ..train import RECIPES, TrainConfig
    from ..weights.catalog import list_weights
    from . import COMMANDS
    from .data import DATASETS
    from .evaluate import EVALUATIONS
    from .neuro import NEURO

    names = " ".join([*list_models(), *list_weights()])
    cases = [("", " ".join(COMMANDS), "--help --version --install-completion")]
    cases += [("--install-completion", " ".join(SHELLS), "")]

    def command(words: str, settings: Any) -> None:
        """Adds what follows a command: the values of each of its flags, and its flags."""
        flags = ["--help"]
        hints = get_type_hints(settings, include_extras=True)
        for field in dataclasses.fields(settings):
            hint = hints[field.name]
            if getattr(hint, "__metadata__", ()) and _POSITIONAL in hint.__metadata__:
                continue
            flag = "--" + field.name.rstrip("_").replace("_", "-")
            flags += [flag, flag.replace("--", "--no-", 1)] if hint is bool else [flag]
            if values := names if flag == "--model" else " ".join(dict.fromkeys(_literals(hint))):
                cases.append((f"{words} *{flag}", values, ""))
        cases.extend((pattern, "", " ".join(flags)) for pattern in (words, f"{words} *"))

    def group(words: str, commands: dict[str, Any]) -> None:
        """Adds what follows a word that a command's name follows."""
        cases.append((words, " ".join(commands), "--help"))
        for name, settings in commands.items():
            command(f"{words} {name}", settings)

    for words, firsts, settings in (
        ("train", " ".join(RECIPES), TrainConfig),
        ("finetune", names, TrainConfig),
        *((f"eval {name}", names, TrainConfig if name == "linear" else Evaluation) for name in EVALUATIONS),
    ):
        cases.append((words, firsts, "--help"))
        command(words, settings)
    cases.append(("eval", " ".join(EVALUATIONS), "--help"))
    group("data", DATASETS)
    group("neuro", NEURO)
    cases.append(("info", names, "--help"))
    for name, settings in COMMANDS.items():
        if name not in ("train", "finetune", "eval", "data", "neuro", "info"):
            command(name, settings)
    return cases
