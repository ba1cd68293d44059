"""Cuts the example video: four places, each seen twice. `python -m reproduce.example_video SOURCES [OUT.mp4]`.

SOURCES is a folder with these files of https://github.com/intel-iot-devkit/sample-videos (CC BY 4.0), at any size:
car-detection.mp4, bottle-detection.mp4 and one-by-one-person-detection.mp4, and of asl_gestures/ bird, book, sorry and
walk.mkv under the names asl_bird.mkv and so on.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vie_models.datasets import write_mp4
from vie_models.video import GRID_FPS, open_video

SHOTS = [
    ("car-detection.mp4", 5.0, 5.0),
    ("one-by-one-person-detection.mp4", 6.0, 5.0),
    ("bottle-detection.mp4", 9.0, 5.0),
    ("asl_book.mkv", 0.0, 3.4),
    ("asl_bird.mkv", 0.0, 2.0),
    ("one-by-one-person-detection.mp4", 24.0, 5.0),
    ("car-detection.mp4", 15.2, 5.0),
    ("asl_walk.mkv", 0.0, 2.8),
    ("asl_sorry.mkv", 0.0, 2.4),
    ("bottle-detection.mp4", 26.0, 5.0),
]
"""File, start and length of each shot, in seconds."""
SIZE = (320, 180)
MOST_BYTES = 600_000


def frames(folder: Path) -> Iterator[np.ndarray]:
    """Yields the frames of all shots, uint8 [180, 320, 3]."""
    for name, start, seconds in SHOTS:
        (found,) = list(folder.rglob(name))[:1] or sys.exit(f"there is no {name} in {folder}")
        first = round(start * GRID_FPS)
        with open_video(found, GRID_FPS) as video:
            wanted = [[first + k] for k in range(round(seconds * GRID_FPS)) if first + k < video.num_frames]
            for (frame,) in video.read(wanted):
                yield np.asarray(cropped(Image.fromarray(frame)))


def cropped(image: Image.Image) -> Image.Image:
    """Resizes to 320 x 180; what is taller loses its top and bottom."""
    tall = round(image.width * SIZE[1] / SIZE[0])
    top = (image.height - tall) // 2
    return image.resize(SIZE, Image.Resampling.BICUBIC, (0, max(top, 0), image.width, min(top + tall, image.height)))


def main(folder: Path, out: Path) -> None:
    """Writes the example."""
    write_mp4(out, frames(folder), int(GRID_FPS), crf=27)
    size = out.stat().st_size
    print(f"{out}: {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"that is more than {MOST_BYTES / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "vie_models/app/example.mp4"))
