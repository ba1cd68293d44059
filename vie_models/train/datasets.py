"""From the official annotation files of a dataset, and a folder of its videos, to list files.

    OUT/  train.txt, val.txt (or train1.txt ...: a line `path frames label` each), classes.txt, left_out.txt (path, reason)

Nothing is downloaded: the data are not ours to offer. Where they are, and what their annotations look like:

- Kinetics: DeepMind's CSV files, `label,youtube_id,time_start,time_end,split`; clips are <youtube_id>_<start>_<end>.mp4.
- UCF101: "UCF101TrainTestSplits-RecognitionTask" of the University of Central Florida: classInd.txt, trainlist01.txt, ...
- HMDB51: "test_train_splits" of Brown University: <class>_test_split1.txt, `name 0|1|2` (1 train, 2 test, 0 neither).
- ImageNet: ILSVRC 2012, as Kaggle has it: LOC_synset_mapping.txt and LOC_val_solution.csv.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ..video.encode import write_mp4
from ..video.frames import FrameFolder, VideoError
from ..video.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES, open_video
from ..weights.folder import replacing
from .parallel import map_in_processes
from .results import CLASSES

FPS = 25.0
LEFT_OUT = "left_out.txt"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A video that the annotations name."""

    name: str
    """As they name it, or the path in the folder of videos."""
    label: int
    folder: str = ""
    """That of its class, where the annotations name one."""


@dataclasses.dataclass
class Annotations:
    """What the annotations of a dataset say."""

    classes: list[str]
    splits: dict[str, list[Entry]]
    """By the name of the list file."""


@dataclasses.dataclass(frozen=True)
class Count:
    """What became of the videos of a split."""

    split: str
    listed: int
    missing: int
    unreadable: int

    @property
    def written(self) -> int:
        return self.listed - self.missing - self.unreadable


# --- what annotations say --------------------------------------------------------------------------------------------


def kinetics(files: Iterable[Path]) -> Annotations:
    """The CSV files of Kinetics-400, -600 or -700; classes in alphabetical order. Rows without a label are left out."""
    rows: list[dict[str, str]] = []
    for file in files:
        with file.open(newline="", encoding="utf-8-sig") as content:
            found = list(csv.DictReader(content))
        needed = {"label", "youtube_id", "time_start", "time_end", "split"}
        if not found or not needed <= set(found[0]):
            raise ValueError(f"{file} is not of Kinetics: it must have the columns {', '.join(sorted(needed))}")
        rows += [row for row in found if row["label"]]
    classes = sorted({row["label"] for row in rows})
    splits: dict[str, list[Entry]] = defaultdict(list)
    for row in rows:
        name = f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
        split = {"validate": "val", "validation": "val"}.get(row["split"], row["split"])
        splits[split].append(Entry(name, classes.index(row["label"])))
    return Annotations(classes, dict(splits))


def ucf101(folder: Path) -> Annotations:
    """classInd.txt, trainlist01-03.txt and testlist01-03.txt, of which a folder need not have all three splits."""
    numbered = [line.split(maxsplit=1) for line in _lines(folder / "classInd.txt")]
    classes = [name for _, name in sorted(numbered, key=lambda pair: int(pair[0]))]
    splits = {}
    for number in (1, 2, 3):
        for name, split in (("trainlist", "train"), ("testlist", "val")):
            file = folder / f"{name}{number:02d}.txt"
            if file.exists():
                splits[f"{split}{number}"] = [_ucf_entry(line, classes, file) for line in _lines(file)]
    return _nonempty(Annotations(classes, splits), folder, "trainlist01.txt")


def _ucf_entry(line: str, classes: list[str], file: Path) -> Entry:
    """`Class/v_Class_g08_c01.avi 1`, or without the number."""
    path = line.rsplit(maxsplit=1)[0] if line.rsplit(maxsplit=1)[-1].isdigit() else line
    folder, _, name = path.rpartition("/")
    if folder not in classes:
        raise ValueError(f"{file} names {path!r}, and classInd.txt has no class {folder!r}")
    return Entry(Path(name).stem, classes.index(folder), folder)


