"""Makes what the published weights train on: `python -m reproduce.footage_world DATA WORLD [--packs photos videos]`.

DATA holds photos/, footage/ and ucf101_subset20/, other people's pictures and videos. Labels are not used.

    WORLD/lists/         photos.txt, moving.txt, videos.txt: what may be trained on
    WORLD/91/photos/     a pack of the photographs as they are, for encoders that see one frame (`vie data pack`)
    WORLD/91/moving/     a pack of one video for each of a quarter of them (worlds/photo_motion.py), for encoders that see more
    WORLD/91/videos/     a pack of the real videos (`vie data pack`)
    WORLD/91/all.txt     photos and videos; dynamic.txt: moving and videos; and each by itself
    WORLD/91/classes.txt names of the labels in the lists, which the memory bank carries; training does not use them

Frames of videos are 91 pixels high or wide, for crops of 64, and photographs 128, since training cuts out parts of them.
Kept out of training: photographs of Caltech-101 beyond the first 30 of each class, in an order drawn from a fixed seed; groups
1 to 7 of UCF101; every second video of the fights, by the hash of its name; and 20 of mini-ImageNet's 100 classes, those whose
names have the smallest hashes, also where they are in Imagenette and the ImageNet samples.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vie_models.datasets.lists import CLASSES
from vie_models.datasets.parse import NO_LABEL
from vie_models.video.packed import open_pack

from .commands import done
from .worlds.photo_motion import write_pack
from .worlds.photo_scenes import PhotoMotion

MAX_PER_CLASS = 30
"""Photographs of each Caltech-101 class that can be learned from."""
BACKGROUND = "BACKGROUND_Google"
MINI = "mini_imagenet84/"
IMAGENET = (MINI, "imagenette/", "imagenet_samples/")
"""Folders of photographs from ImageNet."""
UNSEEN = 20
"""Classes of mini-ImageNet that are kept out."""
SIZE, FRAMES, LEVEL = 91, 75, 5
"""Of the videos that are made of photographs: sides in pixels, frames, and level of worlds/photo_motion.py."""
LARGE = 128
"""Short side of the photographs themselves."""
SHARE = 4
"""One in so many photographs moves."""
PACKS = ("photos", "moving", "videos")
LISTS = {"all": ("photos", "videos"), "dynamic": ("moving", "videos"), **{kind: (kind,) for kind in PACKS}}
"""Packs of each list."""


def read_table(file: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def caltech(data: Path) -> list[tuple[str, str, int]]:
    """(path from `data`, class, place in a random order of its class): a photograph with a place < 30 can be learned from."""
    rows = read_table(data / "photos" / "photos.csv")
    return _placed(row for row in rows if row["path"].startswith("caltech101/") and row["label"] != BACKGROUND)


def unseen(data: Path) -> list[tuple[str, str, int]]:
    """The same of mini-ImageNet's classes that are kept out of training."""
    rows, names = read_table(data / "photos" / "photos.csv"), set(unseen_classes(data))
    return _placed(row for row in rows if row["path"].startswith(MINI) and row["label"] in names)


def _placed(rows: Iterable[dict[str, str]]) -> list[tuple[str, str, int]]:
    classes = defaultdict(list)
    for row in rows:
        classes[row["label"]].append(f"photos/{row['path']}")
    places = np.random.default_rng(0)
    found = []
    for name in sorted(classes):
        paths = sorted(classes[name])
        found += [(path, name, place) for path, place in zip(paths, places.permutation(len(paths)).tolist(), strict=True)]
    return found


def trains_on(video: str) -> bool:
    """Whether a fight's video is among those to train on."""
    return _hash(video)[0] % 2 == 0


def unseen_classes(data: Path) -> list[str]:
    """The classes of mini-ImageNet that are kept out of training."""
    names = {row["label"] for row in read_table(data / "photos" / "photos.csv") if row["path"].startswith(MINI)}
    return sorted(sorted(names, key=_hash)[:UNSEEN])


