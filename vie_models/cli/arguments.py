"""From words to the dataclass of a command: how its fields become arguments, and what `--help` says of them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import Positional, Suppress, arg, subcommand

Command = TypeVar("Command", bound=type)
_POSITIONAL: Any = Positional  # aliases to a type checker, markers when they run
_SUPPRESS: Any = Suppress


def command(*, hidden: Iterable[str] = (), models: Iterable[str] = (), **positional: str) -> Callable[[Command], Command]:
    """Prepares a dataclass for tyro, with the fields that it inherits.

    Args:
        hidden: names of the fields that are no arguments; they keep their defaults.
        models: the only names that the field `model` takes.
        positional: what `--help` calls each argument that is a word without a flag: `videos="VIDEO ..."`.
    """

    def prepared(cls: Command) -> Command:
        hints = get_type_hints(cls, include_extras=True)
        for name, hint in list(hints.items()):
            if name == "model" and models:
                hint = Literal[tuple(models)]
            if name in hidden:
                hint = _SUPPRESS[hint]
            elif name in positional:
                hint = Annotated[_POSITIONAL[hint], arg(metavar=positional[name], help_behavior_hint=_default)]
            else:
                short = ["-o"] if name == "out" else ["-k"] if name == "k" else None
                hint = Annotated[hint, arg(metavar=_metavar(hint), aliases=short, help_behavior_hint=_default)]
            hints[name] = hint
        cls.__annotations__ = hints
        return cls

    return prepared


def _default(label: str) -> str:
    """Leaves out a default that says nothing: the help of such a field says in words what happens without it."""
    return "" if label in ("None", "False", "") else f"(default: {label})"


@dataclasses.dataclass(frozen=True)
class Group:
    """Commands under one name: `vie data DATASET`, `vie train RECIPE`."""

    what: str
    """What the names of the commands are: "recipe"."""
    description: str
    commands: dict[str, Any]
    """Each a dataclass, one with its settings, or a group."""
    summaries: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the help of the group says of its commands. Default: their own first sentences."""

    @property
    def differ_in_settings(self) -> bool:
        """Whether the commands are one and the same, with other settings: recipes, models."""
        return not any(isinstance(command, (Group, type)) for command in self.commands.values())


def summary(command: Any) -> str:
    """Returns the first sentence or two about a command, in one line."""
    return " ".join(_description(command).split("\n\n")[0].split())


def parse_command(command: Any, words: Sequence[str], prog: str) -> Any:
    """Returns the dataclass that the words after a command ask for. Ends with exit code 2 if they are wrong."""
    short = any(word.startswith("--tyro-") for word in words[:1])
    settings = {} if isinstance(command, (Group, type)) else {"default": command}
    return tyro.cli(_kind(command, short), args=words, prog=prog, description=_description(command), **settings)


def _description(command: Any) -> str:
    return inspect.cleandoc(command.description if isinstance(command, Group) else command.__doc__)


def _kind(command: Any, short: bool = False) -> Any:
    """Returns the type that tyro parses: of a group, the union of its commands.

    With `short`, commands that differ in their settings alone are one command that takes their names, as shells complete them.
    A script with the flags of each would be several times as long as fish lets a program be.
    """
    if not isinstance(command, Group):
        return command if isinstance(command, type) else type(command)
    kinds = []
    for name, inner in command.commands.items():
        described: dict[str, Any] = {"name": name, "description": command.summaries.get(name) or summary(inner)}
        if short and isinstance(inner, Group) and inner.differ_in_settings:
            inner = _named(inner)
        if isinstance(inner, Group):
            kinds.append(Annotated[Any, subcommand(**described, constructor_factory=functools.partial(_kind, inner, short))])
        elif isinstance(inner, type):
            kinds.append(Annotated[inner, subcommand(**described)])
        else:
            kinds.append(Annotated[type(inner), subcommand(**described, default=inner)])
    return Union[tuple(kinds)]  # noqa: UP007


def _named(group: Group) -> Any:
    """Returns the first command of a group, as one whose first word is a name in the group."""
    first = next(iter(group.commands.values()))
    name: Any = Annotated[_POSITIONAL[Literal[tuple(group.commands)]], arg(metavar=group.what.upper(), help="")]
    kind = dataclasses.make_dataclass(type(first).__name__, [("name_", name)], bases=(type(first),), kw_only=True)
    return kind(name_=tyro.MISSING, **vars(first))


def _metavar(hint: Any) -> str | None:
    """Returns the metavar of a field that may be left out ("PATH", not "{None}|PATH"). None: tyro's own."""
    if get_origin(hint) is Annotated:
        return None
    given = [kind for kind in get_args(hint) if kind is not types.NoneType]
    if get_origin(hint) in (Union, types.UnionType) and len(given) == 1:
        return _metavar(given[0]) or _word(given[0])
    if get_origin(hint) is tuple:
        return f"[{_word(given[0])} ...]"
    return None


def _word(kind: Any) -> str:
    return f"{{{','.join(map(str, get_args(kind)))}}}" if get_origin(kind) is Literal else kind.__name__.upper()
