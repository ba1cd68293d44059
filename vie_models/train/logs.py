"""Logs of a run: a progress bar with the loss, metrics.jsonl, and TensorBoard curves. Only rank 0 writes."""

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

METRICS = "metrics.jsonl"
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
        self._newest: dict[str, float] = {}
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
    def aside(self) -> Iterator[None]:
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
        self._newest |= {key: metrics[key] for key in _SHOWN if key in metrics}
        self._progress.note(", ".join(f"{key} {self._newest[key]:.4g}" for key in _SHOWN if key in self._newest))
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
