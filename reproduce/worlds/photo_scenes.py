"""Videos rendered from photographs: real texture, and motion that is made, without any real video.

After Yu, Chen and Gandelsman, "Learning Video Representations without Natural Videos", arXiv 2410.24213. Levels are a
progression, so that the worth of each step can be measured. A level shows the scene of the level below it, with more:

    0  a still crop of the photograph
    1  the camera pans and zooms at constant speed
    2  the camera accelerates, turns and shakes
    3  cut-outs of one to three other photographs move in front, each on a path of its own
    4  the cut-outs change their shape and light
    5  motion blur, which grows with speed

A video is a function of the seed, the number of its photograph and its own number.

T frames, S side of a frame; H height and W width of a photograph; N moments in time.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vie_models.video.frames import GRID_FPS

LEVELS = 6
_DIRECTIONS = 256  # of an outline
_AT_ONCE = 15  # frames: they stay in the cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhotoMotion:
    """What is rendered."""

    videos: int = 1
    """Videos per photograph."""
    frames: int = 75
    """Frames per video, 25 per second. A path lasts as long as the video, so in a short one all is quick."""
    size: int = 91
    """Side of the square frames in pixels."""
    level: int = 5
    """0 still crops; 1 pan and zoom; 2 acceleration, turns and shake; 3 moving cut-outs; 4 that change; 5 motion blur."""
    seed: int = 0
    """Seed for everything random."""

    def __post_init__(self) -> None:
        for name, least in (("videos", 1), ("frames", 2), ("size", 8), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.level < LEVELS:
            raise ValueError(f"level must be from 0 to {LEVELS - 1}, got {self.level}")


# --- what a video shows --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Track:
    """Values that change with time: a curve, and waves on it."""

    keys: np.ndarray
    """float64 [K, D]: control points of a Bezier curve. One rests, two move at constant speed, and three accelerate."""
    waves: np.ndarray | None = None
    """float64 [waves, 2 + D]: cycles per video, phase in radians, amplitudes."""

    def at(self, time: np.ndarray) -> np.ndarray:
        """Values [N, D] at `time` [N], from 0 to 1."""
        points = list(self.keys[:, None])
        while len(points) > 1:
            points = [p + (q - p) * time[:, None] for p, q in itertools.pairwise(points)]
        return points[0] + self.swing(time)

    def swing(self, time: np.ndarray) -> np.ndarray:
        """What the waves add, [N, D]."""
        if self.waves is None:
            return np.zeros((len(time), self.keys.shape[1]))
        phase = 2 * np.pi * time[:, None] * self.waves[:, 0] + self.waves[:, 1]
        return (np.sin(phase)[..., None] * self.waves[:, 2:]).sum(1)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A piece of another photograph that moves."""

    source: int
    """Number of the photograph."""
    crop: tuple[float, float, float]
    """Left and top of the square that is cut out, from 0 to 1, as shares of the places that it can have; its side as a share of
    the photograph's short side."""
    outline: np.ndarray
    """float64 [directions]: radius in each direction, at most 0.95 of half the square's side."""
    softness: float
    """Width of its edge in pixels."""
    track: Track
    """x, y and logarithm of the radius, in sides of a frame, and angle in radians."""
    bend: Track | None = None
    """What is added to the identity matrix by row, to make it an affine map of the piece's coordinates."""
    ripple: tuple[float, float, float, float] = (0, 0, 0, 0)
    """A wave through the piece: amplitude in radii, cycles per radius, cycles per video, phase in radians."""
    light: Track | None = None
    """Logarithm of the gain of red, green and blue."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a video shows."""

    camera: Track
    """x and y of the view's middle, from 0 to 1, as shares of the places where the view is inside; logarithm of its side as a
    share of the photograph's short side; angle in radians. Waves of x and y are in sides of the view."""
    cutouts: tuple[Cutout, ...] = ()
    """From back to front."""
    shutter: float = 0.0
    """How long the shutter is open, as a share of the time from frame to frame."""


