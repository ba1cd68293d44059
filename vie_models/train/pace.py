"""Says what limits the speed of a run, after its first steps: the network, reading, or augmentation."""

from __future__ import annotations

import time

from .loading import Batch

FIRST, LAST = 5, 55
"""The steps that are measured. The first few wait for workers to start."""
_SMALL = 0.1


class Pace:
    """Where the time of a run's first steps goes.

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
        if self._waited < _SMALL * seconds:
            return f"the network sets the pace: {share}; faster reading would not help"
        reading = self._reading >= self._augmenting
        read, augment = (1000 * value / clips for value in (self._reading, self._augmenting))
        facts = (
            f"{'reading' if reading else 'augmentation'} sets the pace: {share}. Reading takes {read:.2f} ms per clip, and "
            f"augmentation {augment:.2f} ms: {cores:.1f} cores would keep this network busy, {self.workers or 'no'} workers run"
        )
        if reading and not self.packed:
            return f"{facts}. Decode the videos once: {self.pack_command}"
        if not reading and self.on_gpu:
            return f"{facts}. Use --augment device, or more --workers if there are cores for them"
        return f"{facts}. Use more --workers if there are cores for them"
