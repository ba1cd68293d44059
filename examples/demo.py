"""Segments a video and finds the places that return: `python examples/demo.py [--video MY.mp4] [--out OUT]`.

A two-pathway encoder, trained without labels, embeds a moment of the video every half second. Where moments differ from those
before, a new segment begins. Segments whose moments are alike are one place, seen again. OUT/moments.png shows both.

Without --video it takes the example that comes with the page: four places, each seen twice.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import vie_models as vie
from vie_models.app import EXAMPLE
from vie_models.search import (
    Segmentation,
    draw_segments,
    percentile_in_words,
    percentile_of,
    random_cosines,
    segment,
    thumbnail,
)

MODEL = "vie_twopathway_small"
ALIKE = 99.5
"""Percentage of random pairs of videos that must be less alike than two segments of one place."""
HEIGHT, CAPTION, GAP = 84, 24, 10
"""Sizes of the pictures of the matches, in pixels."""


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def returning(found: Segmentation, random: np.ndarray) -> list[tuple[int, int, float]]:
    """Finds segments that return: (number of the first, number of the later one, percentile of their likeness)."""
    spans = found.segments
    means = np.stack([found.embeddings[(found.times >= start) & (found.times < end)].mean(0) for start, end in spans])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    percentiles = percentile_of(means @ means.T, random)
    pairs = []
    for later in range(1, len(spans)):
        first = int(percentiles[later, :later].argmax())
        if percentiles[later, first] >= ALIKE:
            pairs.append((first, later, float(percentiles[later, first])))
    return pairs


def add_matches(picture: Path, video: Path, spans: list[tuple[float, float]], pairs: list[tuple[int, int, float]]) -> None:
    """Adds frames of the segments that return below a picture of the segments."""
    with Image.open(picture) as image:
        above = image.convert("RGB")
    rooms = [[thumbnail(video, sum(spans[number]) / 2, HEIGHT) for number in pair[:2]] for pair in pairs]
    width = max([2 * max(frame.width for frame in room) + 2 * GAP for room in rooms], default=1)
    columns = max(above.width // width, 1)
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (above.width, above.height + rows * (HEIGHT + CAPTION + GAP)), "white")
    sheet.paste(above)
    draw = ImageDraw.Draw(sheet)
    for place, ((first, later, percentile), room) in enumerate(zip(pairs, rooms, strict=True)):
        x, y = GAP + place % columns * width, above.height + place // columns * (HEIGHT + CAPTION + GAP)
        words = f"{first + 1} and {later + 1}: more alike than {percentile_in_words(percentile)} % of random pairs"
        draw.text((x, y + 4), words, fill="black", font_size=13)
        for number, frame in enumerate(room):
            sheet.paste(frame, (x + number * (frame.width + 2), y + CAPTION))
    sheet.save(picture)


def main(video: Path, out: Path) -> None:
    """Segments a video, says which segments return, and draws them."""
    out.mkdir(parents=True, exist_ok=True)
    found = segment(video, vie.create_model(MODEL, pretrained=True))
    bank = vie.load_memory_bank(MODEL)["memory_bank"].numpy()
    random = random_cosines(bank)
    pairs, spans = returning(found, random), found.segments
    picture = draw_segments(found, out / "moments.png", bank)
    add_matches(picture, video, spans, pairs)
    moments = f"{len(found.times)} moments seen by {MODEL}, an encoder that learned without labels"
    print(f"{video.name} lasts {clock(found.duration)}: {moments}.")
    print(f"The video changes {len(found.boundaries)} times: at {', '.join(map(clock, found.boundaries)) or 'no time'}.")
    again = [f"what is seen from {clock(spans[first][0])} returns at {clock(spans[later][0])}" for first, later, _ in pairs]
    print(f"Again: {'; '.join(again)}." if again else "Nothing that is seen returns.")
    print(f"The picture of it: {picture}")
    vie_command = Path(sys.executable).with_name("vie")  # of this environment
    command = os.path.relpath(vie_command) if vie_command.exists() else "vie"
    print(f"Look and search yourself: {command} app{'' if video == EXAMPLE else f' {video}'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, default=EXAMPLE, help="your own video")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    options = parser.parse_args()
    main(options.video, options.out)
