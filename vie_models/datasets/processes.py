"""Worker processes that begin clean, and work shared among them."""

from __future__ import annotations

import functools
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def clean_context() -> Any:
    """How processes are started: not as forks of this one, because decoders, GPUs and threads do not outlive a fork."""
    return multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, *, progress: bool = False
) -> Iterator[Result]:
    """`function` of each job, in order, on so many processes; below 1: here. `progress` shows a bar of videos."""
    from tqdm import tqdm

    bar = functools.partial(tqdm, total=len(jobs), unit="video", disable=not progress)
    if workers < 1 or len(jobs) < 2:
        yield from bar(map(function, jobs))
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=clean_context()) as pool:
        yield from bar(pool.map(function, jobs, chunksize=max(min(len(jobs) // (8 * workers), 64), 1)))
