"""Makes videos for tests."""

from pathlib import Path

import numpy as np
import pytest


def write_video(path: Path, frames: np.ndarray, rate: int = 25, codec: str = "mpeg4") -> Path:
    """Encodes frames, uint8 [T, H, W, 3], to a video file and returns its path."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        if codec == "libx264":
            stream.options = {"x264-params": "mbtree=0:threads=1"}  # for the same bytes every time
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def gray_levels(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Returns a video whose frame k is plain gray of level (5 k + 10) mod 240, so that a frame shows its index."""
    levels = (5 * np.arange(num_frames) + 10) % 240
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).astype(np.uint8)


def write_list(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
