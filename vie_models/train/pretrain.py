"""The training loop: `pretrain(config)` makes a run, or goes on with one that was stopped.

    RUN/  config.json, metrics.jsonl, failed_videos.jsonl, checkpoints/, tensorboard/, results.json at the end

Everything random is a function of the seed and of the step, epoch or video it is for: there is no state of generators to keep,
and a run that goes on, on however many ranks, draws what the uninterrupted one draws.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout

from .distributed import World, world
from .logs import RunLog
from .recipes import TrainConfig
from .run import Run


def pretrain(config: TrainConfig, *, progress: bool = True) -> Path:
    """Trains to `config.steps`; returns the run's folder. Under torchrun, all processes call it.

    Raises:
        ValueError: the settings do not fit the videos, or the run in that folder had others.
        BlockingIOError: another process is training in that folder.
        TooManyFailuresError: more than `max_failures` videos could not be read.
        WrongArithmeticError: convolutions in half precision are wrong on this machine.
        NotFiniteError: the loss became infinite or not a number; the last checkpoint is from before.
        OSError: a checkpoint could not be written; the ones before are as they were.
        KeyboardInterrupt: on SIGINT or SIGTERM, after a checkpoint was written.
    """
    with world(config.device) as ranks, _locked(config.out, ranks), _stop_signals() as stop:
        run = Run(config, ranks)
        run.write_settings()
        batches = run.batches()
        config = run.config
        with RunLog(config.out if ranks.is_first else None, step=run.step, steps=config.steps, progress=progress) as log:
            while run.step < config.steps:
                with log.waiting():
                    batch = next(batches)
                if run.agree(batch, stop.is_set(), log.say):
                    run.save()
                    raise KeyboardInterrupt
                run.train_step(batch)
                log.step()
                if run.due(config.log_every):
                    log.write(run.step, {**run.metrics(), **log.rates(config.batch_size)})
                with log.aside():
                    if run.due(config.validate_every):
                        log.write(run.step, run.validate())
                    if run.due(config.save_every):
                        run.save()
    return config.out


@contextlib.contextmanager
def _locked(folder: Path, ranks: World) -> Iterator[None]:
    """One run at a time writes to a folder."""
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
def _stop_signals() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM; the second one does what it always does."""
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
