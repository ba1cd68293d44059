"""Renders videos to train on: moving, textured objects with known factors.

    python -m reproduce.worlds.moving_textures OUT [--videos 2000] [--seed 0] [--workers 2]

There are forty objects (8 shapes x 5 textures), two cluttered backgrounds and twelve motions. Mirroring a video does not change
its motion. A scene is an object with its place, size, angle, brightness and background. Each scene is filmed once with each
motion, so telling videos apart needs both appearance and motion. A single frame does not reveal the motion: in any frame, the
object's place, size, angle and brightness have nearly the same distribution for all motions. Camera shake, speed and phase
vary.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vie_models.datasets.encode import write_mp4
from vie_models.datasets.lists import CLASSES
from vie_models.files import replacing
from vie_models.processes import map_in_processes

SIZE, FRAMES, FPS = 80, 150, 25
BACKGROUNDS = 2
REACH = 0.5
"""Largest distance of an object from the middle. The unit is half the picture's side."""
SMALLEST, LARGEST = 0.28, 0.56
"""Smallest and largest radius of an object, in the same unit."""

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]
Color = tuple[int, int, int]

SHAPES: dict[str, Field] = {  # negative inside the shape; coordinates in units of the object's radius
    "disc": lambda u, v: np.hypot(u, v) - 0.9,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) - 0.75,
    "triangle": lambda u, v: np.maximum(abs(u) * 0.87 + v * 0.5, -v) - 0.5,
    "star": lambda u, v: np.hypot(u, v) - 0.62 - 0.33 * np.cos(5 * np.arctan2(u, v)),
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.65) - 0.27,
    "cross": lambda u, v: np.minimum(np.maximum(abs(u) - 0.9, abs(v) - 0.3), np.maximum(abs(u) - 0.3, abs(v) - 0.9)),
    "bar": lambda u, v: np.maximum(abs(u) - 0.95, abs(v) - 0.35),
    "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.9, 0.65 - np.hypot(u - 0.5, v)),
}
TEXTURES: dict[str, tuple[Field, Color, Color]] = {  # positive: first color; negative: second color
    "stripes": (lambda u, v: np.sin(9 * u), (230, 60, 50), (250, 220, 200)),
    "checks": (lambda u, v: np.sin(7 * u) * np.sin(7 * v), (40, 90, 220), (220, 230, 250)),
    "dots": (lambda u, v: np.cos(11 * u) + np.cos(11 * v) - 0.7, (250, 240, 120), (40, 110, 60)),
    "halves": (lambda u, v: u, (240, 150, 40), (70, 40, 120)),
    "waves": (lambda u, v: np.sin(8 * v + 2.5 * np.sin(5 * u)), (60, 200, 190), (90, 30, 30)),
}
OBJECTS = [f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES]
MOTIONS = "across up-down orbit spin-slow spin-fast approach recede pulse bounce accelerate blink still".split()  # noqa: SIM905


@dataclasses.dataclass(frozen=True)
class Factors:
    """The factors that a video is rendered from."""

    thing: int
    motion: int
    background: int
    scene: int
    """Seed for the object's place, size, angle and brightness."""
    seed: int
    """Seed for everything else: speed, phase and camera shake."""


