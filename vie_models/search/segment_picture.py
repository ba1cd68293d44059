"""Draws a segmentation: frames of each segment, novelty over time, and the similarity of all moments."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..colors import viridis
from .likeness import LEAST, random_cosines
from .pictures import GAP, TEXT, clock, fitting, letters, paste, save, thumbnails
from .segments import Segmentation

_SIDE = 420  # of a matrix
_FRAMES = 10  # in the strip
_CURVE = 90
_LINE = TEXT + 6
_MARK, _CALM = (214, 39, 40), (31, 119, 180)
_BARS = ((205, 218, 238), (238, 222, 196))
_TITLES = {"all": "all moments", "static": "appearance (static pathway)", "dynamic": "motion (dynamic pathway)"}


def draw_segments(found: Segmentation, path: str | os.PathLike[str], bank: np.ndarray | None = None) -> Path:
    """Writes a picture of a segmentation as a PNG and returns its path.

    From top to bottom, all over time: a strip of frames; a bar with the number of each segment; and novelty, with the
    boundaries as red lines. Below, how alike all moments are, for the whole embedding and for each pathway.

    Args:
        found: the segmentation.
        path: the file to write.
        bank: memory bank of the encoder, [N, D]. With it, the scale of likeness begins at the median of random pairs of its
            rows, and a line says what 99 % of them have. Default: it begins at the least likeness in the video.
    """
    matrices = {"all": found.similarity, **found.pathways}
    random = {} if bank is None else _random(bank, list(found.pathways))
    width = 3 * (_SIDE + GAP) + GAP
    left, right = GAP, width - GAP
    strip = (right - left) // _FRAMES
    tall = strip * 9 // 16
    height = GAP + _LINE + tall + _LINE + _LINE + _CURVE + _LINE + GAP + _LINE + _SIDE + _LINE * (2 if random else 1) + GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)

    def text(x: float, y: float, words: str, color: str | tuple[int, int, int] = "black") -> None:
        draw.text((x, y), words, fill=color, font=letters())

    def across(seconds: float) -> float:
        return left + (right - left) * seconds / max(found.duration, 1e-9)

    segments = found.segments
    about = f"{clock(found.duration)} long, {len(segments)} segment{'s' * (len(segments) > 1)}"
    text(left, GAP, fitting(f"{Path(found.path).name}: {about}. Red lines: boundaries", right - left))
    y = GAP + _LINE
    seconds = [(i + 0.5) / _FRAMES * found.duration for i in range(_FRAMES)]
    for i, picture in enumerate(thumbnails(found.path, seconds, tall)):
        paste(canvas, picture, (left + i * strip, y), (strip - 1, tall))
    y += tall
    for number, (start, end) in enumerate(segments, 1):
        draw.rectangle((across(start), y, across(end), y + _LINE - 3), fill=_BARS[number % 2])
        room = across(end) - across(start) - 6
        for words in (f"{number}: {clock(start)} to {clock(end)}", str(number)):
            if letters().getlength(words) <= room:
                text(across(start) + 4, y, words)
                break
    y += _LINE
    text(left, y, "novelty: how much more alike moments are before and after a time than across it")
    y += _LINE
    _draw_novelty(draw, found, across, y)
    for boundary in found.boundaries.tolist():
        draw.line((across(boundary), GAP + _LINE, across(boundary), y + _CURVE), fill=_MARK, width=2)
    y += _CURVE + 2
    last = -1.0
    for second in [0.0, *found.boundaries.tolist(), found.duration]:
        length = letters().getlength(clock(second))
        x = min(max(across(second) - length / 2, left), right - length)
        if x > last:
            text(x, y, clock(second))
            last = x + length + 6
    y += _LINE + GAP
    for i, (name, similarity) in enumerate(matrices.items()):
        _draw_matrix(canvas, found, similarity, _TITLES[name], (left + i * (_SIDE + GAP), y), random.get(name))
    return save(canvas, path)


def _random(bank: np.ndarray, pathways: list[str]) -> dict[str, np.ndarray]:
    """Returns `random_cosines` of the whole rows, and of each pathway's part of them, static before dynamic."""
    parts = np.split(bank, len(pathways), axis=1) if pathways else []
    return {"all": random_cosines(bank)} | {name: random_cosines(part) for name, part in zip(pathways, parts, strict=True)}


def _draw_novelty(draw: ImageDraw.ImageDraw, found: Segmentation, across: Callable[[float], float], y: int) -> None:
    top = 1.25 * max(float(found.novelty.max(initial=0)), found.threshold)
    half = (found.times[1] - found.times[0]) / 2 if len(found.times) > 1 else 0.0
    points = [
        (across(float(time - half)), y + _CURVE * (1 - max(float(value), 0) / top))
        for time, value in zip(found.times, found.novelty, strict=True)
    ]
    level = y + _CURVE * (1 - found.threshold / top)
    draw.rectangle((across(0), y, across(found.duration), y + _CURVE), outline=(200, 200, 200))
    for x in range(round(across(0)), round(across(found.duration)), 8):
        draw.line((x, level, x + 3, level), fill=(120, 120, 120))
    if len(points) > 1:
        draw.line(points, fill=_CALM, width=2)
    words = f"threshold {found.threshold:g}"
    box = (across(0) + 2, level - TEXT - 4, across(0) + 8 + letters().getlength(words), level - 2)
    draw.rectangle(box, fill="white")
    draw.text((across(0) + 4, level - TEXT - 4), words, fill=(90, 90, 90), font=letters())


def _draw_matrix(
    canvas: Image.Image,
    found: Segmentation,
    similarity: np.ndarray,
    title: str,
    place: tuple[int, int],
    random: np.ndarray | None,
) -> None:
    """Draws how alike all moments are: time runs to the right and down."""
    x, y = place
    draw = ImageDraw.Draw(canvas)
    low = round(float(similarity.min() if random is None else np.median(random)), 2) + 0.0  # not -0.00
    if random is not None:
        words = f"of random pairs, half are below {low:.2f}, and {LEAST:g} % below {np.quantile(random, LEAST / 100):.2f}"
        draw.text((x, y + _LINE + _SIDE + _LINE), words, fill=(90, 90, 90), font=letters())
    draw.text((x, y), f"{title}: cosine {low:.2f} (dark) to 1 (bright)", fill="black", font=letters())
    y += _LINE
    canvas.paste(_heat(similarity, low), (x, y))
    scale = _SIDE / max(len(found.times), 1)
    for boundary in found.boundaries:
        at = float(np.searchsorted(found.times, boundary)) * scale
        draw.line((x + at, y, x + at, y + _SIDE - 1), fill=_MARK, width=1)
        draw.line((x, y + at, x + _SIDE - 1, y + at), fill=_MARK, width=1)
    first, last = clock(float(found.times[0])), clock(float(found.times[-1]))
    draw.text((x, y + _SIDE + 2), f"{first}, time to the right and down", fill="black", font=letters())
    draw.text((x + _SIDE - letters().getlength(last), y + _SIDE + 2), last, fill="black", font=letters())


def _heat(similarity: np.ndarray, low: float) -> Image.Image:
    place = ((np.arange(_SIDE) + 0.5) * len(similarity) / _SIDE).astype(int)  # first, as colors take much room
    return Image.fromarray(viridis(similarity[np.ix_(place, place)], low, 1))
