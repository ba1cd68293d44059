"""What may be a video, and one clip of it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..clip_spec import ClipSpec
from .clips import regular_clip
from .decode import VideoFile
from .frames import ArrayVideo, FrameFolder, LengthError, Video

VIDEO_SUFFIXES = frozenset(  # of containers; a file with another is tried where it is named itself
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split()  # noqa: SIM905
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
"""Of images, which are videos of one frame."""

Source = str | os.PathLike[str] | bytes | BinaryIO | np.ndarray | Tensor


def open_video(source: Source, fps: float, *, source_fps: float | None = None, threads: int | None = None) -> Video:
    """A video on a grid of `fps`, to be used in a `with` statement.

    Args:
        source: a video file, as a path, its bytes or a binary file object that can seek; a folder of `%06d.jpg` frames; or
            frames, uint8 [T, H, W, 3].
        source_fps: the rate of frames that have none: required for arrays, 25 for folders if not given.
        threads: of the decoder (default: as many as it finds useful).

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: it holds no video.
    """
    if isinstance(source, (np.ndarray, Tensor)):
        if source_fps is None:
            raise ValueError("an array has no frame rate of its own: pass it, in frames per second")
        return ArrayVideo(source, fps, source_fps)
    if isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
        return FrameFolder(source, fps, source_fps or 25.0)
    if source_fps is not None:
        raise ValueError(f"a video file has its own frame times; a rate is for arrays and folders, got {source_fps}")
    return VideoFile(source, fps, threads=threads)


def load_clip(source: Source, spec: ClipSpec, *, start: float = 0.0, fps: float | None = None) -> Tensor:
    """The clip that begins `start` seconds after the first frame: uint8 [T, H, W, 3], RGB, upright.

    Where the video ends before the clip does, it begins again (frame index modulo length), as in the reference.

    Args:
        source: a video file (path, bytes or binary file object), a folder of `%06d.jpg`, or frames, uint8 [T, H, W, 3].
        fps: the rate of frames that have none: required for arrays, 25 for folders if not given.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: nothing can be decoded from it.
        ValueError: `start` is negative or not before the end of the video.
    """
    if not 0 <= start < math.inf:
        raise ValueError(f"start must be >= 0 seconds, got {start}")
    with open_video(source, spec.fps, source_fps=fps) as video:
        first = round(start * spec.fps)
        try:
            return _clip_at(video, spec, first)
        except LengthError:
            video.recount()
            return _clip_at(video, spec, first)


def _clip_at(video: Video, spec: ClipSpec, first: int) -> Tensor:
    if first >= video.num_frames:
        length = f"{video.num_frames / spec.fps:.2f} s, got {first / spec.fps:.2f} s"
        raise ValueError(f"start must lie in the video: {video.name} lasts {length}")
    return torch.from_numpy(next(video.read([regular_clip(video.num_frames, spec, first).indices])))