@dataclasses.dataclass
class Path2D:
    """Place, radius, angle (radians) and contrast of the object in each frame: arrays [FRAMES]."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    contrast: np.ndarray


def _triangle(phase: np.ndarray) -> np.ndarray:
    """Returns a triangle wave between 0 and 1, with period 1."""
    return np.abs((phase % 1) * 2 - 1)


def trajectory(motion: str, scene: np.random.Generator, draws: np.random.Generator) -> Path2D:
    """Returns how an object moves. In a random frame, place, radius, angle and contrast hardly depend on the motion."""
    t = np.arange(FRAMES) / FPS
    ones = np.ones(FRAMES)
    radius, direction = REACH * np.sqrt(scene.random()), scene.uniform(0, 2 * np.pi)
    x, y = radius * np.cos(direction) * ones, radius * np.sin(direction) * ones
    size = scene.random() * ones  # from SMALLEST to LARGEST, on a log scale
    angle = scene.uniform(0, 2 * np.pi) * ones
    bright = scene.integers(2) * ones
    turn = draws.choice([-1, 1])
    begin, phase, speed = draws.random(), draws.random(), draws.uniform(0.85, 1.2)
    half_x, half_y = np.sqrt(REACH**2 - y[0] ** 2), np.sqrt(REACH**2 - x[0] ** 2)  # half the chord through that place
    if motion == "across":
        x = half_x * (2 * _triangle(phase + 0.8 * speed * t) - 1)
    elif motion == "up-down":
        y = half_y * (2 * _triangle(phase + 0.8 * speed * t) - 1)
    elif motion == "accelerate":
        run_up = (t + 3 * phase) % 3
        x = half_x * (2 * _triangle(begin + speed * (0.15 * run_up + 0.45 * run_up**2)) - 1)
    elif motion == "bounce":
        fall = 2 * _triangle(phase + 1.1 * speed * t) - 1
        y = turn * half_y * (2 * fall**2 - 1)  # bounces on the floor or on the ceiling
    elif motion == "orbit":
        turns = direction + turn * 2 * np.pi * 0.8 * speed * t
        around = 0.55 * REACH
        x, y = 0.7 * x + around * np.cos(turns), 0.7 * y + around * np.sin(turns)
    elif motion in ("spin-slow", "spin-fast"):
        angle = angle + turn * 2 * np.pi * speed * t * (0.25 if motion == "spin-slow" else 1.1)
    elif motion in ("approach", "recede"):
        near = (phase + t / 3) % 1
        size = near if motion == "approach" else 1 - near
    elif motion == "pulse":
        size = _triangle(phase + 1.0 * speed * t)
    elif motion == "blink":
        bright = (_triangle(phase + 2.5 * speed * t) > 0.5).astype(float)
    return Path2D(x, y, SMALLEST * (LARGEST / SMALLEST) ** size, angle, 0.45 + 0.55 * bright)


@functools.cache
def background(number: int) -> np.ndarray:
    """Returns a cluttered background, float32 [2 SIZE, 2 SIZE, 3]. A number always gives the same one."""
    draws = np.random.default_rng([20, number])
    side = 2 * SIZE
    v, u = np.mgrid[0:side, 0:side].astype(np.float32)
    picture = np.broadcast_to(_muted(draws), (side, side, 3)).astype(np.float32)
    for _ in range(60):
        x, y, size = draws.uniform(0, side), draws.uniform(0, side), draws.uniform(4, 22)
        turn = draws.uniform(0, np.pi)
        a, b = (u - x) * np.cos(turn) + (v - y) * np.sin(turn), (v - y) * np.cos(turn) - (u - x) * np.sin(turn)
        if draws.random() < 0.5:
            inside = np.hypot(a, b) < size
        else:
            inside = (abs(a) < size) & (abs(b) < size * draws.uniform(0.2, 1))
        picture[inside] = _muted(draws)
    return picture


def _muted(draws: np.random.Generator) -> np.ndarray:
    """Returns a random color, half gray."""
    color = draws.uniform(40, 210, 3)
    return (color + color.mean()) / 2


def render(factors: Factors) -> np.ndarray:
    """Renders a video, uint8 [FRAMES, SIZE, SIZE, 3]."""
    scene, draws = np.random.default_rng([factors.scene, 5]), np.random.default_rng([factors.seed, 7])
    path = trajectory(MOTIONS[factors.motion], scene, draws)
    shape = SHAPES[OBJECTS[factors.thing].split()[1]]
    texture, first, second = TEXTURES[OBJECTS[factors.thing].split()[0]]
    corner = SIZE // 2 + scene.integers(-4, 5, 2)
    shake = _shake(draws)
    noise = np.random.default_rng(9).normal(0, 2, (8, SIZE, SIZE, 1)).astype(np.float32)  # the same in all videos
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / (SIZE / 2) - 1
    frames = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    for k in range(FRAMES):
        top, left = corner + shake[k].round().astype(int)
        picture = background(factors.background)[top : top + SIZE, left : left + SIZE]
        dx, dy = axis[None, :] - path.x[k] + shake[k, 1] * 2 / SIZE, axis[:, None] - path.y[k] + shake[k, 0] * 2 / SIZE
        cos, sin = np.cos(path.angle[k]) / path.radius[k], np.sin(path.angle[k]) / path.radius[k]
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        edge = path.radius[k] * SIZE / 2  # pixels in the unit of u and v
        cover = np.clip(0.5 - shape(u, v) * edge, 0, 1)[..., None] * path.contrast[k]
        share = np.clip(0.5 + texture(u, v) * edge / 8, 0, 1)[..., None]
        color = share * np.array(first, np.float32) + (1 - share) * np.array(second, np.float32)
        frames[k] = np.clip(picture * (1 - cover) + color * cover + noise[k % 8], 0, 255).round()
    return frames


def _shake(draws: np.random.Generator) -> np.ndarray:
    """Returns the camera's offset in pixels, [FRAMES, 2]. Frames are independent: a camera path would identify its video."""
    return draws.normal(0, 0.7, (FRAMES, 2)).clip(-2, 2)


# --- a set of videos -----------------------------------------------------------------------------------------------------

