"""Small pictures and short videos of moments, for a page: JPEG-sized frames and H.264 files that every browser plays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..datasets.encode import shrink, write_mp4
from ..files import replacing
from ..video.frames import GRID_FPS, Video
from ..video.sources import open_video
from .reading import THREADS

SHORT_SIDE, SECONDS = 320, 3.0
"""Largest short side of a preview in pixels, and its length."""


def write_preview(source: str | Path, start: float, folder: str | Path, seconds: float = SECONDS) -> str:
    """Writes a few seconds of a video to an MP4 file in `folder`, and returns its path. An existing one is kept.

    Args:
        source: the video.
        start: where the preview starts, in seconds. One that would run past the end starts earlier.
        folder: folder of the previews. The name of a file says nothing about the video's name.
        seconds: length of the preview.

    Raises:
        VideoError: the video cannot be read.
    """
    key = hashlib.sha256(f"{Path(source).resolve()}\0{start:.2f}\0{seconds:.2f}".encode("utf-8", "surrogateescape"))
    target = Path(folder, f"{key.hexdigest()[:24]}.mp4")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as made, open_video(source, GRID_FPS, threads=THREADS) as video:
            video.retrying(lambda: _write(video, start, seconds, made))
    return str(target)


def _write(video: Video, start: float, seconds: float, target: Path) -> None:
    count = min(max(round(seconds * GRID_FPS), 1), video.num_frames)
    first = min(max(round(start * GRID_FPS), 0), video.num_frames - count)
    clips = video.read([[first + k] for k in range(count)], lambda frame: shrink(frame, SHORT_SIDE, multiple=2))
    write_mp4(target, (clip[0] for clip in clips), int(GRID_FPS), crf=23)


def frames_at(source: str | Path, seconds: Iterable[float], short_side: int = 90) -> list[np.ndarray]:
    """Returns small pictures of a video, uint8 [H, W, 3], at times that do not fall.

    Raises:
        VideoError: the video cannot be read.
    """

    def read(video: Video) -> list[np.ndarray]:
        wanted = [[min(max(round(second * GRID_FPS), 0), video.num_frames - 1)] for second in seconds]
        return [clip[0] for clip in video.read(wanted, lambda frame: shrink(frame, short_side))]

    with open_video(source, GRID_FPS, threads=THREADS) as video:
        return video.retrying(lambda: read(video))
