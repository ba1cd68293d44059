"""Commands whose flags depend on the word before them: `vie train RECIPE`, `vie eval knn MODEL`, `vie data DATASET`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

Settings = TypeVar("Settings")
NamedCommand = Callable[[str, Sequence[str]], int]
"""Runs a command, given the name and the flags after it; returns the exit code."""


def parse(settings: Callable[..., Settings], flags: Sequence[str], prog: str, default: Any = None) -> Settings:
    """The settings that flags give: those of a dataclass, or `default` with changes."""
    given = ["--out" if flag == "-o" else flag for flag in flags]  # tyro knows no short name of a field that it is not told
    if default is None:
        return tyro.cli(settings, args=given, prog=prog)
    return tyro.cli(settings, default=default, args=given, prog=prog)
