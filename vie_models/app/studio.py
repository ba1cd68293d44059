"""What the tabs of the page share: the worker, the uploads, and how events are wired."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..files import VIDEO_SUFFIXES
from .uploads import Upload, Uploads
from .worker import Worker, WorkerError

PROGRESS = gr.Progress()
"""Default of an argument that Gradio fills with the progress of the request."""
JOBS = "vie_models.app.jobs"


class Studio:
    """The worker and the uploads, as the tabs use them."""

    def __init__(self, worker: Worker, uploads: Uploads) -> None:
        self.worker, self.uploads = worker, uploads
        self.previews: Path = uploads.folder / "previews"

    def check(self, file: str) -> Upload:
        """Returns an upload that passed the checks. UploadError says why it did not."""
        return self.uploads.check(file)

    def call(self, job: str, *args: Any, progress: Callable[..., Any] | None = None) -> Any:
        """Runs a function of jobs.py in the worker. `progress` is Gradio's."""
        tell = None if progress is None else lambda share, what: progress(share, desc=what)
        return self.worker.call(f"{JOBS}:{job}", *args, progress=tell)

    def example(self, progress: Callable[..., Any], number: int = 0) -> str:
        """Returns the path of an example video, rendered if need be."""
        return self.call("example", str(self.uploads.folder / "example"), number, progress=progress)

    def video_input(self, label: str, visible: bool = True) -> gr.File:
        """A place to drop a video on."""
        return gr.File(label=label, file_types=sorted(VIDEO_SUFFIXES), height=150, scale=2, visible=visible)

    def player(self, label: str) -> gr.Video:
        """A player of a preview."""
        return gr.Video(label=label, interactive=False, loop=True, buttons=[], height=220, min_width=200)

    def on(
        self,
        event: Callable[..., Any],
        function: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        **settings: Any,
    ) -> Any:
        """Runs a function at an event. Errors become sentences on the page, and no event is part of a public API."""
        settings = {"api_visibility": "private", "concurrency_limit": 4, **settings}
        return event(in_words(function), list(inputs), list(outputs), **settings)


def sentence(text: str) -> str:
    """Returns a text as a sentence: with a capital letter, unless it begins with the name of a file, and a full stop."""
    first = text.split(" ", 1)[0]
    return (text[:1].upper() + text[1:] if first.isalpha() else text).rstrip(".") + "."


def in_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose errors that a person can do something about are shown to them, without HTML."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (WorkerError, ValueError, OSError) as error:
            raise gr.Error(html.escape(sentence(str(error))), title="", duration=None, print_exception=False) from error

    return run
