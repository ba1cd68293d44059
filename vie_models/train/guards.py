"""Guards around a run: a lock on its folder, and signals that stop it after a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from ..bank.ranks import World


@contextlib.contextmanager
def locked(folder: Path, ranks: World) -> Iterator[None]:
    """Locks a folder, so that only one run at a time writes to it.

    Raises:
        BlockingIOError: another process has locked the folder, or it cannot be written to.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    error = None
    if ranks.is_first:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            error = f"another process is training in {folder}: wait for it, or choose another folder"
        except OSError as failure:
            error = f"cannot write to {folder}: {failure}"
    try:
        if error := ranks.from_first(error):
            raise BlockingIOError(error)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yields an event that the first SIGINT or SIGTERM sets. A second signal has its usual effect."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
