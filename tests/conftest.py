import os
from pathlib import Path

import numpy as np
import pytest
import torch

import vie_models as vie

REFERENCE = Path(__file__).parent / "reference"
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the caches of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clips_folder():
    """Real videos, good and broken, that are not ours to carry."""
    folder = os.environ.get("VIE_TEST_DATA")
    if not folder:
        pytest.skip("VIE_TEST_DATA is not set: it names a folder with clips/ of real videos")
    return Path(folder) / "clips"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """24 short videos of coloured noise, in lists of 20 to train on and 4 to validate on; labels are their colours."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    for i in range(24):
        frames = generator.integers(0, 128, (18 + i, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        frames[..., i % 3] += 100
        write_video(folder / f"{i}.mp4", frames)
    lines = [f"{i}.mp4 {18 + i} {i % 3}\n" for i in range(24)]
    (folder / "train").write_text("".join(lines[:20]))
    (folder / "val").write_text("".join(lines[20:]))
    return folder


def reference_clip(spec: vie.ClipSpec, seed: int, frames: bool = False) -> torch.Tensor:
    """The input behind the reference activations: [2, 3, T, 112, 112], or [2, 3, 112, 112] for single frames."""
    shape = [2, 112, 112, 3] if frames else [2, spec.num_frames, 112, 112, 3]
    pixels = np.random.default_rng([7, seed]).integers(0, 256, shape, dtype=np.uint8)
    x = (torch.from_numpy(pixels) / 255 - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    return x.movedim(-1, 1)


def small_clip(model: vie.Encoder, batch: int = 2, size: int = 48) -> torch.Tensor:
    return torch.randn(batch, 3, model.clip_spec.num_frames, size, size)


def write_video(path: Path, frames: np.ndarray, rate: int = 25, codec: str = "mpeg4") -> Path:
    """Encodes uint8 [T, H, W, 3]."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        if codec == "libx264":
            stream.options = {"x264-params": "mbtree=0:threads=1"}  # else not the same bytes every time
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def grey_levels(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A video in which frame k is a plain grey of level 5 k + 10, modulo 240: a frame's number can be read from it."""
    levels = (5 * np.arange(num_frames) + 10) % 240
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).astype(np.uint8)


def embed(model: vie.Encoder, clip: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(clip)


def flip(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