HELD_OUT = [k for k in range(len(OBJECTS)) if (k // len(TEXTURES) + k % len(TEXTURES)) % len(TEXTURES) == 0]
"""Eight objects that no training video shows. Together they have every shape and every texture."""


def draw_factors(videos: int, seed: int, objects: list[int]) -> list[Factors]:
    """Draws the factors of `videos` videos: scene after scene, each with all motions.

    All objects occur equally often, except that the last round of objects may be incomplete.
    """
    draws = np.random.default_rng([seed, 11])
    found: list[Factors] = []
    things: list[int] = []
    while len(found) < videos:
        things = things or draws.permutation(objects).tolist()
        thing, background, scene = things.pop(), int(draws.integers(BACKGROUNDS)), int(draws.integers(2**62))
        motions = draws.permutation(len(MOTIONS)).tolist()
        found += [Factors(thing, motion, background, scene, int(draws.integers(2**62))) for motion in motions]
    return found[:videos]


def draw_splits(videos: int, seed: int = 0) -> dict[str, list[Factors]]:
    """Returns what `make_videos` renders: the factors of the train, val and held_out videos, in the order of their numbers.

    Raises:
        ValueError: there are fewer than 4 videos.
    """
    if videos < 4:
        raise ValueError(f"videos must be at least 4, got {videos}")
    known = [k for k in range(len(OBJECTS)) if k not in HELD_OUT]
    return {
        "train": draw_factors(videos, 3 * seed, known),
        "val": draw_factors(videos // 2, 3 * seed + 1, known),
        "held_out": draw_factors(videos // 2, 3 * seed + 2, HELD_OUT),
    }


def make_videos(out: Path, videos: int, seed: int = 0, *, workers: int = 2, progress: bool = False) -> dict[str, int]:
    """Renders `videos` training videos, half as many test videos of the same objects, and as many again of held-out objects.

        OUT/  videos/<split>/000000.mp4, factors.csv, object/ and motion/ with train.txt, val.txt, held_out.txt, classes.txt

    Half of the held-out objects' videos are listed in object/held_out_known.txt, to learn the names of these objects from. The
    frames of a video depend only on `seed`, its split and its number. Existing videos are not rendered again.

    Args:
        out: folder to write.
        videos: number of training videos, at least 4.
        seed: seed for all factors.
        workers: number of processes that render.
        progress: show a progress bar, or a line a minute where there is no terminal.

    Returns:
        Number of videos in each split.

    Raises:
        ValueError: `videos` is less than 4.
    """
    splits = draw_splits(videos, seed)
    jobs = []
    for split, found in splits.items():
        (out / "videos" / split).mkdir(parents=True, exist_ok=True)
        jobs += [(out / "videos" / split / f"{i:06d}.mp4", factors) for i, factors in enumerate(found)]
    for _ in map_in_processes(_write, jobs, workers, progress=progress):
        pass
    with replacing(out / "factors.csv") as file, file.open("w", newline="") as content:
        table = csv.writer(content)
        table.writerow(["path", "split", "object", "motion", "background", "scene", "seed"])
        for path, factors in jobs:
            where, split = path.relative_to(out).as_posix(), path.parent.name
            thing, motion = OBJECTS[factors.thing], MOTIONS[factors.motion]
            table.writerow([where, split, thing, motion, factors.background, factors.scene, factors.seed])
    labels: dict[str, tuple[list[str], Callable[[Factors], int]]] = {
        "object": (OBJECTS, lambda factors: factors.thing),
        "motion": (MOTIONS, lambda factors: factors.motion),
    }
    for label, (names, of) in labels.items():
        (out / label).mkdir(exist_ok=True)
        lists = {
            split: [f"videos/{split}/{i:06d}.mp4 {FRAMES} {of(f)}\n" for i, f in enumerate(v)] for split, v in splits.items()
        }
        if label == "object":
            half = len(lists["held_out"]) // 2
            lists |= {"held_out_known": lists["held_out"][:half], "held_out": lists["held_out"][half:]}
        for split, lines in lists.items():
            with replacing(out / label / f"{split}.txt") as file:
                file.write_text("".join(lines))
        with replacing(out / label / CLASSES) as file:
            file.write_text("".join(f"{name}\n" for name in names))
    return {split: len(found) for split, found in splits.items()}


def _write(job: tuple[Path, Factors]) -> None:
    path, factors = job
    if not path.exists():
        with replacing(path) as made:
            write_mp4(made, render(factors), FPS, crf=23)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write to; paths in the lists are relative to it")
    parser.add_argument("--videos", type=int, default=2000, help="number of training videos")
    parser.add_argument("--seed", type=int, default=0, help="decides what the videos show")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    options = parser.parse_args()
    sizes = make_videos(options.out, options.videos, options.seed, workers=options.workers, progress=True)
    counts = ", ".join(f"{split}: {size}" for split, size in sizes.items())
    print(f"{counts} videos; lists in {options.out / 'object'} and {options.out / 'motion'}; use --root {options.out}")


if __name__ == "__main__":
    main()
