"""The part of a picture that a container says is shown: `clap` of MP4 and QuickTime, PixelCrop of Matroska and WebM.

The ffmpeg command line applies it since version 7.1, on top of what the codec crops. PyAV does not tell it, so it is read here,
from the header: a few hundred bytes. What does not make sense crops nothing, as in ffmpeg.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO, NamedTuple

_MOST = 1000  # boxes or elements looked at on one level


class Crop(NamedTuple):
    """Pixels to take off each side of a frame."""

    top: int
    bottom: int
    left: int
    right: int


WHOLE = Crop(0, 0, 0, 0)


def container_crop(file: BinaryIO, container: str, index: int) -> Crop:
    """Reads what the container takes off the pictures of stream `index`. Leaves the file at its position.

    Args:
        file: the video file.
        container: its format, as FFmpeg names it.
    """
    read = {"mov": _of_mp4, "matroska": _of_matroska}.get(container.partition(",")[0])
    if read is None:
        return WHOLE
    position = file.tell()
    try:
        return read(file, index)
    except (struct.error, ValueError, ZeroDivisionError, StopIteration):  # the header ends early, or says nothing about it
        return WHOLE
    finally:
        file.seek(position)


Span = tuple[int, int]  # where content begins and ends in the file


def _unpacked(file: BinaryIO, position: int, layout: str) -> tuple[Any, ...]:
    file.seek(position)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _boxes(file: BinaryIO, span: Span) -> Iterator[tuple[bytes, Span]]:
    """Yields (name, content) of the boxes of an MP4 file."""
    position, end = span
    for _ in range(_MOST):
        if position + 8 > end:
            return
        size, name = _unpacked(file, position, ">I4s")
        begin = position + 8
        if size == 1:
            (size,), begin = _unpacked(file, begin, ">Q"), begin + 8
        size = size or end - position  # 0: to the end
        if size < 8:
            return
        yield name, (begin, min(position + size, end))
        position += size


def _of_mp4(file: BinaryIO, index: int) -> Crop:
    def inside(span: Span, *names: bytes) -> Span:
        for name in names:
            span = next(content for found, content in _boxes(file, span) if found == name)
        return span

    moov = inside((0, file.seek(0, 2)), b"moov")
    tracks = [span for name, span in _boxes(file, moov) if name == b"trak"]
    begin, end = inside(next(iter(tracks[index:])), b"mdia", b"minf", b"stbl", b"stsd")
    entry, entry_end = next(content for _, content in _boxes(file, (begin + 8, end)))
    width, height = _unpacked(file, entry + 24, ">HH")
    clap, _ = inside((entry + 78, entry_end), b"clap")
    numbers = _unpacked(file, clap, ">IIIIiIiI")
    wide, high, right, down = (Fraction(*numbers[k : k + 2]) for k in (0, 2, 4, 6))
    left, right_edge = _edges(width, wide, right)
    top, bottom_edge = _edges(height, high, down)
    crop = Crop(top, height - 1 - bottom_edge, left, width - 1 - right_edge)
    return crop if min(crop) >= 0 and wide > 0 and high > 0 else WHOLE


def _edges(size: int, shown: Fraction, offset: Fraction) -> tuple[int, int]:
    """The first and the last pixel shown, if the middle of those is `offset` after the middle of all."""
    middle = Fraction(size - 1, 2) + offset
    return int(middle - (shown - 1) / 2), int(middle + (shown - 1) / 2)


_SEGMENT, _TRACKS, _CLUSTER, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0x1F43B675, 0xAE, 0xE0
_CROPS = (0x54BB, 0x54AA, 0x54CC, 0x54DD)  # PixelCropTop, Bottom, Left, Right


def _number(file: BinaryIO, position: int, *, keep_marker: bool) -> tuple[int, int]:
    """Returns a number of variable length, and the position after it."""
    (first,) = _unpacked(file, position, ">B")
    if first == 0:
        raise ValueError("a number of more than 8 bytes")
    length = 9 - first.bit_length()
    value = int.from_bytes(_unpacked(file, position, f">{length}s")[0], "big")
    return value if keep_marker else value - (1 << 7 * length), position + length


def _elements(file: BinaryIO, span: Span) -> Iterator[tuple[int, Span]]:
    """Yields (id, content) of the elements of a Matroska file."""
    position, end = span
    for _ in range(_MOST):
        if position >= end:
            return
        name, position = _number(file, position, keep_marker=True)
        size, begin = _number(file, position, keep_marker=False)
        unknown = size == (1 << 7 * (begin - position)) - 1
        position = end if unknown else begin + size
        yield name, (begin, min(position, end))


def _of_matroska(file: BinaryIO, index: int) -> Crop:
    def inside(span: Span, name: int) -> Span:
        for found, content in _elements(file, span):
            if found == name:
                return content
            if found == _CLUSTER:
                break
        raise StopIteration

    tracks = inside(inside((0, file.seek(0, 2)), _SEGMENT), _TRACKS)
    entries = [content for name, content in _elements(file, tracks) if name == _TRACK]
    video = inside(next(iter(entries[index:])), _VIDEO)
    found = dict.fromkeys(_CROPS, 0)
    for name, (begin, end) in _elements(file, video):
        if name in found:
            file.seek(begin)
            found[name] = int.from_bytes(file.read(min(end - begin, 8)), "big")
    return Crop(*found.values())