def draw(settings: PhotoMotion, photo: int, video: int, others: Sequence[int] | np.ndarray = ()) -> Scene:
    """Draws what a video shows.

    Args:
        settings: level, seed, and length of the video.
        photo: number of the photograph that it is rendered from.
        video: number of the video among those of the photograph.
        others: numbers of the photographs that cut-outs may come from; `photo` itself is never taken.

    Raises:
        ValueError: the level needs cut-outs, and there is no other photograph.
    """
    level, seconds = settings.level, settings.frames / GRID_FPS
    part = functools.partial(_draws, settings.seed, photo, video)
    draws = part(0)
    keys = np.column_stack([draws.random((3, 2)), draws.uniform(np.log(0.45), np.log(0.95), 3), draws.uniform(-0.35, 0.35, 3)])
    if level < 2:
        keys = keys[:: 2 if level else 3] * (1, 1, 1, 0)
    camera = Track(keys, _shake(draws, seconds) if level >= 2 else None)
    if level < 3:
        return Scene(camera)
    draws = part(1)
    sources = np.asarray(others)[np.asarray(others) != photo]
    if not len(sources):
        raise ValueError(
            f"level {level} cuts things out of other photographs, and there is none: give at least 2, or a level < 3"
        )
    count = min(int(draws.integers(1, 4)), len(sources))
    chosen = draws.choice(len(sources), count, replace=False)
    cutouts = [_cutout(part(2 + k), int(sources[number])) for k, number in enumerate(chosen)]
    if level >= 4:
        cutouts = [_changing(cutout, part(5 + k), seconds) for k, cutout in enumerate(cutouts)]
    return Scene(camera, tuple(cutouts), float(part(8).uniform(0.4, 1)) if level >= 5 else 0.0)


