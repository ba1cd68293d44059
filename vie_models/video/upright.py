"""Turns and mirrors frames as their display matrix says, as the ffmpeg command line does (-autorotate, ffmpeg_filter.c)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Matrix = tuple[int, ...]
"""A display matrix: 3 x 3 fixed-point numbers. It maps a pixel (x, y, 1), as a row, to where it is shown; y points down."""
UPRIGHT: Matrix = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def display_matrix(frame: Any) -> Matrix:
    """The display matrix of a decoded frame of PyAV."""
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            return tuple(np.frombuffer(bytes(side_data), "<i4")[:9].tolist())
    return UPRIGHT


def clockwise(matrix: Matrix) -> float:
    """The whole degrees by which a frame is turned clockwise, from 0 to 359; NaN for a matrix that leaves nothing of it."""
    a, b, _, c, d = matrix[:5]
    width, height = math.hypot(a, c), math.hypot(b, d)
    if not width or not height:
        return math.nan
    degrees = math.atan2(b / height, a / width) * 180 / math.pi
    degrees = math.copysign(math.floor(abs(degrees) + 0.5), degrees)
    return degrees - 360 * math.floor(degrees / 360 + 0.9 / 360)


def upright(image: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Returns a view of the image [H, W, 3], turned by a multiple of 90 degrees and mirrored."""
    degrees = clockwise(matrix)
    if abs(degrees - 90) < 1:
        return image.swapaxes(0, 1) if matrix[3] > 0 else np.rot90(image, -1)
    if abs(degrees - 180) < 1:
        image = image[:, ::-1] if matrix[0] < 0 else image
        return image[::-1] if matrix[4] < 0 else image
    if abs(degrees - 270) < 1:
        return np.rot90(image, -1)[::-1] if matrix[3] < 0 else np.rot90(image)
    return image[::-1] if abs(degrees) < 1 and matrix[4] < 0 else image


def is_on_its_side(matrix: Matrix) -> bool:
    """Whether `upright` swaps height and width."""
    degrees = clockwise(matrix)
    return abs(degrees - 90) < 1 or abs(degrees - 270) < 1


def is_askew(matrix: Matrix) -> bool:
    """Whether the matrix turns by another angle than a multiple of 90 degrees."""
    degrees = clockwise(matrix)
    return all(abs(degrees - right) >= 1 for right in (0, 90, 180, 270))
