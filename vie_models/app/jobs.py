"""What the page asks its worker process to do. Arguments and results are plain data, as wire.py says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .moments import Tell, silent


def warm() -> None:
    """Loads the encoder that is asked for first, and all that it needs."""
    from . import encoders, overlays, previews  # noqa: F401

    encoders.predictor(encoders.DEFAULT)


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


def example(folder: str, number: int, progress: Tell = silent) -> str:
    """Renders an example into `folder`, and returns its path."""
    from .example import write_example

    progress(0.1, "Rendering a video")
    return str(write_example(Path(folder), number))


def layer(source: str, second: float, model: str, name: str, channel: int | None, progress: Tell = silent) -> dict[str, Any]:
    """Returns the fields of `overlays.layer_maps`."""
    from .overlays import layer_maps

    progress(0.2, "Running the encoder")
    return dataclasses.asdict(layer_maps(source, second, model, name, channel))


def layers(model: str) -> list[str]:
    """Returns the names of an encoder's layers."""
    from .encoders import encoder

    return encoder(model).layer_names


def match(source: str, first: float, second: float, model: str, pathway: str, progress: Tell = silent) -> dict[str, Any]:
    """Returns the fields of `overlays.match_maps`."""
    from .overlays import match_maps

    progress(0.2, "Following the gradient")
    return dataclasses.asdict(match_maps(source, (first, second), model, pathway))


def compare(sources: Sequence[str], models: Sequence[str], progress: Tell = silent) -> dict[str, Any]:
    """Returns the fields of a comparison: of two encoders on the first video, or of two videos with the first encoder."""
    from .compare import compare_encoders, compare_videos

    if len(sources) == 2:
        return dataclasses.asdict(compare_videos((sources[0], sources[1]), models[0], progress))
    return dataclasses.asdict(compare_encoders(sources[0], (models[0], models[1]), progress))


def strip(source: str, count: int, short_side: int, progress: Tell = silent) -> dict[str, Any]:
    """Returns the length of a video in seconds, and `count` pictures of it, evenly spaced, uint8 [H, W, 3]."""
    import numpy as np

    from .previews import frames_at
    from .reading import duration_of

    progress(0.1, "Taking pictures")
    duration = duration_of(source)
    return {"duration": duration, "pictures": frames_at(source, (np.arange(count) + 0.5) * duration / count, short_side)}


def about_index(features: str) -> tuple[int, int, str, list[str]]:
    """Returns `searching.about`, after building the index if there is none."""
    from .searching import about

    return about(features)


def index_bytes(features: str) -> int:
    """Returns the bytes of the index's files, which a search maps."""
    from .searching import opened

    return sum(file.stat().st_size for file in opened(features).folder.iterdir())


def search(
    features: str,
    source: str,
    sent: str,
    start: float,
    length: float,
    by: str,
    count: int,
    folder: str,
    videos: bool = False,
    progress: Tell = silent,
) -> list[dict[str, Any]]:
    """Returns the fields of what `searching.search` finds."""
    from . import searching

    found = searching.search(features, source, start, length, by, count, folder, progress, known_as=sent, videos=videos)
    return [dataclasses.asdict(one) for one in found]
