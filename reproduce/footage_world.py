"""Makes what the published weights train on: `python -m reproduce.footage_world DATA WORLD [--sizes 91 160]`.

DATA holds photos/, footage/ and ucf101_subset20/, other people's pictures and videos. Labels are not used.

    WORLD/lists/         photos.txt, videos.txt: what may be trained on; caltech.csv, fights.csv: what is tested, and its parts
    WORLD/91/photos/     a pack of one video per photograph (`vie data photo-motion`), frames of 91 pixels for crops of 64
    WORLD/91/videos/     a pack of the real videos (`vie data pack`)
    WORLD/91/all.txt     both, as one list; photos.txt and videos.txt have one kind each
    WORLD/91/classes.txt names of the labels in the lists, which the memory bank carries; training does not use them
    WORLD/160/...        the same for crops of 112; a third of the frames, for encoders that see one

Kept out of training: photographs of Caltech-101 beyond the first 30 of each class, in an order drawn from a fixed seed; groups
1 to 7 of UCF101; and every second video of the fights, by the hash of its name.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from vie_models.datasets.lists import CLASSES
from vie_models.datasets.parse import NO_LABEL
from vie_models.video.packed import open_pack

from .commands import done

MOST = 30
"""Photographs of each Caltech-101 class that can be learned from."""
BACKGROUND = "BACKGROUND_Google"
FRAMES, LEVEL = {91: 75, 160: 25}, 5
"""Frames of each photograph's video, by its size, and the level of `vie data photo-motion`."""


def read_table(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def caltech(data: Path) -> list[tuple[str, str, int]]:
    """(path from `data`, class, place in a random order of its class): a photograph with a place < 30 can be learned from."""
    classes = defaultdict(list)
    for row in read_table(data / "photos" / "photos.csv"):
        if row["path"].startswith("caltech101/") and row["label"] != BACKGROUND:
            classes[row["label"]].append(f"photos/{row['path']}")
    places = np.random.default_rng(0)
    found = []
    for name in sorted(classes):
        paths = sorted(classes[name])
        found += [(path, name, place) for path, place in zip(paths, places.permutation(len(paths)).tolist(), strict=True)]
    return found


def trains_on(video: str) -> bool:
    """Whether a fight's video is among those to train on."""
    return hashlib.sha256(video.encode()).digest()[0] % 2 == 0


def names_of(data: Path) -> dict[str, str]:
    """The name of what each photograph or video shows, by its path from `data`, where its source names it."""
    tables = {"photos": "photos/photos.csv", "footage": "footage/footage.csv", "ucf101_subset20": "ucf101_subset20/labels.csv"}
    rows = [(f"{folder}/{row['path']}", row["label"]) for folder, file in tables.items() for row in read_table(data / file)]
    return {path: name for path, name in rows if name and name != BACKGROUND}


def write_lists(data: Path, out: Path) -> None:
    """Writes photos.txt and videos.txt: paths from `data` of what may be trained on."""
    tests = {path for path, _, place in caltech(data) if place >= MOST}
    photos = [f"photos/{row['path']}" for row in read_table(data / "photos" / "photos.csv")]
    footage = [
        f"footage/{row['path']}"
        for row in read_table(data / "footage" / "footage.csv")
        if not row["label"] or trains_on(row["video"])
    ]
    ucf = [
        f"ucf101_subset20/{row['path']}"
        for row in read_table(data / "ucf101_subset20" / "labels.csv")
        if row["suggested_split"] != "test"
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "photos.txt").write_text("".join(f"{path}\n" for path in photos if path not in tests))
    (out / "videos.txt").write_text("".join(f"{path}\n" for path in footage + ucf))


def write_packs(data: Path, world: Path, size: int, workers: str) -> None:
    """Renders and packs everything at one size, and lists it."""
    lists, out = world / "lists", world / str(size)
    root = ["--root", str(data), "--workers", workers]
    motion = ["--frames", str(FRAMES[size]), "--level", str(LEVEL), "--size", str(size)]
    done(["data", "photo-motion", str(lists / "photos.txt"), str(out / "photos"), *root, *motion])
    done(["data", "pack", str(lists / "videos.txt"), str(out / "videos"), *root, "--short-side", str(size)])
    write_world(data, out)


def write_world(data: Path, out: Path) -> None:
    """Lists the packs in `out`: photos.txt, videos.txt, both as all.txt, and classes.txt."""
    names = names_of(data)
    packs = {name: open_pack(out / name) for name in ("photos", "videos")}
    known = sorted({names[path] for pack in packs.values() for row in pack.rows if (path := _source(row.path)) in names})
    every = ""
    for pack_name, pack in packs.items():
        labels = [known.index(names[path]) if (path := _source(row.path)) in names else NO_LABEL for row in pack.rows]
        lines = "".join(
            f"{pack.entry(k).relative_to(out)} {row.frames} {label}\n"
            for k, (row, label) in enumerate(zip(pack.rows, labels, strict=True))
        )
        (out / f"{pack_name}.txt").write_text(lines)
        every += lines
    (out / "all.txt").write_text(every)
    (out / CLASSES).write_text("".join(f"{name}\n" for name in known))


def _source(path: str) -> str:
    """The path of the photograph or video that a row of a pack was made of."""
    return path.partition("#")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photos/, footage/ and ucf101_subset20/")
    parser.add_argument("world", type=Path, help="folder for lists and packs")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(FRAMES), choices=list(FRAMES), help="short sides of the packs, in pixels"
    )
    parser.add_argument("--workers", default="2", help="processes that render and decode")
    options = parser.parse_args()
    write_lists(options.data, options.world / "lists")
    for size in options.sizes:
        write_packs(options.data, options.world, size, options.workers)


if __name__ == "__main__":
    main()
