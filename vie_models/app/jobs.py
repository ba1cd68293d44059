"""What the page asks its worker process to do. Arguments and results are plain data, as wire.py says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .moments import Tell, silent


def look(source: str, model: str, progress: Tell = silent) -> dict[str, Any]:
    """Returns the fields of `look.look_at`."""
    from .look import look_at

    return dataclasses.asdict(look_at(source, model, progress))


def previews(source: str, starts: Sequence[float], folder: str, progress: Tell = silent) -> list[str]:
    """Returns the paths of short videos that begin at these seconds."""
    from .previews import write_preview

    made = []
    for number, start in enumerate(starts):
        progress(number / len(starts), "Cutting the moments out")
        made.append(write_preview(source, start, folder))
    return made


def example(folder: str, progress: Tell = silent) -> str:
    """Renders a video of ours into `folder`, and returns its path."""
    from .example import write_example

    progress(0.1, "Rendering a video")
    return str(write_example(Path(folder)))
