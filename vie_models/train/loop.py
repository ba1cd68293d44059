"""The training loop: `pretrain(config)` starts a run, or continues a stopped one.

RUN/  config.json, metrics.jsonl, failed_videos.jsonl, checkpoints/, tensorboard/, results.json at the end
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ..bank.ranks import World, world
from ..files import locked
from .logs import RunLog
from .objectives.instance import InstanceObjective
from .run import Run
from .settings import TrainConfig


def pretrain(config: TrainConfig, *, progress: bool = True) -> Path:
    """Trains until `config.steps` and returns the run's folder. Under torchrun, all processes call it.

    Args:
        config: settings of the run. If `config.out` holds a stopped run, that run continues.
        progress: show a progress bar; where there is no terminal, print a line a minute.

    Raises:
        ValueError: the settings do not fit the videos, or differ from those of the run in that folder.
        BlockingIOError: another process is training in that folder.
        TooManyFailuresError: more videos of a list could not be read than `max_failed` allows, or none could.
        WrongArithmeticError: convolutions in half precision are wrong on this machine.
        NotFiniteError: the loss, a weight or a bank row became infinite or not a number. Earlier checkpoints are intact.
        OSError: the folder or a checkpoint could not be written. Earlier checkpoints are intact.
        KeyboardInterrupt: SIGINT or SIGTERM arrived, and a checkpoint was written.
    """
    with world(config.device) as ranks, _locked(config.out, ranks), _stop_signals() as stop:
        run = Run(config, ranks)
        run.look_for_videos()
        run.write_settings()
        config, pace = run.config, run.pace()
        with RunLog(config.out if ranks.is_first else None, step=run.step, steps=config.steps, progress=progress) as log:
            if run.step == 0 and config.bank_start == "embeddings" and isinstance(run.objective, InstanceObjective):
                log.say("the memory bank begins with the embeddings of one pass over the videos")
                run.fill_bank(run.objective.bank)
            batches = run.batches()
            while run.step < config.steps:
                with log.waiting():
                    batch = next(batches)
                if run.agree(batch, stop.is_set(), log.say):
                    run.save()
                    raise KeyboardInterrupt
                run.train_step(batch)
                log.step()
                if message := pace.step(batch, log.last_wait):
                    log.say(message)
                if run.due(config.log_every):
                    log.write(run.step, {**run.metrics(), **log.rates(config.batch_size)})
                with log.paused():
                    if run.due(config.validate_every):
                        log.write(run.step, run.validate())
                    if run.due(config.save_every):
                        run.save()
        run.check_failures(run.step)
    return config.out


@contextlib.contextmanager
def _locked(folder: Path, ranks: World) -> Iterator[None]:
    """Rank 0 holds the folder's lock while the block runs. If it cannot, every rank raises its error."""
    with contextlib.ExitStack() as stack:
        error = None
        if ranks.is_first:
            busy = f"another process is training in {folder}: wait for it, or choose another folder"
            try:
                stack.enter_context(locked(folder / ".lock", busy))
            except OSError as failure:
                error = failure
        if (error := ranks.from_first(error)) is not None:
            raise error
        yield


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
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