def hmdb51(folder: Path) -> Annotations:
    """<class>_test_split1.txt, -2 and -3; classes in alphabetical order."""
    found = {number: sorted(folder.glob(f"*_test_split{number}.txt")) for number in (1, 2, 3)}
    classes = sorted({_hmdb_class(file) for files in found.values() for file in files})
    splits: dict[str, list[Entry]] = defaultdict(list)
    for number, files in found.items():
        for file in files:
            name = _hmdb_class(file)
            for line in _lines(file):
                video, use = line.rsplit(maxsplit=1)
                if use in "12":
                    splits[f"{'train' if use == '1' else 'val'}{number}"].append(
                        Entry(Path(video).stem, classes.index(name), name)
                    )
    return _nonempty(Annotations(classes, dict(splits)), folder, "<class>_test_split1.txt")


def _hmdb_class(file: Path) -> str:
    return file.stem.rpartition("_test_split")[0]


def imagenet(annotations: Path, images: Path) -> Annotations:
    """LOC_synset_mapping.txt and LOC_val_solution.csv, and train/<synset>/*.JPEG in the folder of images."""
    mapping = [line.split(maxsplit=1) for line in _lines(annotations / "LOC_synset_mapping.txt")]
    index = {synset: label for label, (synset, _) in enumerate(mapping)}
    train = [
        Entry(str(file.relative_to(images)), label)
        for synset, label in index.items()
        for file in sorted(images.glob(f"**/train/{synset}/*"))
    ]
    with (annotations / "LOC_val_solution.csv").open(newline="") as content:
        rows = list(csv.DictReader(content))
    val = [Entry(row["ImageId"], index[row["PredictionString"].split()[0]]) for row in rows]
    return Annotations([name for _, name in mapping], {"train": train, "val": val})


