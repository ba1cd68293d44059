import numpy as np
import pytest
from support.videos import gray_levels, write_video

pytest.importorskip("starlette", reason="the page needs starlette")


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """Three seconds of noise that moves, then three of other noise: 320 x 180."""
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(2):
        noise = generator.integers(0, 256, (12, 20, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        frames += [np.roll(noise, k, 1) for k in range(75)]
    return write_video(tmp_path_factory.mktemp("page") / "two noises.mp4", np.stack(frames))


@pytest.fixture
def gray(tmp_path):
    return write_video(tmp_path / "gray.mp4", gray_levels(50))
