"""Starts processes that are not forks of this one.

A fork has this process's memory but none of its threads: a lock that a thread held stays locked, a decoder waits for ever,
and a GPU refuses. So every process of this package is a new interpreter (`start_python`), or a fork of one that has no threads
(`clean_context`: multiprocessing's fork server). Two things matter in each of them:

- What it imports. `python -c` puts the current folder first, where anybody's types.py would hide Python's own. It is dropped.
- Which signals end it. Ctrl-C, torchrun and job schedulers signal every process, but only the one that started the others knows
  when they have done. Those that it still needs ignore the signals (`ignore_signals`), and end when it does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from .progress import Progress

Job = TypeVar("Job")
Result = TypeVar("Result")


def start_python(
    function: Callable[..., object], *args: object, pass_fds: Sequence[int] = (), environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a new interpreter that calls a function of a module, which it imports from where this process would.

    Args:
        function: the function.
        args: its arguments, such as numbers and texts, whose `repr` is Python.
        pass_fds: numbers of files and sockets that the process inherits.
        environment: its environment variables (default: those of this process).
    """
    folders = [str(Path(path).absolute()) for path in [*filter(None, sys.path), str(Path(__file__).parents[1])]]
    environment = {**(os.environ if environment is None else environment), "PYTHONPATH": os.pathsep.join(folders)}
    name = function.__name__
    code = "import sys; sys.path[:] = filter(None, sys.path); "  # the current folder is ""
    code += f"from {function.__module__} import {name}; {name}({', '.join(map(repr, args))})"
    return subprocess.Popen([sys.executable, "-c", code], pass_fds=pass_fds, env=environment, stdin=subprocess.DEVNULL)


def ignore_signals() -> None:
    """Ignores the signals that ask this process to end. Whoever started it decides when it ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def clean_context(preload: str | None = None) -> Any:
    """Returns a multiprocessing context that does not fork this process.

    Args:
        preload: a module that the fork server imports before it forks. The server then ignores SIGTERM, and so do its children
            from their first moment on, until they call `ignore_signals`.
    """
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    if preload is not None:
        context.set_forkserver_preload([preload])
        if threading.current_thread() is threading.main_thread():  # others may not change signals
            from multiprocessing import forkserver

            before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
            try:
                forkserver.ensure_running()
            finally:
                signal.signal(signal.SIGTERM, before)
    return context


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
