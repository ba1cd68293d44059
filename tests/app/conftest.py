import numpy as np
import pytest
from support.videos import write_video


@pytest.fixture(scope="session")
def two_scenes(tmp_path_factory):
    """A video of 12 s: coarse noise, and from 6 s on stripes that move."""
    generator = np.random.default_rng(0)
    noise = np.broadcast_to(generator.integers(0, 256, (1, 9, 12, 3), np.uint8), (150, 9, 12, 3)).repeat(8, 1).repeat(8, 2)
    phase = (np.arange(96)[None, :] // 6 + np.arange(150)[:, None]) % 2
    stripes = np.broadcast_to((phase * 200).astype(np.uint8)[:, None, :, None], (150, 72, 96, 3))
    return write_video(tmp_path_factory.mktemp("scenes") / "two scenes.mp4", np.concatenate([noise, stripes]))


@pytest.fixture(scope="session")
def brief(tmp_path_factory):
    """A video of 0.4 s, shorter than any clip of several frames."""
    frames = np.random.default_rng(1).integers(0, 256, (10, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    return write_video(tmp_path_factory.mktemp("brief") / "brief.mp4", frames)
