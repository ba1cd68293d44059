"""Draws videos that look different from one another."""

import numpy as np
from PIL import Image


def scene(seed, frames=90, shift=2, size=(96, 128)):
    """A smooth colored pattern that moves to and fro: uint8 [T, H, W, 3]. Every seed looks different."""
    draws = np.random.default_rng(seed)
    cells = int(draws.integers(2, 9))
    small = draws.integers(0, 256, (cells, cells, 3), np.uint8)
    wide = np.asarray(Image.fromarray(small).resize((2 * size[1], size[0]), Image.Resampling.BICUBIC))
    return np.stack([np.roll(wide, round(8 * np.sin(shift * t / 8)), axis=1)[:, : size[1]] for t in range(frames)])
