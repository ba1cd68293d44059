"""Opens any source of a video, and reads one clip from it."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..clip_spec import ClipSpec, HasClipSpec, spec_of
from .clips import Clip, regular_clip, train_clip
from .decode import VideoFile
from .frames import GRID_FPS, ArrayVideo, FrameFolder, Video, VideoError
from .packed import packed_video
from .remote import is_url

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
"""Suffixes of images, which are videos of one frame."""

PathOrURL = Path | str
"""A path, or an http(s) address as text."""
Source = str | os.PathLike[str] | bytes | BinaryIO | np.ndarray | Tensor


def open_video(source: Source, fps: float, *, source_fps: float | None = None, threads: int | None = None) -> Video:
    """Opens a video on a grid of `fps` frames per second. Use the result in a `with` statement.

    Args:
        source: a video file, as a path, an http(s) address, its bytes or a binary file object that can seek; a folder of
            `%06d.jpg` frames; or frames, uint8 [T, H, W, 3].
        source_fps: frame rate of arrays (required) and folders (default: 25). Video files have their own frame times.
        threads: number of threads of the decoder (default: the decoder decides).

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: the source holds no video.
        ValueError: an array without `source_fps`, a video file with it, or a rate or shape out of range.
    """
    if isinstance(source, (np.ndarray, Tensor)):
        if source_fps is None:
            raise ValueError("an array has no frame rate of its own: pass it, in frames per second")
        return ArrayVideo(source, fps, source_fps)
    if isinstance(source, (str, os.PathLike)) and not is_url(source):
        if packed := packed_video(source, fps):
            return packed
        if _is_folder(source):
            return FrameFolder(source, fps, source_fps or GRID_FPS)
    if source_fps is not None:
        raise ValueError(f"a video file has its own frame times; a rate is for arrays and folders, got {source_fps}")
    return VideoFile(source, fps, threads=threads)


@contextlib.contextmanager
def decoding(name: object) -> Iterator[None]:
    """What PyAV raises on hostile content, of any kind, becomes a VideoError. Errors of this program stay what they are."""
    try:
        yield
    except (VideoError, OSError):
        raise
    except Exception as error:  # PyAV checks little of what a header claims: lists end too early, numbers are too large
        by_us = isinstance(error, (TypeError, AttributeError, NameError))  # called in a wrong way
        if isinstance(error, MemoryError) or (_raised_by_pyav(error) and not by_us):
            raise VideoError(name, f"cannot be decoded: {type(error).__name__}: {error}") from error
        raise


def _raised_by_pyav(error: Exception) -> bool:
    """Whether the innermost frame is PyAV's. Compiled code says only its file, such as av/container/streams.py."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    parts = Path(trace.tb_frame.f_code.co_filename).parts if trace else ()
    return "av" in parts and "vie_models" not in parts


def _is_folder(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is a folder; False for a file. Opening anything else could block for ever.

    Raises:
        FileNotFoundError: there is nothing, or a link that leads nowhere.
        VideoError: it is a pipe, a device or the like.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        if not Path(path).is_symlink():
            hint = "; pass an address as a string, because a Path loses one of its slashes"
            is_address = str(path).startswith(("http:/", "https:/"))
            raise FileNotFoundError(f"no video file at {path}{hint if is_address else ''}") from None
        target = Path(path).readlink()
        hint = "; fetch its content first (git annex get, datalad get, dvc pull)"
        raise FileNotFoundError(f"{path} is a link to {target}, which is not there{hint}") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise VideoError(path, "is neither a file nor a folder, but a pipe, a socket or a device")
    return stat.S_ISDIR(mode)


def path_or_url(given: str | os.PathLike[str], root: str | os.PathLike[str] = "") -> PathOrURL:
    """Returns an address as it is, and anything else as a path, relative to `root`."""
    return given if is_url(given) else Path(root, given)


def load_clip(source: Source, model_or_spec: HasClipSpec | ClipSpec, *, start: float = 0.0, fps: float | None = None) -> Tensor:
    """Reads the clip that begins `start` seconds after the first frame: uint8 [T, H, W, 3], RGB, upright.

    A clip that runs past the end of the video continues from its start (frame index modulo length), as in the reference.

    Args:
        source: a video file (path, http(s) address, bytes or binary file object), a folder of `%06d.jpg`, or frames, uint8
            [T, H, W, 3].
        model_or_spec: which frames make a clip: a model, or its `clip_spec`.
        start: start of the clip, in seconds.
        fps: frame rate of arrays (required) and folders (default: 25). Video files have their own frame times.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: no frame can be decoded, or a server refuses, keeps silent or breaks off.
        ValueError: `start` is negative or not before the end of the video, or `fps` is missing or not allowed.
    """
    if not 0 <= start < math.inf:
        raise ValueError(f"start must be >= 0 seconds, got {start}")
    spec = spec_of(model_or_spec)
    first = round(start * spec.fps)

    def choose(video: Video) -> Clip:
        if first >= video.num_frames:
            length = f"{video.num_frames / spec.fps:.2f} s, got {first / spec.fps:.2f} s"
            raise ValueError(f"start must lie in the video: {video.name} lasts {length}")
        return regular_clip(video.num_frames, spec, first)

    with decoding(source), open_video(source, spec.fps, source_fps=fps) as video:
        return torch.from_numpy(read_clip(video, choose))


def random_clip(
    source: Source,
    model_or_spec: HasClipSpec | ClipSpec,
    *,
    generator: torch.Generator | None = None,
    fps: float | None = None,
) -> Tensor:
    """Reads a clip from a random place, as in training: uint8 [T, H, W, 3], RGB, upright. `train_transform` augments it.

    Args:
        source: as in `load_clip`.
        model_or_spec: as in `load_clip`.
        fps: as in `load_clip`.
        generator: random generator that draws the place (default: torch's global one).

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: no frame can be decoded.
        ValueError: `fps` is missing or not allowed.
    """
    draws = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator, device="cpu")))
    state, spec = draws.get_state(), spec_of(model_or_spec)

    def choose(video: Video) -> Clip:
        draws.set_state(state)
        return train_clip(video.num_frames, spec, draws)

    with decoding(source), open_video(source, spec.fps, source_fps=fps, threads=1) as video:
        return torch.from_numpy(read_clip(video, choose))


def read_clip(video: Video, choose: Callable[[Video], Clip]) -> np.ndarray:
    """Reads the clip that `choose` picks for the video's length. If that length proves wrong, `choose` picks again."""
    return video.retrying(lambda: next(video.read([choose(video).indices])))
