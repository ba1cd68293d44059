"""What the annotations of a data set say: its classes, and the videos of each split."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from ..video.frames import FrameFolder
from ..video.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES


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


def nonempty(annotations: Annotations, folder: Path, example: str) -> Annotations:
    """The annotations; ValueError where they name no video."""
    if not any(annotations.splits.values()):
        raise ValueError(f"{folder} has no {example}: is it the folder that is meant?")
    return annotations


def lines_of(file: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    lines = os.fsdecode(file.read_bytes()).removeprefix("\ufeff").splitlines()
    return [line.strip() for line in lines if line.strip()]


def videos_in(folder: Path) -> Iterator[Path]:
    """Video files, images and folders of %06d.jpg in a folder and below."""
    for parent, folders, files in os.walk(folder):
        if FrameFolder.is_one(Path(parent)):
            folders.clear()
            yield Path(parent)
            continue
        folders.sort()
        paths = (Path(parent, name) for name in sorted(files))
        yield from (path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES)
