"""Commands whose flags depend on the word before them: `vie train RECIPE`, `vie eval knn MODEL`, `vie data DATASET`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

Settings = TypeVar("Settings")
NamedCommand = Callable[[str, Sequence[str]], int]
"""Takes a name and the flags after it, runs the command and returns its exit code."""


def parse(settings: Callable[..., Settings], flags: Sequence[str], prog: str, default: Any = None) -> Settings:
    """Returns the settings that the flags ask for: a new dataclass, or `default` with changes."""
    given = ["--out" if flag == "-o" else flag for flag in flags]  # tyro knows -o only where a field declares it
    if default is None:
        return tyro.cli(settings, args=given, prog=prog)
    return tyro.cli(settings, default=default, args=given, prog=prog)
