"""How many videos a job may fail to read: one rule for all commands.

A job that read nothing has failed. So has one that failed to read more videos than `MAX_FAILED` allows, unless it was asked to
allow more. A job with fewer failures is done, and says that there were some (exit code 3).
"""

from __future__ import annotations

MAX_FAILED = 0.5
"""Largest share of the videos that may fail. A few broken files are normal: some percent of a large collection, or one of two
in a small one. If more fail than can be read, the cause is not in the files but around them (a wrong root, a folder that is not
mounted, a download that stopped, a codec that is missing), and what is left is not the data that was asked for."""


class TooManyFailuresError(RuntimeError):
    """More videos could not be read than the job allows."""


class NothingReadError(TooManyFailuresError, ValueError):
    """There was no video to read, or none could be read."""


def check_max_failed(max_failed: float) -> None:
    """Raises ValueError unless the share is from 0 to 1."""
    if not 0 <= max_failed <= 1:
        raise ValueError(f"max_failed must be a share of the videos, from 0 to 1, got {max_failed}")


def are_too_many(failed: int, tried: int, max_failed: float) -> bool:
    """Whether all of the videos that were tried failed, or a larger share than `max_failed`."""
    return failed >= tried or failed > max_failed * tried


def check_failures(failed: int, tried: int, max_failed: float, *, what: str, first: str = "", remedy: str = "") -> None:
    """Raises an error if nothing could be read, or too little.

    Args:
        failed: number of videos that could not be read.
        tried: number of videos that were tried.
        max_failed: largest share of them that may fail.
        what: what was read and from where, such as "videos of train.txt".
        first: the first that failed, and why.
        remedy: what to look at, such as "paths start from --root .".

    Raises:
        NothingReadError: all failed, or there was nothing to try.
        TooManyFailuresError: a larger share failed.
    """
    ending = (f"; the first is {first}" if first else "") + (f"; {remedy}" if remedy else "")
    if failed >= tried:
        raise NothingReadError(f"none of the {tried} {what} can be read{ending}")
    if are_too_many(failed, tried, max_failed):
        raise TooManyFailuresError(
            f"{failed} of the {tried} {what} cannot be read, more than the share of {max_failed:g} that may fail{ending}; "
            "--max-failed allows more"
        )
