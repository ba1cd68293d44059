"""`vie data`: list files of datasets that are there, and videos that are rendered."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from .exit_codes import EXIT_SOME_FAILED
from .flags import parse


@dataclasses.dataclass(kw_only=True)
class _Lists:
    """What all datasets have in common."""

    out: Annotated[Path, arg(aliases=["-o"])]
    """Folder for the lists: train.txt, val.txt (train1.txt ... where there are three splits), classes.txt, left_out.txt."""
    encode: Path | None = None
    """Write every video anew to this folder, 25 frames a second and small, which is read several times as fast."""
    short_side: int = 320
    """Their shorter side, in pixels; smaller videos stay as they are."""
    workers: int = 4
    """Processes that read videos."""

    def run(self) -> int:
        from ..datasets.write_lists import LEFT_OUT, write_lists

        annotations, videos = self.annotated()
        counts = write_lists(
            annotations,
            videos,
            self.out,
            encode=self.encode,
            short_side=self.short_side,
            workers=self.workers,
            progress=sys.stderr.isatty(),
        )
        for count in counts:
            print(
                f"{self.out / count.split}.txt: {count.written} of {count.listed} videos; {count.missing} are missing, "
                f"{count.unreadable} cannot be read"
            )
        print(f"{len(annotations.classes)} classes; what is left out: {self.out / LEFT_OUT}; --root {self.encode or videos}")
        return EXIT_SOME_FAILED if any(count.written < count.listed for count in counts) else 0

    def annotated(self) -> tuple[Any, Path]:
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class Kinetics(_Lists):
    """Kinetics: `vie data kinetics train.csv val.csv --videos FOLDER -o LISTS`, of DeepMind's annotation files."""

    annotations: Positional[tuple[Path, ...]]
    """CSV files with label, youtube_id, time_start, time_end and split."""
    videos: Path
    """Folder of <youtube_id>_<start>_<end>.mp4 (six digits each, any suffix, in whatever folders)."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.kinetics import kinetics

        return kinetics(self.annotations), self.videos


@dataclasses.dataclass(kw_only=True)
class UCF101(_Lists):
    """UCF101: `vie data ucf101 ucfTrainTestlist --videos UCF-101 -o LISTS`."""

    annotations: Positional[Path]
    """Folder of classInd.txt, trainlist01.txt, testlist01.txt ..."""
    videos: Path
    """Folder of the videos, in whatever folders."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.ucf101 import ucf101

        return ucf101(self.annotations), self.videos


@dataclasses.dataclass(kw_only=True)
class HMDB51(_Lists):
    """HMDB51: `vie data hmdb51 testTrainMulti_7030_splits --videos FOLDER -o LISTS`."""

    annotations: Positional[Path]
    """Folder of <class>_test_split1.txt ..."""
    videos: Path
    """Folder of the videos, in whatever folders."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.hmdb51 import hmdb51

        return hmdb51(self.annotations), self.videos


@dataclasses.dataclass(kw_only=True)
class ImageNet(_Lists):
    """ImageNet: `vie data imagenet FOLDER --images FOLDER -o LISTS`; an image is a clip of one frame, shown again and again."""

    annotations: Positional[Path]
    """Folder of LOC_synset_mapping.txt and LOC_val_solution.csv."""
    images: Path
    """Folder with train/<synset>/ and the validation images, in whatever folders."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.imagenet import imagenet

        return imagenet(self.annotations, self.images), self.images


@dataclasses.dataclass(kw_only=True)
class Folder(_Lists):
    """Your own: `vie data folder FOLDER -o LISTS`, of <class>/<video>, or train/<class>/<video> beside val/<class>/<video>."""

    videos: Positional[Path]
    """The folder. Images may take the place of videos."""
    val_share: float = 0.2
    """Share of each class that is held out, where there is no val folder. Recordings that are cut into several videos then
    lie on both sides: make a val folder instead."""
    seed: int = 0
    """Of the draw."""

    def annotated(self) -> tuple[Any, Path]:
        from ..datasets.class_folders import folder

        return folder(self.videos, self.val_share, self.seed), self.videos


@dataclasses.dataclass(kw_only=True)
class MovingTextures:
    """Renders videos to train on: `vie data moving-textures OUT --videos 2000`, objects that move in known ways.

    Forty objects, of which eight are held out, on two backgrounds, in twelve motions. OUT/object and OUT/motion have lists
    with their labels: train.txt, val.txt and held_out.txt (of the held-out objects).
    """

    out: Positional[Path]
    """Folder to write to; paths in the lists are relative to it (--root OUT)."""
    videos: int = 2000
    """How many to train on; half as many are for tests, and as many of the held-out objects."""
    seed: int = 0
    """Of the draw of what they show."""
    workers: int = 2
    """Processes that render."""

    def run(self) -> int:
        from ..datasets.moving_textures import make_videos

        sizes = make_videos(self.out, self.videos, self.seed, workers=self.workers, progress=sys.stderr.isatty())
        counts = ", ".join(f"{split}: {size}" for split, size in sizes.items())
        print(f"{counts} videos; lists in {self.out / 'object'} and {self.out / 'motion'}; --root {self.out}")
        return 0


DATASETS: dict[str, Any] = {
    **{"kinetics": Kinetics, "ucf101": UCF101, "hmdb51": HMDB51, "imagenet": ImageNet, "folder": Folder},
    "moving-textures": MovingTextures,
}


@dataclasses.dataclass(kw_only=True)
class Data:
    """Makes list files of a dataset, from its official annotations and a folder of its videos, which you must have.

    `vie data DATASET --help` says what it needs. Exit code 3 says that some videos are missing or cannot be read: left_out.txt
    names them.
    """

    dataset: Positional[str]
    """kinetics, ucf101, hmdb51, imagenet, folder (your own), or moving-textures (rendered)."""

    def run(self) -> int:
        return data(self.dataset, ())


def data(name: str, flags: Sequence[str]) -> int:
    """`vie data NAME`."""
    if name not in DATASETS:
        raise ValueError(f"no dataset {name!r}; there are {', '.join(DATASETS)}")
    command: _Lists | MovingTextures = parse(DATASETS[name], flags, f"vie data {name}")
    return command.run()
