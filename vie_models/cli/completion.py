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
    case "${{COMP_WORDS[COMP_CWORD-1]}}" in
{choices}
        *)
            case "${{COMP_WORDS[*]:1:COMP_CWORD-1}}" in
{cases}
            esac ;;
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
    switch $before[-1]
{choices}
        case '*'
            switch "$before[2..-1]"
{cases}
            end
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
    choices, cases = _table()
    if shell == "fish":
        return _FISH.format(
            version=__version__,
            choices="\n".join(f"        case {flag}\n            set values '{words}'" for flag, words in choices.items()),
            cases="\n".join(
                f"                case '{pattern}'\n                    set values '{values}'\n"
                f"                    set flags '{flags}'"
                for pattern, values, flags in cases
            ),
        )
    bash = _BASH.format(
        version=__version__,
        choices="\n".join(f'        {flag}) values="{words}" ;;' for flag, words in choices.items()),
        cases="\n".join(
            f'                {_bash_pattern(pattern)}) values="{values}"; flags="{flags}" ;;'
            for pattern, values, flags in cases
        ),
    )
    return bash if shell == "bash" else _ZSH + bash


def _bash_pattern(pattern: str) -> str:
    return f'"{pattern[:-1]}"*' if pattern.endswith("*") else f'"{pattern}"'


def _literals(hint: Any) -> list[str]:
    """Returns the choices in a type: of a Literal, or of the types that it is made of."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [value for part in get_args(hint) for value in _literals(part)]


def _table() -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Returns the values of flags, and what may follow the words typed so far: (pattern, values, flags)."""
    from ..evaluate.protocols import Evaluation
    from ..models import list_models
    from ..train.recipes import RECIPES
    from ..train.settings import TrainConfig
    from ..weights.catalog import list_weights
    from . import COMMANDS
    from .data import DATASETS
    from .evaluate import EVALUATIONS

    names = " ".join([*list_models(), *list_weights()])
    choices = {"--model": names}

    def flags(settings: Any) -> str:
        words = ["--help"]
        hints = get_type_hints(settings, include_extras=True)
        for field in dataclasses.fields(settings):
            hint = hints[field.name]
            if getattr(hint, "__metadata__", ()) and _POSITIONAL in hint.__metadata__:
                continue
            flag = "--" + field.name.replace("_", "-")
            words += [flag, flag.replace("--", "--no-", 1)] if hint is bool else [flag]
            if values := _literals(hint):
                choices[flag] = " ".join(dict.fromkeys([*choices.get(flag, "").split(), *values]))
        return " ".join(words)

    training, evaluation = flags(TrainConfig), flags(Evaluation)
    cases = [("", " ".join(COMMANDS), "--help --version --install-completion")]
    cases += [("--install-completion", " ".join(SHELLS), "")]
    cases += [("train", " ".join(RECIPES), "--help"), ("train *", "", training)]
    cases += [("finetune", names, "--help"), ("finetune *", "", training)]
    cases += [("data", " ".join(DATASETS), "--help")]
    cases += [(f"data {name}*", "", flags(settings)) for name, settings in DATASETS.items()]
    cases += [("eval", " ".join(EVALUATIONS), "--help")]
    for name in EVALUATIONS:
        cases += [(f"eval {name}", names, "--help"), (f"eval {name} *", "", training if name == "linear" else evaluation)]
    cases += [("info", names, "--help")]
    done = {"train", "finetune", "data", "eval", "info"}
    cases += [(f"{name}*", "", flags(command)) for name, command in COMMANDS.items() if name not in done]
    return choices, cases