def _draws(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(numbers)


def _shake(draws: np.random.Generator, seconds: float) -> np.ndarray:
    """Waves of a camera in a hand; quick ones are small."""
    strength, hertz = draws.uniform(0, 0.02), draws.uniform(0.7, 7, 4)
    amplitudes = draws.normal(0, 1, (4, 4)) * (1, 1, 0.5, 0.7) * strength / np.sqrt(hertz[:, None])
    return np.column_stack([hertz * seconds, draws.uniform(0, 2 * np.pi, 4), amplitudes])


def _cutout(draws: np.random.Generator, source: int) -> Cutout:
    """A piece of a random shape, on a random path."""
    place = draws.uniform(-0.1, 1.1, (3, 2))
    place[1] = draws.uniform(0.1, 0.9, 2)  # it passes through the picture
    radius = np.log(draws.uniform(0.12, 0.34)) + draws.uniform(-0.35, 0.35, 3)
    angle = draws.uniform(0, 2 * np.pi) + np.cumsum(draws.normal(0, 0.8, 3))
    crop = (float(draws.random()), float(draws.random()), float(draws.uniform(0.4, 1)))
    track = Track(np.column_stack([place, radius, angle]))
    return Cutout(source, crop, _outline(draws), float(draws.uniform(1, 3)), track)


def _outline(draws: np.random.Generator) -> np.ndarray:
    """An ellipse, a blob or a polygon around the middle."""
    angle = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    kind = draws.integers(3)
    if kind == 0:
        radius = 1 / np.hypot(np.cos(angle), np.sin(angle) / draws.uniform(0.45, 1))
    elif kind == 1:
        waves = np.arange(2, 7)[:, None]
        phases = draws.uniform(0, 2 * np.pi, (5, 1))
        radius = np.exp((draws.normal(0, 0.45, (5, 1)) / waves * np.cos(waves * angle + phases)).sum(0))
    else:
        corners = draws.integers(3, 9)
        at = (np.arange(corners) + draws.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
        points = draws.uniform(0.55, 1, corners) * np.exp(1j * at)
        edges = (points + np.linspace(0, 1, 64, endpoint=False)[:, None] * (np.roll(points, -1) - points)).T.ravel()
        radius = np.interp(angle, np.angle(edges) % (2 * np.pi), np.abs(edges), period=2 * np.pi)
    return 0.95 * radius / radius.max()


def _changing(cutout: Cutout, draws: np.random.Generator, seconds: float) -> Cutout:
    """The same piece, which now bends, ripples and changes its light."""
    hertz, phases = draws.uniform(0.2, 1.2, 2), draws.uniform(0, 2 * np.pi, 2)
    waves = np.column_stack([hertz * seconds, phases, draws.uniform(-0.14, 0.14, (2, 4))])
    light = draws.normal(0, 0.3, (3, 1)) + draws.normal(0, 0.1, (3, 3))
    amplitude, cycles, speed, phase = draws.uniform((0, 0.4, -1.5, 0), (0.1, 1, 1.5, 2 * np.pi)).tolist()
    bend = Track(draws.uniform(-0.1, 0.1, (3, 4)), waves)
    return dataclasses.replace(cutout, bend=bend, ripple=(amplitude, cycles, speed * seconds, phase), light=Track(light))


# --- frames --------------------------------------------------------------------------------------------------------------


def render(photo: np.ndarray, others: Sequence[np.ndarray], scene: Scene, frames: int = 75, size: int = 91) -> np.ndarray:
    """Renders a video.

    Args:
        photo: the photograph, uint8 [H, W, 3].
        others: the photographs of the scene's cut-outs, in their order, uint8 [H, W, 3] each.
        scene: what to show.
        frames: T.
        size: S.

    Returns:
        uint8 [T, S, S, 3].
    """
    step = 1 / max(frames - 1, 1)
    layers = [_cut_out(other, cutout, size) for other, cutout in zip(others, scene.cutouts, strict=True)]
    camera = _filmed(photo, scene.camera, size)
    moments = _moments(scene, step, size)
    times = np.arange(frames) * step
    if len(scene.camera.keys) == 1 and scene.camera.waves is None and not layers:
        times = times[:1]  # nothing moves
    video = torch.empty(len(times), size, size, 3, dtype=torch.uint8, device="cpu")
    exposed = scene.shutter * step * ((np.arange(moments) + 0.5) / moments - 0.5)  # moments around a frame's time

    def picture(at: np.ndarray) -> Tensor:
        seen = camera(at)
        for layer in layers:
            layer(seen, at)
        return seen

    for first in range(0, len(times), _AT_ONCE):
        begin, *more = (np.clip(times[first : first + _AT_ONCE] + offset, 0, 1) for offset in exposed)
        light = picture(begin)
        for at in more:
            light += picture(at)
        video[first : first + _AT_ONCE] = light.div_(moments).add_(0.5).clamp_(0, 255).permute(1, 2, 3, 0)
    return video.expand(frames, size, size, 3).contiguous().numpy()


def _moments(scene: Scene, step: float, size: int) -> int:
    """How many moments a frame is the mean of: about one per pixel of motion while the shutter is open."""
    if not scene.shutter:
        return 1
    time = np.arange(0, 1 + step, step)
    quickest, pieces = 0.0, [(cutout.track, size * np.exp(cutout.track.keys[:, 2].max())) for cutout in scene.cutouts]
    for track, radius in [(scene.camera, size / 2), *pieces]:
        change = np.abs(np.diff(track.at(time), axis=0))
        quickest = max(quickest, float((np.hypot(change[:, 0], change[:, 1]) * size + change[:, 2:].sum(1) * radius).max()))
    return int(np.clip(np.ceil(quickest * scene.shutter), 2, 8))


def _filmed(photo: np.ndarray, track: Track, size: int) -> Callable[[np.ndarray], Tensor]:
    """A function of moments [N] that gives what the camera sees: float32 [3, N, S, S]."""
    shape = np.array(photo.shape[1::-1])
    short = shape.min()
    smallest = np.exp(track.keys[:, 2].min()) * short / size  # pixels of the photograph per pixel of a frame
    pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    if smallest > 1:  # no detail that a frame is too coarse for
        small = [max(round(side / smallest), 1) for side in photo.shape[:2]]
        pixels = functional.interpolate(pixels, small, mode="bilinear", antialias=True)
    sway = 0 if track.waves is None else np.abs(track.waves[:, 2:4]).sum(0).max()
    turn = np.abs(track.keys[:, 3]).max()
    # Half the view, with room for its turns and shakes. A curve stays in the hull of its control points, and the view inside.
    half = np.exp(track.keys[:, 2]) * short / 2 * (np.cos(turn) + np.sin(turn) + 2 * sway)
    room = np.minimum(half[:, None], shape / 2)
    path = Track(np.column_stack([room + track.keys[:, :2] * (shape - 2 * room), track.keys[:, 2:]]))

    def film(at: np.ndarray) -> Tensor:
        middle, shaken = path.at(at), track.swing(at)
        side = np.exp(middle[:, 2] + shaken[:, 2]) * short
        x, y = (middle[:, :2] + shaken[:, :2] * side[:, None]).T
        angle = middle[:, 3] + shaken[:, 3]
        cos, sin = np.cos(angle) * side / 2, np.sin(angle) * side / 2
        grid = _grid(np.stack([cos, -sin, x]) / shape[0] * 2, np.stack([sin, cos, y]) / shape[1] * 2, size)
        # Where the view turns out of a corner, the photograph is mirrored.
        return _sampled(pixels, grid.sub_(1), "reflection")

    return film


def _cut_out(photo: np.ndarray, cutout: Cutout, size: int) -> Callable[[Tensor, np.ndarray], None]:
    """A function that lays the piece over pictures float32 [3, N, S, S] of moments [N]."""
    short = min(photo.shape[:2])
    side = max(round(cutout.crop[2] * short), 2)
    left, top = (round(share * (whole - side)) for share, whole in zip(cutout.crop, photo.shape[1::-1], strict=False))
    square = torch.from_numpy(photo[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
    widest = float(np.exp(cutout.track.keys[:, 2].max())) * size
    detail = max(round(2 * widest), 4)
    square = functional.interpolate(square, (detail, detail), mode="bilinear", antialias=True)
    v, u = (np.mgrid[0:detail, 0:detail] * 2 + 1) / detail - 1
    radius = np.interp(np.arctan2(v, u), np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS, cutout.outline, period=2 * np.pi)
    cover = np.clip((radius - np.hypot(u, v)) * widest / cutout.softness, 0, 1)
    piece = torch.cat([square, torch.from_numpy(cover)[None, None].float()], 1)

    def lay(pictures: Tensor, at: np.ndarray) -> None:
        x, y, radius, angle = cutout.track.at(at).T
        x, y, radius = x * size, y * size, np.exp(radius) * size
        turned = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
        bent = np.eye(2) + (cutout.bend.at(at).reshape(-1, 2, 2) if cutout.bend else 0)
        into = bent @ turned / radius[:, None, None]  # from pixels around its middle to its own coordinates
        reach = (0.95 + cutout.ripple[0]) / np.linalg.svd(into, compute_uv=False)[:, 1].min()
        window = 2 * int(np.ceil(reach)) + 2
        column, row = (np.floor(middle).astype(int) - window // 2 for middle in (x, y))
        offset = np.stack([column + window / 2 - x, row + window / 2 - y])  # from its middle to the middle of the window
        factors = np.concatenate([into * window / 2, (into * offset.T[:, None]).sum(2, keepdims=True)], 2)  # [N, 2, 3]
        grid = _grid(factors[:, 0].T, factors[:, 1].T, window)
        amplitude, cycles, speed, phase = cutout.ripple
        if amplitude:
            beat = torch.from_numpy(2 * np.pi * speed * at + phase).float()[:, None, None]
            grid = grid + amplitude * torch.sin(2 * np.pi * cycles * grid.flip(-1) + beat[..., None])
        shown = _sampled(piece, grid, "border")
        if cutout.light:
            shown[:3].mul_(torch.from_numpy(np.exp(cutout.light.at(at)).T).float()[..., None, None]).clamp_(max=255)
        for k, (i, j) in enumerate(zip(row.tolist(), column.tolist(), strict=True)):
            top, left, bottom, right = max(i, 0), max(j, 0), min(i + window, size), min(j + window, size)
            if top < bottom and left < right:
                seen = shown[:, k, top - i : bottom - i, left - j : right - j]
                pictures[:, k, top:bottom, left:right].lerp_(seen[:3], seen[3:])

    return lay


def _grid(x: np.ndarray, y: np.ndarray, side: int) -> Tensor:
    """Places to sample, float32 [N, side, side, 2]. `x` and `y` [3, N] are the factors of column and row, and what is added."""
    axis = (torch.arange(side, device="cpu") * 2 + 1) / side - 1
    grid = torch.empty(x.shape[1], side, side, 2, device="cpu")
    for k, factors in enumerate((x, y)):
        column, row, constant = torch.from_numpy(factors).float()[..., None, None]
        torch.add(column * axis, row * axis[:, None] + constant, out=grid[..., k])
    return grid


def _sampled(picture: Tensor, grid: Tensor, outside: str) -> Tensor:
    """[C, N, side, side]: one picture [1, C, H, W] at the places [N, side, side, 2]."""
    moments, side = grid.shape[:2]
    sampled = functional.grid_sample(picture, grid.view(1, moments * side, side, 2), padding_mode=outside, align_corners=False)
    return sampled.view(-1, moments, side, side)