def _synset(row: dict[str, str]) -> str | None:
    """WordNet's number of what a photograph from ImageNet shows, such as n01440764, which is in its original path."""
    found = re.search(r"\bn\d{8}", row["original"]) if row["path"].startswith(IMAGENET) else None
    return found and found.group()


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def names_of(data: Path) -> dict[str, str]:
    """The name of what each photograph or video shows, by its path from `data`, where its source names it."""
    tables = {"photos": "photos/photos.csv", "footage": "footage/footage.csv", "ucf101_subset20": "ucf101_subset20/labels.csv"}
    rows = [(f"{folder}/{row['path']}", row["label"]) for folder, file in tables.items() for row in read_table(data / file)]
    return {path: name for path, name in rows if name and name != BACKGROUND}


def write_lists(data: Path, out: Path) -> None:
    """Writes moving.txt, photos.txt and videos.txt: paths from `data` of what may be trained on."""
    rows, names = read_table(data / "photos" / "photos.csv"), set(unseen_classes(data))
    synsets = {_synset(row) for row in rows if row["label"] in names and row["path"].startswith(MINI)}
    tests = {path for path, _, place in caltech(data) if place >= MAX_PER_CLASS}
    photos = [f"photos/{row['path']}" for row in rows if (_synset(row) or "") not in synsets]
    photos = [path for path in photos if path not in tests]
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
    moving = [path for path in photos if _hash(path)[0] % SHARE == 0]
    for kind, paths in {"photos": photos, "moving": moving, "videos": footage + ucf}.items():
        (out / f"{kind}.txt").write_text("".join(f"{path}\n" for path in paths))


def write_packs(data: Path, lists: Path, out: Path, packs: list[str], workers: str) -> None:
    """Renders and packs what is asked for."""
    for kind in packs:
        listed, pack = lists / f"{kind}.txt", out / kind
        if kind == "moving":
            settings = PhotoMotion(size=SIZE, frames=FRAMES, level=LEVEL)
            if code := write_pack(listed, pack, settings, root=data, workers=int(workers)):
                raise SystemExit(code)
        else:
            side = str(LARGE if kind == "photos" else SIZE)
            done(["data", "pack", str(listed), str(pack), "--short-side", side, "--root", str(data), "--workers", workers])


def write_world(data: Path, out: Path) -> None:
    """Writes those of LISTS whose packs are in `out`, and classes.txt."""
    names = names_of(data)
    packs = {kind: open_pack(out / kind) for kind in PACKS if (out / kind).exists()}
    known = sorted({names[path] for pack in packs.values() for row in pack.rows if (path := _source(row.path)) in names})
    lines = {}
    for kind, pack in packs.items():
        labels = [known.index(names[path]) if (path := _source(row.path)) in names else NO_LABEL for row in pack.rows]
        lines[kind] = "".join(
            f"{pack.entry(k).relative_to(out)} {row.frames} {label}\n"
            for k, (row, label) in enumerate(zip(pack.rows, labels, strict=True))
        )
    for name, kinds in LISTS.items():
        if set(kinds) <= set(packs):
            (out / f"{name}.txt").write_text("".join(lines[kind] for kind in kinds))
    (out / CLASSES).write_text("".join(f"{name}\n" for name in known))


def _source(path: str) -> str:
    """The path of the photograph or video that a row of a pack was made of."""
    return path.partition("#")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photos/, footage/ and ucf101_subset20/")
    parser.add_argument("world", type=Path, help="folder for lists and packs")
    parser.add_argument("--packs", nargs="+", default=PACKS, choices=PACKS, help="packs to write, if they are not there")
    parser.add_argument("--workers", default="2", help="processes that render and decode")
    options = parser.parse_args()
    lists, out = options.world / "lists", options.world / str(SIZE)
    write_lists(options.data, lists)
    write_packs(options.data, lists, out, options.packs, options.workers)
    write_world(options.data, out)


if __name__ == "__main__":
    main()
