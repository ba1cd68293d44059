"""Small pictures of clips, read from the videos when they are needed, and sheets of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..files import replacing
from ..video import GRID_FPS, Video, VideoError, decoding, open_video, path_or_url
from .likeness import percentile_in_words

if TYPE_CHECKING:
    from .index import Hit

WIDTH, HEIGHT, GAP = 192, 108, 8
"""Sizes of a tile and the space between tiles, in pixels."""
TEXT = 13
"""Height of the letters, in pixels."""
_FRAME = (214, 39, 40)
_WIDEST = 1000  # up to which a sheet is widened for its title


def thumbnail(path: str | os.PathLike[str], at: float, height: int = HEIGHT) -> Image.Image:
    """Reads a frame of a video as a small picture, upright; a gray one that says why, where that is not possible.

    Args:
        path: path or http(s) address of the video.
        at: seconds after the first frame; after the last one, the last one is shown.
        height: of the picture, in pixels.
    """
    return thumbnails(path, [at], height)[0]


def thumbnails(path: str | os.PathLike[str], seconds: Sequence[float], height: int = HEIGHT) -> list[Image.Image]:
    """Reads frames of a video as small pictures, as `thumbnail`, in one pass."""

    def shrink(frame: np.ndarray) -> np.ndarray:
        width = max(round(height * frame.shape[1] / frame.shape[0]), 1)
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))

    def read(video: Video) -> list[np.ndarray]:
        last = video.num_frames - 1
        wanted = [min(max(round(second * GRID_FPS), 0), last) for second in seconds]
        ordered = sorted(set(wanted))
        found = dict(zip(ordered, (clip[0] for clip in video.read([[k] for k in ordered], shrink)), strict=True))
        return [found[k] for k in wanted]

    try:
        with decoding(path), open_video(path_or_url(path), GRID_FPS, threads=1) as video:
            frames = video.retrying(lambda: read(video))
    except (OSError, VideoError) as error:
        missing = isinstance(error, FileNotFoundError)
        return [_gray(height, "the file is gone" if missing else "cannot be read")] * len(seconds)
    return [Image.fromarray(frame) for frame in frames]


def _gray(height: int, why: str) -> Image.Image:
    tile = Image.new("RGB", (round(height * WIDTH / HEIGHT), height), (128, 128, 128))
    ImageDraw.Draw(tile).text((6, height // 2 - TEXT), why, fill="white", font=letters())
    return tile


def contact_sheet(
    hits: Sequence[Hit],
    path: str | os.PathLike[str],
    *,
    columns: int = 5,
    caption: Callable[[Hit], str] | None = None,
    title: str | None = None,
    query: Hit | None = None,
) -> Path:
    """Writes a sheet of pictures of clips as a PNG: the middle frame of each, with its video's name, time and similarity below.

    Args:
        hits: the clips.
        path: file to write.
        columns: pictures in a row.
        caption: two lines of text for each clip (default: name; time and similarity).
        title: a line above the pictures.
        query: what was searched for: it stands first, framed, with its name and time.

    Returns:
        The path.

    Raises:
        ValueError: there are no hits, or columns < 1.
    """
    if not hits:
        raise ValueError("there are no clips to draw")
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    tiles = [(picture, (caption or _about)(hit)) for picture, hit in zip(_middles(hits), hits, strict=True)]
    if query is not None:
        (picture,) = _middles([query])
        tiles.insert(0, (picture, f"{query.name}\nsearched: {clock(query.start)} to {clock(query.end)}"))
    return save(sheet(tiles, columns, title, framed=int(query is not None)), path)


def contact_rows(rows: Sequence[tuple[str, Sequence[Hit]]], path: str | os.PathLike[str], *, columns: int = 8) -> Path:
    """Writes one picture with a row of clips for each of several groups, which have a title and at least one clip each.

    Raises:
        ValueError: there are no groups.
    """
    if not rows:
        raise ValueError("there are no groups to draw")
    parts = []
    for title, hits in rows:
        shown = hits[:columns]
        parts.append(
            sheet([(picture, _about(hit)) for picture, hit in zip(_middles(shown), shown, strict=True)], columns, title)
        )
    canvas = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    y = 0
    for part in parts:
        canvas.paste(part, (0, y))
        y += part.height
    return save(canvas, path)


def _middles(hits: Sequence[Hit]) -> list[Image.Image]:
    """Reads the middle frame of each clip, in one pass of each video."""
    times: dict[str, list[float]] = {}
    for hit in hits:
        times.setdefault(hit.path, []).append((hit.start + hit.end) / 2)
    read = {video: iter(thumbnails(video, seconds)) for video, seconds in times.items()}
    return [next(read[hit.path]) for hit in hits]


def sheet(tiles: Sequence[tuple[Image.Image, str]], columns: int, title: str | None = None, framed: int = 0) -> Image.Image:
    """Arranges pictures with captions of at most two lines in rows; the first `framed` have a frame."""
    columns = min(columns, len(tiles))
    below = 2 * (TEXT + 3) + GAP
    top = GAP + (TEXT + 10 if title else 0)
    size = (GAP + columns * (WIDTH + GAP), top + -(-len(tiles) // columns) * (HEIGHT + below))
    title = title or ""
    size = (max(size[0], min(int(letters(TEXT + 2).getlength(title)) + 2 * GAP, _WIDEST)), size[1])
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP), fitting(title, size[0] - 2 * GAP, TEXT + 2), fill="black", font=letters(TEXT + 2))
    for i, (picture, text) in enumerate(tiles):
        x, y = GAP + i % columns * (WIDTH + GAP), top + i // columns * (HEIGHT + below)
        box = paste(canvas, picture, (x, y), (WIDTH, HEIGHT))
        if i < framed:
            draw.rectangle(box, outline=_FRAME, width=4)
        lines = [fitting(line, WIDTH) for line in text.splitlines()[:2]]
        draw.multiline_text((x, y + HEIGHT + 2), "\n".join(lines), fill="black", font=letters(), spacing=2)
    return canvas


def paste(
    canvas: Image.Image, picture: Image.Image, place: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Puts a picture into the middle of a space, whole, and returns its corners: the first and the last pixel."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    fitted = picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))
    x, y = place[0] + (size[0] - fitted.width) // 2, place[1] + (size[1] - fitted.height) // 2
    canvas.paste(fitted, (x, y))
    return x, y, x + fitted.width - 1, y + fitted.height - 1


def fitting(text: str, width: int, size: int = TEXT) -> str:
    """Returns the text, with its beginning cut if it is wider than `width` pixels in letters of a size."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    font = letters(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text


def clock(seconds: float) -> str:
    """Returns a time as minutes:seconds, such as 1:07.5."""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def letters(size: int = TEXT) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Returns a font that comes with Pillow."""
    try:
        return ImageFont.load_default(size=size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()


def save(picture: Image.Image, path: str | os.PathLike[str]) -> Path:
    """Writes a picture as a PNG and returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        picture.save(temporary, "PNG")
    return path


def _about(hit: Hit) -> str:
    likeness = (
        f"{hit.similarity:.3f}" if hit.percentile is None else f"{hit.similarity:.2f}: {percentile_in_words(hit.percentile)} %"
    )
    return f"{hit.name}\n{clock(hit.start)} to {clock(hit.end)}, {likeness}"
