"""Encoding: writes frames as a video file, and re-encodes videos as smaller files that are read faster."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..files import replacing
from ..video.frames import GRID_FPS
from ..video.sources import open_video


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: int, *, crf: int = 18) -> None:
    """Writes frames as H.264 in an MP4 file, with a key frame every 12 frames so that seeking is fast.

    Args:
        path: file to write, with any suffix.
        frames: uint8 [H, W, 3], all of one size with even sides.
        fps: frame rate, frames per second.
        crf: loss of quality, from 0 (lossless) to 51 (smallest file). At 18 the loss is hardly visible.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "fast", "x264-params": "threads=1:mbtree=0"}  # for the same bytes every time
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.pix_fmt, stream.gop_size = "yuv420p", 12
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def encode_video(source: Path, target: Path, short_side: int = 320) -> None:
    """Re-encodes a video: upright, 25 frames per second, its short side at most `short_side` pixels.

    Raises:
        VideoError: the video cannot be read.
        OSError: a file cannot be read or written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as made, open_video(source, GRID_FPS, threads=1) as video:
        windows = video.read_windows(itertools.count(), [0], 1, lambda frame: shrink(frame, short_side, multiple=2))
        write_mp4(made, (frames[0] for _, frames in windows), int(GRID_FPS))


def shrink(image: np.ndarray, short_side: int, multiple: int = 1) -> np.ndarray:
    """Resizes a frame, uint8 [H, W, 3], so that its short side is at most `short_side` pixels; it is never enlarged.

    Both sides become multiples of `multiple`.
    """
    from torchvision.transforms.v2 import functional

    height, width = image.shape[:2]
    scale = min(short_side / min(height, width), 1)
    size = [max(round(side * scale / multiple), 1) * multiple for side in (height, width)]
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    return functional.resize(pixels, size, antialias=True).permute(1, 2, 0).contiguous().numpy()
