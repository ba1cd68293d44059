"""Draws a segmentation: frames of each segment, novelty over time, and the similarity of all moments."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .pictures import GAP, TEXT, clock, letters, paste, save, thumbnails
from .segments import Segmentation

_SIDE = 420  # of a matrix
_FRAMES = 12  # in the strip
_CURVE = 70
_COLOURS = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)]  # viridis
_MARK = (214, 39, 40)


def draw_segments(found: Segmentation, path: str | os.PathLike[str]) -> Path:
    """Writes a picture of a segmentation as a PNG and returns its path.

    From top to bottom: a strip of frames over time; the novelty of each time, with the boundaries as red lines; and how alike
    all moments are, for the whole embedding and for each pathway.
    """
    names = {"all": found.similarity, **found.pathways}
    titles = {"all": "all moments", "static": "appearance (static pathway)", "dynamic": "motion (dynamic pathway)"}
    width = max(len(names) * (_SIDE + GAP) + GAP, 3 * (_SIDE + GAP) + GAP)
    line = TEXT + 6
    strip = (width - 2 * GAP) // _FRAMES
    height = 2 * line + strip * 9 // 16 + 2 * line + _CURVE + 2 * line + _SIDE + 2 * line + 2 * GAP
    whole = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(whole)

    def text(x: float, y: float, words: str) -> None:
        draw.text((x, y), words, fill="black", font=letters())

    left, right = GAP, width - GAP

    def across(seconds: float) -> float:
        return left + (right - left) * seconds / max(found.duration, 1e-9)

    count = len(found.segments)
    text(
        left,
        GAP,
        f"{Path(found.path).name}: {clock(found.duration)} long, {count} segment{'s' * (count > 1)}; red lines are boundaries",
    )
    y = GAP + line
    seconds = [(i + 0.5) / _FRAMES * found.duration for i in range(_FRAMES)]
    for i, picture in enumerate(thumbnails(found.path, seconds, strip)):
        paste(whole, picture, (left + i * strip, y), (strip - 1, strip * 9 // 16))
    y += strip * 9 // 16 + 4
    text(left, y, "novelty: how much more alike moments are before and after a time than across it")
    y += line
    top = max(float(found.novelty.max(initial=0)), 0.1)
    edges = found.times - (found.times[1] - found.times[0]) / 2 if len(found.times) > 1 else found.times
    points = [(across(float(t)), y + _CURVE * (1 - max(float(v), 0) / top)) for t, v in zip(edges, found.novelty, strict=True)]
    draw.rectangle((left, y, right, y + _CURVE), outline=(200, 200, 200))
    if len(points) > 1:
        draw.line(points, fill=(31, 119, 180), width=2)
    for boundary in found.boundaries:
        draw.line((across(boundary), GAP + line, across(boundary), y + _CURVE), fill=_MARK, width=2)
    y += _CURVE + 3
    end = -1.0
    for second in [0.0, *found.boundaries.tolist()]:
        if across(second) > end:
            text(across(second), y, clock(second))
            end = across(second) + letters().getlength(clock(second)) + 6
    y += 2 * line
    for i, (name, similarity) in enumerate(names.items()):
        x = left + i * (_SIDE + GAP)
        low = float(similarity.min())
        text(x, y - line, f"{titles[name]}: cosine {low:.2f} (dark) to 1 (bright)")
        whole.paste(_heat(similarity, low), (x, y))
        scale = _SIDE / max(len(found.times), 1)
        for boundary in found.boundaries:
            place = float(np.searchsorted(found.times, boundary)) * scale
            draw.line((x + place, y, x + place, y + _SIDE - 1), fill=_MARK, width=1)
            draw.line((x, y + place, x + _SIDE - 1, y + place), fill=_MARK, width=1)
        text(x, y + _SIDE + 2, clock(float(found.times[0])))
        last = clock(float(found.times[-1]))
        text(x + _SIDE - letters().getlength(last), y + _SIDE + 2, last)
    return save(whole, path)


def _heat(similarity: np.ndarray, low: float) -> Image.Image:
    values = np.clip((similarity - low) / max(1 - low, 1e-6), 0, 1) * (len(_COLOURS) - 1)
    below = np.minimum(values.astype(int), len(_COLOURS) - 2)
    share = (values - below)[..., None]
    palette = np.array(_COLOURS, float)
    colours = palette[below] * (1 - share) + palette[below + 1] * share
    return Image.fromarray(colours.round().astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
