"""`vie data`: writes list files for data sets that you have, and packs of decoded frames."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

from ..failures import MAX_FAILED, check_max_failed
from .arguments import Group, command
from .exit_codes import exit_code


@dataclasses.dataclass(kw_only=True)
class _Lists:
    """Settings that all datasets share."""

    out: Path
    """Folder for train.txt and val.txt (train1.txt, val1.txt, ... for three splits), classes.txt and left_out.txt."""
    encode: Path | None = None
    """Folder for smaller copies of all videos at 25 fps, which are read several times as fast. Default: no copies."""
    short_side: int = 320
    """Shorter side of the copies in pixels. Smaller videos keep their size."""
    workers: int = 4
    """Number of processes that read the videos."""
    max_failed: float = MAX_FAILED
    """Largest share of a split's videos that may be missing or unreadable, from 0 to 1."""

    def run(self) -> int:
        from ..datasets.write_lists import LEFT_OUT, write_lists

        check_max_failed(self.max_failed)
        annotations, videos = self.annotated()
        for note in annotations.notes:
            print(note)
        counts = write_lists(
            annotations,
            videos,
            self.out,
            encode=self.encode,
            short_side=self.short_side,
            workers=self.workers,
            max_failed=self.max_failed,
            progress=True,
        )
        for count in counts:
            print(
                f"{self.out / count.split}.txt: {count.written} of {count.listed} videos; {count.missing} missing, "
                f"{count.unreadable} unreadable"
            )
        print(
            f"{len(annotations.classes)} classes; {self.out / LEFT_OUT} names the videos left out; "
            f"use --root {self.encode or videos}"
        )
        return exit_code(sum(count.listed - count.written for count in counts))

    def annotated(self) -> tuple[Any, Path]:
        raise NotImplementedError


@command(annotations="CSV ...")
@dataclasses.dataclass(kw_only=True)
class Kinetics(_Lists):
    """Lists for Kinetics, from DeepMind's annotation files: `vie data kinetics train.csv val.csv --videos FOLDER -o LISTS`."""

    annotations: tuple[Path, ...]
    """CSV files with the columns label, youtube_id, time_start, time_end and split."""
    videos: Path
    """Folder of <youtube_id>_<start>_<end>.mp4 (six digits each, any suffix). Subfolders are searched."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.kinetics import kinetics

        return kinetics(self.annotations), self.videos


@command(annotations="FOLDER")
@dataclasses.dataclass(kw_only=True)
class UCF101(_Lists):
    """Lists for UCF101: `vie data ucf101 ucfTrainTestlist --videos UCF-101 -o LISTS`."""

    annotations: Path
    """Folder with classInd.txt, trainlist01.txt, testlist01.txt and so on."""
    videos: Path
    """Folder of the videos. Subfolders are searched."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.ucf101 import ucf101

        return ucf101(self.annotations), self.videos


@command(annotations="FOLDER")
@dataclasses.dataclass(kw_only=True)
class HMDB51(_Lists):
    """Lists for HMDB51: `vie data hmdb51 testTrainMulti_7030_splits --videos FOLDER -o LISTS`."""

    annotations: Path
    """Folder with <class>_test_split1.txt and so on."""
    videos: Path
    """Folder of the videos. Subfolders are searched."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.hmdb51 import hmdb51

        return hmdb51(self.annotations), self.videos


@command(annotations="FOLDER")
@dataclasses.dataclass(kw_only=True)
class ImageNet(_Lists):
    """Lists for ImageNet: `vie data imagenet FOLDER --images FOLDER -o LISTS`. A clip repeats one image in all its frames."""

    annotations: Path
    """Folder with LOC_synset_mapping.txt and LOC_val_solution.csv."""
    images: Path
    """Folder with train/<synset>/ and the validation images. Subfolders are searched."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.imagenet import imagenet

        return imagenet(self.annotations, self.images), self.images


