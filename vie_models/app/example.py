"""A rendered video for visitors who have none: objects and motions come back, in changing company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets.encode import write_mp4
from ..datasets.moving_textures import FPS, SHAPES, TEXTURES, background, trajectory
from ..files import replacing

STAR, DISC, CROSS = "stripes star", "waves disc", "dots cross"
EXAMPLES = (
    ((STAR, "across"), (DISC, "pulse"), (CROSS, "spin-fast"), (STAR, "pulse"), (DISC, "spin-fast"), (CROSS, "across")),
    ((DISC, "across"), (CROSS, "pulse"), (DISC, "spin-fast"), (STAR, "across"), (CROSS, "spin-fast"), (STAR, "pulse")),
)
"""Object and motion of each shot of each example."""
SECONDS, HEIGHT, WIDTH = 4, 240, 320
LARGER = 1.5
"""Radius of an object, in those of `moving_textures`."""
NAMES = ("rendered-example.mp4", "another-rendered-example.mp4")


def write_example(folder: Path, number: int = 0) -> Path:
    """Writes an example to `folder`, unless it is there, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAMES[number]
    if not target.exists():
        shots = enumerate(EXAMPLES[number])
        with replacing(target) as made:
            write_mp4(made, (frame for seed, (thing, motion) in shots for frame in shot(thing, motion, seed)), FPS, crf=20)
    return target


def shot(thing: str, motion: str, seed: int) -> np.ndarray:
    """Renders a shot, uint8 [T, HEIGHT, WIDTH, 3]: an object of `moving_textures`, larger than there, before its own wall."""
    texture_name, shape_name = thing.split()
    shape, (texture, first, second) = SHAPES[shape_name], TEXTURES[texture_name]
    scene, draws = np.random.default_rng([sum(map(ord, thing)), 5]), np.random.default_rng([seed, 7])
    path = trajectory(motion, scene, draws)
    behind = wall((STAR, DISC, CROSS).index(thing))
    y = (np.arange(HEIGHT, dtype=np.float32)[:, None] + 0.5) / (HEIGHT / 2) - 1
    x = (np.arange(WIDTH, dtype=np.float32)[None, :] + 0.5) / (HEIGHT / 2) - WIDTH / HEIGHT
    frames = np.empty((SECONDS * FPS, HEIGHT, WIDTH, 3), np.uint8)
    frames[:] = behind.round()
    for k in range(len(frames)):
        radius = LARGER * path.radius[k]
        cos, sin = np.cos(path.angle[k]) / radius, np.sin(path.angle[k]) / radius
        here = _span(y[:, 0] - path.y[k], radius), _span(x[0] - path.x[k], radius)
        dx, dy = x[:, here[1]] - path.x[k], y[here[0]] - path.y[k]
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        edge = radius * HEIGHT / 2  # pixels in the unit of u and v
        cover = np.clip(0.5 - shape(u, v) * edge, 0, 1)[..., None] * path.contrast[k]
        share = np.clip(0.5 + texture(u, v) * edge / 8, 0, 1)[..., None]
        color = share * np.array(first, np.float32) + (1 - share) * np.array(second, np.float32)
        frames[k][here] = (behind[here] * (1 - cover) + color * cover).round()
    return frames


def _span(distances: np.ndarray, radius: float) -> slice:
    """Returns the rows or columns that an object of this radius may cover: those less than 1.2 radii from its middle."""
    near = np.flatnonzero(np.abs(distances) < 1.2 * radius)
    return slice(near[0], near[-1] + 1) if len(near) else slice(0)


def wall(number: int) -> np.ndarray:
    """Returns the background of an object, float32 [HEIGHT, WIDTH, 3]."""
    side = WIDTH + HEIGHT // 2
    small = Image.fromarray(background(number).clip(0, 255).astype(np.uint8))
    large = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    top, left = (side - HEIGHT) // 2, (side - WIDTH) // 2
    return large[top : top + HEIGHT, left : left + WIDTH]
