"""What `make docs` adds to mkdocs: the page of the command line, and a check that public names have docstrings."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
from collections.abc import Iterator
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import vie_models as vie
from vie_models.cli import COMMANDS, main
from vie_models.cli.arguments import Group

PAGE = "cli.md"


def on_files(files: Files, config: Any) -> Files:
    """Adds the page of the command line."""
    if undocumented := sorted(_undocumented()):
        raise PluginError(f"public names without a docstring: {', '.join(undocumented)}")
    files.append(File.generated(config, PAGE, content=command_line_page()))
    return files


def command_line_page() -> str:
    """What `vie ... --help` prints, command after command, in Markdown."""
    parts = ["# Command line", "Every command explains itself: `vie --help`, `vie COMMAND --help`.", _block(_help([]))]
    for command in COMMANDS:
        parts += [f"## vie {command}", _block(_help([command]))]
        for words in _variants(COMMANDS[command]):
            parts += [f"### vie {command} {' '.join(words)}", _block(_help([command, *words]))]
    return "\n\n".join(parts) + "\n"


def _variants(command: Any) -> Iterator[list[str]]:
    """The words that lead to each command of a group. Recipes and models have the same flags: one of them stands for all."""
    if isinstance(command, Group):
        for name, inner in command.commands.items():
            variants = list(_variants(inner))
            yield from ([name, *words] for words in variants or [[]])
            if command.differ_in_settings:
                break


def _help(words: list[str]) -> str:
    printed = io.StringIO()
    before = dict(os.environ)
    os.environ |= {"COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        os.environ.clear()
        os.environ.update(before)
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
    if not text.strip():
        raise PluginError(f"`vie {' '.join(words)} --help` prints nothing")
    return text


def _block(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


def _undocumented() -> Iterator[str]:
    """Public names, and public methods of public classes, without a docstring."""
    for name in vie.__all__:
        value = getattr(vie, name)
        if not inspect.getdoc(value):
            yield name
        if inspect.isclass(value):
            for member, function in vars(value).items():
                if not member.startswith("_") and inspect.isfunction(function) and not inspect.getdoc(getattr(value, member)):
                    yield f"{name}.{member}"
