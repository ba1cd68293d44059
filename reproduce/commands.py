"""Runs `vie` commands."""

from __future__ import annotations

from vie_models.cli import main


def done(arguments: list[str]) -> None:
    """Runs `vie` with these arguments. If it fails, ends this process with the same exit code."""
    if code := main(arguments):
        raise SystemExit(code)