def folder(videos: Path, val_share: float = 0.2, seed: int = 0) -> Annotations:
    """Folders of classes: <class>/<video>, or train/<class>/<video> beside val/<class>/<video> (or test/).

    Without such folders a share of each class, drawn with `seed`, is held out.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"the share of videos that are held out must be in [0, 1), got {val_share}")
    heads = {split: videos / name for name, split in (("train", "train"), ("test", "val"), ("val", "val"))}
    given = {split: head for split, head in heads.items() if head.is_dir()} if (videos / "train").is_dir() else {}
    classes = sorted({path.name for head in (given or {"": videos}).values() for path in head.iterdir() if path.is_dir()})
    splits: dict[str, list[Entry]] = {"train": [], "val": []}
    for label, name in enumerate(classes):
        for split, head in (given or {"": videos}).items():
            found = [Entry(str(path.relative_to(videos)), label) for path in sorted(_videos_of(head / name))]
            if given:
                splits[split] += found
                continue
            order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
            held_out = set(order[: round(val_share * len(found))])
            splits["train"] += [entry for i, entry in enumerate(found) if i not in held_out]
            splits["val"] += [entry for i, entry in enumerate(found) if i in held_out]
    return _nonempty(Annotations(classes, {split: entries for split, entries in splits.items() if entries}), videos, "videos")


def _nonempty(annotations: Annotations, folder: Path, example: str) -> Annotations:
    if not any(annotations.splits.values()):
        raise ValueError(f"{folder} has no {example}: is it the folder that is meant?")
    return annotations


def _lines(file: Path) -> list[str]:
    lines = os.fsdecode(file.read_bytes()).removeprefix("\ufeff").splitlines()
    return [line.strip() for line in lines if line.strip()]


# --- from annotations to lists ---------------------------------------------------------------------------------------


def write_lists(
    annotations: Annotations,
    videos: Path,
    out: Path,
    *,
    encode: Path | None = None,
    short_side: int = 320,
    workers: int = 4,
    progress: bool = False,
) -> list[Count]:
    """Writes the list files of `OUT`; paths in them are relative to `videos`, or to `encode`.

    Every video is opened, to count its frames on the grid of 25 a second; one that is missing or cannot be read is in
    left_out.txt. Images count as one frame and are not opened.

    Args:
        annotations: what kinetics, ucf101, ... return.
        videos: a folder, searched for files (of any video suffix) and for folders of %06d.jpg of the names listed.
        encode: write every video anew to this folder: 25 frames a second, its short side at most `short_side` pixels, H.264;
            what is there is not written again.
        workers: processes that read.
        progress: show a bar.
    """
    found = _Finder(videos)
    paths = {entry: found(entry) for split in annotations.splits.values() for entry in split}
    sources = sorted({path for path in paths.values() if path is not None})
    if encode is not None and (image := next((path for path in sources if path.suffix.lower() in IMAGE_SUFFIXES), None)):
        raise ValueError(f"images cannot be written anew as videos, and {image} is one: leave encode out")
    jobs = [(path, None if encode is None else encode / _as_mp4(path.relative_to(videos)), short_side) for path in sources]
    results = dict(zip(sources, map_in_processes(_measure, jobs, workers, progress=progress), strict=True))
    root = encode or videos
    out.mkdir(parents=True, exist_ok=True)
    counts, left_out = [], []
    for split, listed in annotations.splits.items():
        lines, missing, unreadable = [], 0, 0
        for entry in listed:
            source = paths[entry]
            if source is None:
                missing += 1
                left_out.append(f"{split}\t{entry.name}\tthere is no such video in {videos}")
            elif isinstance(result := results[source], str):
                unreadable += 1
                left_out.append(f"{split}\t{entry.name}\t{result}")
            else:
                path, frames = result
                lines.append(f"{path.relative_to(root)} {frames} {entry.label}\n")
        with replacing(out / f"{split}.txt") as file:
            file.write_bytes(os.fsencode("".join(lines)))
        counts.append(Count(split, len(listed), missing, unreadable))
    for name, content in ((CLASSES, annotations.classes), (LEFT_OUT, left_out)):
        with replacing(out / name) as file:
            file.write_bytes(os.fsencode("".join(f"{line}\n" for line in content)))
    return counts


class _Finder:
    """Videos in a folder by their names."""

    def __init__(self, videos: Path) -> None:
        self._root = videos
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in _videos_of(videos):
            self._by_stem[path.stem if path.is_file() else path.name].append(path)

    def __call__(self, entry: Entry) -> Path | None:
        direct = self._root / entry.name
        if direct.exists():
            return direct
        found = self._by_stem.get(entry.name, [])
        of_class = [path for path in found if entry.folder in path.parent.parts]
        return (of_class or found or [None])[0]  # type: ignore[list-item]


def _videos_of(folder: Path) -> Iterator[Path]:
    """Video files, images and folders of %06d.jpg in a folder and below."""
    for parent, folders, files in os.walk(folder):
        if FrameFolder.is_one(Path(parent)):
            folders.clear()
            yield Path(parent)
            continue
        folders.sort()
        paths = (Path(parent, name) for name in sorted(files))
        yield from (path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES)


def _as_mp4(path: Path) -> Path:
    return path if path.suffix == ".mp4" else path.with_name(f"{path.name}.mp4")


_Job = tuple[Path, Path | None, int]
_Result = tuple[Path, int] | str


def _measure(job: _Job) -> _Result:
    path, target, short_side = job
    try:
        if "\n" in str(path):
            raise VideoError(path, "its name has a line break, which a list cannot hold")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return path, 1
        if target is not None and not target.exists():
            encode_video(path, target, short_side)
        with open_video(target or path, FPS, threads=1) as video:
            frames = video.num_frames
            next(video.read([[0]]))
            return target or path, frames
    except (VideoError, OSError) as error:
        return str(error)


def encode_video(source: Path, target: Path, short_side: int = 320) -> None:
    """Writes a video anew, upright, on the grid of 25 frames a second, its short side at most `short_side` pixels.

    Raises VideoError or OSError.
    """
    from torchvision.transforms.v2 import functional

    def shrink(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        scale = min(short_side / min(height, width), 1)
        size = [max(round(side * scale / 2), 1) * 2 for side in (height, width)]
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return functional.resize(pixels, size, antialias=True).permute(1, 2, 0).contiguous().numpy()

    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as made, open_video(source, FPS, threads=1) as video:
        windows = video.read_windows(itertools.count(), [0], 1, shrink)
        write_mp4(made, (frames[0] for _, frames in windows), int(FPS))
