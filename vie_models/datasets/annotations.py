"""The annotations of a dataset: its classes, and the videos of each split."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from ..failures import NothingReadError
from ..files import VIDEO_SUFFIXES
from ..video.sources import IMAGE_SUFFIXES
from ..video.walk import files_below


@dataclasses.dataclass(frozen=True)
class Entry:
    """A video in the annotations."""

    name: str
    """The video's name in the annotations, or its path in the folder of videos."""
    label: int
    """Number of its class, from 0."""
    folder: str = ""
    """Folder of its class, if the annotations give one."""


@dataclasses.dataclass
class Annotations:
    """The annotations of a dataset."""

    classes: list[str]
    """Class names; label i is the i-th."""
    splits: dict[str, list[Entry]]
    """The videos of each split, by the name of its list file, without .txt."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What is to be said about the splits, in sentences without a full stop."""


def nonempty(annotations: Annotations, folder: Path, example: str) -> Annotations:
    """Returns the annotations. Raises NothingReadError if they name no video."""
    if not any(annotations.splits.values()):
        raise NothingReadError(f"{folder} has no {example}: is it the right folder?")
    return annotations


def lines_of(file: Path) -> list[str]:
    """Returns the non-empty lines of a text file."""
    lines = os.fsdecode(file.read_bytes()).removeprefix("\ufeff").splitlines()
    return [line.strip() for line in lines if line.strip()]


def videos_in(folder: Path) -> Iterator[Path]:
    """Yields the video files, images and folders of %06d.jpg frames in a folder and its subfolders.

    Links that lead nowhere, pipes and folders that may not be read are among them: whoever opens one says why it fails.
    """
    for path in files_below(folder) if folder.exists() else ():
        if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES or os.path.isdir(path):  # noqa: PTH112
            yield path
