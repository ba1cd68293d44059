"""Progress of a long job: a bar in a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time

EVERY = 60.0
"""Seconds between two lines in a log."""


class Progress:
    """Counts work done and shows it on stderr. Use it in a `with` statement, or call `close`.

    Args:
        total: units of work in all; None if that is not known.
        unit: name of a unit, such as "video".
        initial: units that were done before.
        show: whether to show anything.
    """

    def __init__(self, total: int | None, unit: str, *, initial: int = 0, show: bool = True) -> None:
        from tqdm import tqdm

        self._total, self._unit, self._done, self._note = total, unit, initial, ""
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=initial, unit=unit, disable=not (show and terminal), smoothing=0.05)
        self.lines = show and not terminal
        """Whether it prints lines instead of a bar."""
        self._began = self._said = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def update(self, units: int = 1) -> None:
        """Counts more units as done."""
        self._done += units
        self._bar.update(units)
        if self.lines and time.monotonic() > self._said + EVERY:
            self._said = time.monotonic()
            note = f": {self._note}" if self._note else ""
            total = "" if self._total is None else f" of {self._total}"
            print(f"{self._unit} {self._done}{total}{note}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Sets the text that stands behind the count from now on."""
        self._note = text
        self._bar.set_postfix_str(text, refresh=False)

    def say(self, message: str) -> None:
        """Prints a message above the bar."""
        self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
