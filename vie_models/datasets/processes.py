"""Worker processes that are not forks of this one, and a map over them."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from ..progress import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")


def clean_context() -> Any:
    """Returns the multiprocessing context. It does not fork this process: decoders, GPUs and threads do not survive a fork."""
    return multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int, *, progress: bool = False
) -> Iterator[Result]:
    """Yields `function(job)` for each job, in order.

    Args:
        function: a function that can be pickled.
        jobs: its arguments.
        workers: number of processes. Below 1, this process does the work.
        progress: show a progress bar that counts videos, or a line a minute where there is no terminal.
    """
    with contextlib.ExitStack() as stack:
        results: Iterator[Result] = map(function, jobs)
        if workers >= 1 and len(jobs) >= 2:
            pool = stack.enter_context(ProcessPoolExecutor(min(workers, len(jobs)), mp_context=clean_context()))
            results = pool.map(function, jobs, chunksize=max(min(len(jobs) // (8 * workers), 64), 1))
        bar = stack.enter_context(Progress(len(jobs), "video", show=progress))
        for result in results:
            bar.update()
            yield result
