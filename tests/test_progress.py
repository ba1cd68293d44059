"""Progress in a log, and in a terminal."""

import io
import sys

from vie_models import progress
from vie_models.progress import Progress


def test_a_line_a_minute_in_a_log(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress(300, "video", initial=10) as bar:
        for second in range(200):
            now = float(second)
            bar.note(f"{second} failed")
            bar.update()
    assert capsys.readouterr().err.splitlines() == [
        "video 72 of 300: 61 failed", "video 133 of 300: 122 failed", "video 194 of 300: 183 failed",
    ]  # fmt: skip
    with Progress(300, "video", show=False) as bar:
        now = 1000.0
        bar.update()
    assert not capsys.readouterr().err


def test_a_bar_in_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "EVERY", -1.0)
    with Progress(4, "video") as bar:
        bar.note("fine")
        bar.update(4)
    assert "4/4" in terminal.getvalue()
    assert "of 4" not in terminal.getvalue()
