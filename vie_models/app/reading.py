"""Reads and embeds the moments of a video.

M moments, T frames of a clip, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..clip_spec import ClipSpec
from ..features.extractor import Extractor
from ..video.clips import Clip, window_offsets
from ..video.frames import GRID_FPS, Video
from ..video.sampling import cropping
from ..video.sources import open_video
from . import encoders
from .moments import Moments, Tell, middles, silent

THREADS = 2
"""Threads of a decoder. Each holds some frames, and a 4K frame takes 12 MB."""
BATCH = 4


def window_of(name: str) -> float:
    """Returns the length of the encoder's clip in seconds."""
    return encoders.encoder(name).clip_spec.seconds


def read(source: str | Path, name: str, times: Sequence[float] | np.ndarray | None = None, tell: Tell = silent) -> Moments:
    """Embeds the moments of a video.

    Args:
        source: the video.
        name: an encoder of `encoders.names()`.
        times: middles of the moments in seconds (default: `middles`). A window that would begin before the video or end after
            it is moved into it.
        tell: is told about the progress.

    Raises:
        VideoError: no frame can be decoded.
        ValueError: there is no such encoder.
    """
    tell(0.0, "Loading the encoder")
    net, window = encoders.encoder(name), window_of(name)
    extractor = Extractor(net, batch_size=BATCH, workers=0)
    tell(0.0, "Opening the video")
    with open_video(source, net.clip_spec.fps, threads=THREADS) as video:
        found, embedded = video.retrying(lambda: _embed(video, extractor, times, window, tell))
        halves = np.split(embedded, len(encoders.pathways(name)), axis=1)
        return Moments(
            model=name,
            duration=video.num_frames / net.clip_spec.fps,
            window=window,
            times=found,
            embeddings={key: _unit(half) for key, half in zip(encoders.pathways(name), halves, strict=True)},
            facts=video.metadata,
            damage=video.damage,
        )


def indices_at(second: float, num_frames: int, spec: ClipSpec) -> tuple[int, ...]:
    """Returns the grid indices of the frames that an encoder sees of the moment with this middle. A short video is repeated."""
    first = min(max(round(second * spec.fps - spec.length / 2), 0), max(num_frames - spec.length, 0))
    return Clip.of([first + offset for offset in window_offsets(spec.num_frames, spec.length)], num_frames).indices


def _embed(
    video: Video, extractor: Extractor, times: Sequence[float] | np.ndarray | None, window: float, tell: Tell
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the moments' times [M] and embeddings [M, D]."""
    spec = extractor.model.clip_spec
    chosen = middles(video.num_frames / spec.fps, window) if times is None else np.asarray(times, float)
    clips = video.read([indices_at(second, video.num_frames, spec) for second in chosen], cropping(spec))
    made: list[np.ndarray] = []
    for rows in extractor.outputs(clips):
        made.append(rows)
        done = sum(map(len, made))
        tell(done / len(chosen), f"Moment {done} of {len(chosen)}")
    return chosen, np.concatenate(made)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def duration_of(source: str | Path) -> float:
    """Returns the length of a video in seconds, as its packets say it."""
    with open_video(source, GRID_FPS, threads=THREADS) as video:
        return video.num_frames / GRID_FPS
