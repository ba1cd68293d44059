"""A rendered video for visitors who have none: objects and motions come back, in changing company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.encode import write_mp4
from ..datasets.moving_textures import FPS, SHAPES, TEXTURES, background, trajectory
from ..files import replacing

SHOTS = (
    ("stripes star", "across"), ("waves disc", "pulse"), ("dots cross", "spin-fast"),
    ("stripes star", "pulse"), ("waves disc", "spin-fast"), ("dots cross", "across"),
)  # fmt: skip
"""Object and motion of each shot."""
SECONDS, HEIGHT, WIDTH = 4, 240, 320
LARGER = 1.5
"""Radius of an object, in those of `moving_textures`."""
NAME = "rendered-example.mp4"


def write_example(folder: Path) -> Path:
    """Writes the video to `folder`, unless it is there, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAME
    if not target.exists():
        with replacing(target) as made:
            write_mp4(made, (frame for number in range(len(SHOTS)) for frame in shot(number)), FPS, crf=20)
    return target


def shot(number: int) -> np.ndarray:
    """Renders a shot, uint8 [T, HEIGHT, WIDTH, 3]: an object of `moving_textures`, larger than there."""
    thing, motion = SHOTS[number]
    texture_name, shape_name = thing.split()
    shape, (texture, first, second) = SHAPES[shape_name], TEXTURES[texture_name]
    scene, draws = np.random.default_rng([sum(map(ord, thing)), 5]), np.random.default_rng([number, 7])
    path = trajectory(motion, scene, draws)
    behind = wall(list(dict.fromkeys(name for name, _ in SHOTS)).index(thing))
    y = (np.arange(HEIGHT, dtype=np.float32)[:, None] + 0.5) / (HEIGHT / 2) - 1
    x = (np.arange(WIDTH, dtype=np.float32)[None, :] + 0.5) / (HEIGHT / 2) - WIDTH / HEIGHT
    frames = np.empty((SECONDS * FPS, HEIGHT, WIDTH, 3), np.uint8)
    for k in range(len(frames)):
        radius = LARGER * path.radius[k]
        cos, sin = np.cos(path.angle[k]) / radius, np.sin(path.angle[k]) / radius
        dx, dy = x - path.x[k], y - path.y[k]
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        edge = radius * HEIGHT / 2  # pixels in the unit of u and v
        cover = np.clip(0.5 - shape(u, v) * edge, 0, 1)[..., None] * path.contrast[k]
        share = np.clip(0.5 + texture(u, v) * edge / 8, 0, 1)[..., None]
        colour = share * np.array(first, np.float32) + (1 - share) * np.array(second, np.float32)
        frames[k] = np.clip(behind * (1 - cover) + colour * cover, 0, 255).round()
    return frames


def wall(number: int) -> np.ndarray:
    """Returns the background of an object, float32 [HEIGHT, WIDTH, 3]."""
    side = WIDTH + HEIGHT // 2
    small = Image.fromarray(background(number).clip(0, 255).astype(np.uint8))
    large = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    top, left = (side - HEIGHT) // 2, (side - WIDTH) // 2
    return large[top : top + HEIGHT, left : left + WIDTH]
