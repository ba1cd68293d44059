"""`vie` commands, one after the other."""

from __future__ import annotations

from vie_models.cli import main


def done(arguments: list[str]) -> None:
    """Runs `vie` with these arguments; where it fails, this process ends with its exit code."""
    if code := main(arguments):
        raise SystemExit(code)