@command(videos="FOLDER")
@dataclasses.dataclass(kw_only=True)
class Folder(_Lists):
    """Lists for your own videos: `vie data folder FOLDER -o LISTS`.

    FOLDER holds <class>/<video>, or else train/<class>/<video> and val/<class>/<video>.
    """

    videos: Path
    """Folder of the videos. Images work too."""
    val_share: float = 0.2
    """Share of each class that is held out for validation if there is no val folder."""
    group_regex: str | None = None
    r"""Regular expression that finds in a video's path, from FOLDER, the recording or person that it belongs to: 'subject\d+'.
    What its parentheses match counts, or else the whole match. All videos of one stay on one side of the split, because videos
    of one recording are alike. Default: '_g\d+_', as UCF101 names groups, if all names have it."""
    seed: int = 0
    """Seed for choosing the videos that are held out."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.class_folders import folder

        return folder(self.videos, self.val_share, self.seed, self.group_regex), self.videos


@command(list="LIST", out="OUT")
@dataclasses.dataclass(kw_only=True)
class Pack:
    """Decodes every video of a list once: `vie data pack LIST OUT --root FOLDER`. Training then reads the frames from OUT.

    Give OUT to `vie train --train-list OUT`, and to every other command, in place of the list. Frames are upright, 25 per
    second, and small. You can stop the job at any time; the same command continues it. The command says first how large OUT
    will be. Exit code 3: some videos are damaged or unreadable; OUT/pack.jsonl says which.
    """

    list: Path
    """List file."""
    out: Path
    """Folder to write to."""
    root: Path = Path()
    """Folder that the paths of the list are relative to."""
    short_side: int | None = None
    """Short side of the frames in pixels. Smaller videos keep their size.
    Default: 320, the largest that any recipe asks for; with --model, the largest that its recipe asks for."""
    model: str | None = None
    """Name of the model that will be trained, for the default of --short-side."""
    coding: Literal["raw", "jpeg"] = "raw"
    """raw: uint8, read without any decoding. jpeg: about an eighth of the space, and decoded at every read."""
    quality: int = 90
    """Quality of --coding jpeg, from 1 to 100."""
    workers: int = 4
    """Number of processes that decode."""
    max_failed: float = MAX_FAILED
    """Largest share of the videos that may be unreadable, from 0 to 1."""

    def run(self) -> int:
        from ..datasets.pack import Packing
        from ..models import model_entry
        from ..video.packed import PackHeader
        from ..video.transforms import short_sides

        if self.model and self.short_side:
            raise ValueError(f"give --short-side or --model, not both; got {self.short_side} and {self.model}")
        longest = short_sides(model_entry(self.model or "vie_single").clip_spec)[1]
        header = PackHeader(self.coding, self.short_side or longest, self.quality if self.coding == "jpeg" else None)
        packing = Packing(self.list, self.out, root=self.root, header=header, max_failed=self.max_failed)
        size = packing.size()
        print(
            f"{size.videos} videos at short side {header.short_side}, {self.coding}: about {size.size / 1e9:.2g} GB (estimated "
            f"from {size.sampled} of them); {size.free / 1e9:.3g} GB are free"
        )
        rows = packing.write(workers=self.workers, progress=True)
        failed, damaged = ([row for row in rows if row.damage and bool(row.frames) == there] for there in (False, True))
        for row in failed + damaged:
            print(f"{'damaged' if row.frames else 'failed'}: {row.path}: {row.damage}", file=sys.stderr)
        print(
            f"{len(rows) - len(failed) - len(damaged)} ok, {len(damaged)} damaged, {len(failed)} failed; "
            f"{sum(row.frames for row in rows)} frames, {sum(row.size for row in rows) / 1e9:.3g} GB: "
            f"`vie train ... --train-list {self.out}`"
        )
        return exit_code(len(failed) + len(damaged))


DATASETS = Group(
    "dataset",
    """Writes list files for a dataset from your copy of its videos, or decodes videos once (pack).

    Nothing is downloaded: `vie data DATASET --help` says what a dataset needs. Exit code 3 means that some videos are missing
    or unreadable. They are named in left_out.txt.
    """,
    {"kinetics": Kinetics, "ucf101": UCF101, "hmdb51": HMDB51, "imagenet": ImageNet, "folder": Folder, "pack": Pack},
)
