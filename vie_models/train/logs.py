"""What a run reports: a progress bar with the loss, metrics.jsonl, TensorBoard curves, and what limits its speed."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import replacing
from ..progress import Progress
from .loading import Batch

METRICS = "metrics.jsonl"
FIRST, LAST = 5, 55
"""The steps whose pace is measured. The first few wait for workers to start."""
_FREE = 0.1  # share of waiting below which reading is not what limits a run
_SHOWN = ("loss", "clips_per_s", "data_wait", "knn_top1", "top1")


class RunLog:
    """Writes metrics.jsonl, one line per event: `step` (the number of steps made) and its metrics.

    If a stopped run continues, lines of steps after `step` are removed, because those steps are made again.

    Args:
        folder: folder of the run; None writes nothing (ranks other than 0).
        step: number of steps already made.
        steps: number of steps at the end of the run.
        progress: show a progress bar, or print a line a minute where there is no terminal.
    """

    def __init__(self, folder: Path | None, *, step: int, steps: int, progress: bool = True) -> None:
        self._progress = Progress(steps, "step", initial=step, show=progress and folder is not None)
        self._file, self._board = None, None
        self._since, self._waited, self._steps = time.monotonic(), 0.0, 0
        self.last_wait = 0.0
        """Seconds that the last `waiting` took."""
        if folder is None:
            return
        path = folder / METRICS
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        with replacing(path) as made:
            made.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")
        if self._progress.lines:
            print(f"training from step {step} to {steps}; metrics in {path}", file=sys.stderr, flush=True)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)  # type: ignore[no-untyped-call]
        except ImportError:
            print(
                f"no TensorBoard curves: it is not installed (pip install 'vie_models[train]'); the metrics are in {path}",
                file=sys.stderr,
            )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        began = time.monotonic()
        yield
        self.last_wait = time.monotonic() - began
        self._waited += self.last_wait

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time inside out of the rates, for work that is not training."""
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began

    def step(self) -> None:
        """Counts one more step."""
        self._steps += 1
        self._progress.update()

    def rates(self, batch_size: int) -> dict[str, float]:
        """Returns clips per second and the fraction of time spent waiting for data, both since the last call."""
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        rates = {"clips_per_s": batch_size * self._steps / seconds, "data_wait": self._waited / seconds}
        self._since, self._waited, self._steps = now, 0.0, 0
        return rates

    def write(self, step: int, metrics: dict[str, Any]) -> None:
        """Writes a line of metrics, if there are any."""
        if self._file is None or not metrics:
            return
        self._file.write(json.dumps({"step": step, **metrics, "time": round(time.time(), 3)}) + "\n")
        self._file.flush()
        self._progress.note(", ".join(f"{key} {metrics[key]:.4g}" for key in _SHOWN if key in metrics))
        if self._board:
            for key, value in metrics.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(key, value, step)  # type: ignore[no-untyped-call]

    def say(self, message: str) -> None:
        """Prints a message above the progress bar."""
        if self._file is not None:
            self._progress.say(message)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Reads the lines of a run's metrics.jsonl, without a half-written last line of a killed run."""
    path = folder / METRICS
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Pace:
    """Says once, after a run's first steps, what limits their speed: the network, reading, or augmentation.

    Args:
        clips: clips of this process per step.
        workers: processes that read.
        packed: whether frames come from a pack.
        on_gpu: whether a GPU trains.
        pack_command: what writes a pack of the videos.
    """

    def __init__(self, *, clips: int, workers: int, packed: bool, on_gpu: bool, pack_command: str) -> None:
        self.clips, self.workers, self.packed, self.on_gpu, self.pack_command = clips, workers, packed, on_gpu, pack_command
        self._steps = 0
        self._since = self._waited = self._reading = self._augmenting = 0.0

    def step(self, batch: Batch, waited: float) -> str | None:
        """Counts a step that waited so many seconds for its batch. Returns the message when it is due, once."""
        self._steps += 1
        if self._steps == FIRST:
            self._since = time.monotonic()
        elif FIRST < self._steps <= LAST:
            self._waited += waited
            self._reading += batch.reading
            self._augmenting += batch.augmenting
        return self._message(time.monotonic() - self._since) if self._steps == LAST else None

    def _message(self, seconds: float) -> str:
        clips = self.clips * (LAST - FIRST)
        work = self._reading + self._augmenting
        cores = work / max(seconds - self._waited, 1e-9)
        share = f"{self._waited / seconds:.0%} of the time went by waiting for clips ({clips / seconds:.0f} clips/s)"
        if self._waited < _FREE * seconds:
            return f"the network sets the pace: {share}; faster reading would not help"
        reading = self._reading >= self._augmenting
        read, augment = (1000 * value / clips for value in (self._reading, self._augmenting))
        limit = (
            f"{'reading' if reading else 'augmentation'} sets the pace: {share}. Reading takes {read:.2f} ms per clip, and "
            f"augmentation {augment:.2f} ms: {cores:.1f} cores would keep this network busy, {self.workers or 'no'} workers run"
        )
        if reading and not self.packed:
            return f"{limit}. Decode the videos once: {self.pack_command}"
        if not reading and self.on_gpu:
            return f"{limit}. Use --augment device, or more --workers if there are cores for them"
        return f"{limit}. Use more --workers if there are cores for them"
