"""List files, with one line per video, read as paths, labels and lengths."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import sha256_of
from ..video.packed import INDEX, open_pack
from ..video.remote import is_url
from ..video.sources import PathOrURL, path_or_url
from .parse import NO_LABEL, parse

CLASSES = "classes.txt"


class Paths(Sequence[PathOrURL]):
    """Paths and addresses, stored in two tensors. Worker processes share tensors; each would copy a list of objects."""

    def __init__(self, paths: Iterable[PathOrURL]) -> None:
        names = [os.fsencode(path) for path in paths]
        self._bytes = torch.frombuffer(bytearray(b"".join(names) or b"."), dtype=torch.uint8)
        self._ends = torch.tensor([0, *map(len, names)], device="cpu").cumsum(0)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, i: Any) -> Any:
        return path_or_url(self.name(i))

    def name(self, i: int) -> str:
        """Returns a path as text, which takes less time to make than a Path."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"the index must be less than the number of paths, {len(self)}, got {i}")
        first, last = self._ends[i % len(self)], self._ends[i % len(self) + 1]
        return os.fsdecode(self._bytes[first:last].numpy().tobytes())


@dataclasses.dataclass(frozen=True)
class VideoList:
    """The videos of a list file. Entry i is instance i of a training run."""

    paths: Paths
    """N paths."""
    labels: Tensor
    """int64 [N]; -1 for a video without a label."""
    frames: Tensor | None = None
    """int64 [N]: length of each video in frames, at 25 frames per second, as the list gives it. None: not given."""
    stretches: Tensor | None = None
    """int64 [N, 2]: the frames [first, last) of each entry, at 25 frames per second. None: whole videos."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, which: Sequence[int]) -> VideoList:
        """Returns a list of the entries `which`."""
        return VideoList(
            Paths(self.paths[i] for i in which),
            self.labels[list(which)],
            None if self.frames is None else self.frames[list(which)],
            None if self.stretches is None else self.stretches[list(which)],
        )

    @property
    def num_classes(self) -> int:
        """The highest label plus 1."""
        return int(self.labels.max()) + 1

    def part(self, share: float, seed: int) -> VideoList:
        """Returns a random fraction `share` of the videos, in the order of the list. Raises ValueError unless in (0, 1]."""
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed), device="cpu")
        return self[sorted(order[: max(round(share * len(self)), 1)].tolist())]

    def binned(self, longest: int = 130) -> VideoList:
        """Returns a list with every video cut into equal stretches of at most `longest` frames, each with the video's label.

        If a video is longer than `longest`, its stretches have at least half as many frames. The original's stretches have 42
        to 130 frames.

        Raises:
            ValueError: the list has no frame counts.
        """
        if self.frames is None:
            raise ValueError("cutting videos into stretches needs their lengths: give a list with lines `path frames label`")
        which, stretches = [], []
        for i, frames in enumerate(self.frames.tolist()):
            bins = max(-(-frames // longest), 1)
            for k in range(bins):
                which.append(i)
                stretches.append((frames * k // bins, frames * (k + 1) // bins))
        return dataclasses.replace(self[which], stretches=torch.tensor(stretches, device="cpu"))


def read_list(file: str | os.PathLike[str], root: str | os.PathLike[str] = ".") -> VideoList:
    """Reads a list file, with one line per video: `path frames label`, `path label` or `path`, the same on every line.

    A path names a video file (also by its http(s) address), an image or a folder of `%06d.jpg` frames. It may have spaces, and
    tabs between columns make clear where it ends. Labels number the classes from 0; -1 stands for a video without one. The text
    is UTF-8. Empty lines are ignored.

    Args:
        file: the list file; or a pack (`vie data pack`), which stands for the list that it was made of.
        root: folder that the paths are relative to; a pack needs none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the list is empty or no text, names a video twice, or a line is not as it should be. The message says which
            line, and what to do.
    """
    file = Path(file)
    if (file / INDEX).is_file():
        return _packed_list(file)
    if file.is_dir():
        raise ValueError(
            f"{file} is a folder, and no finished pack: give a list file (`vie data folder` writes some for a folder with one "
            "folder per class), or a pack (`vie data pack`)"
        )
    if not file.exists():
        raise FileNotFoundError(f"no list file {file}: give a text file with one video per line, or a pack (`vie data pack`)")
    lines = parse(file, root)
    paths = [path_or_url(line.path, root) for line in lines]
    first: dict[PathOrURL, int] = {}
    for path, line in zip(paths, lines, strict=True):
        if (before := first.setdefault(path, line.number)) != line.number:
            raise ValueError(
                f"{file}, line {line.number}: {path} stands on line {before}, too: remove one: each video is one instance"
            )
    columns = len(lines[0].numbers)
    return VideoList(
        Paths(paths),
        torch.tensor([line.numbers[-1] if columns else NO_LABEL for line in lines], device="cpu"),
        torch.tensor([line.numbers[0] for line in lines], device="cpu") if columns == 2 else None,
    )


def _packed_list(folder: Path) -> VideoList:
    pack = open_pack(folder)
    labels, frames = ([getattr(row, name) for row in pack.rows] for name in ("label", "frames"))
    return VideoList(
        Paths(map(pack.entry, range(len(pack.rows)))), torch.tensor(labels, device="cpu"), torch.tensor(frames, device="cpu")
    )


def warn_of_shared(train: VideoList, val: VideoList, *, root: Path, names: tuple[object, object]) -> None:
    """Warns of videos that stand in both lists: accuracy on them says nothing about new videos.

    Args:
        train: the videos to learn from.
        val: the videos to ask.
        root: folder that the paths of both lists are relative to.
        names: the two files, for the message.
    """
    known = {_name_in_list(train.paths.name(i), root) for i in range(len(train))}
    shared = [name for i in range(len(val)) if _name_in_list(name := val.paths.name(i), root) in known]
    if shared:
        warnings.warn(
            f"{len(shared)} of the {len(val)} videos of {names[1]} are in {names[0]}, too, such as {shared[0]}: accuracy on "
            "them says nothing about new videos, so remove them from one of the lists",
            stacklevel=3,
        )


def _name_in_list(path: str, root: Path) -> str:
    """What tells a video from others, also where one list is a pack: its path from the root, or its address."""
    _, packed, rest = path.partition(f"{os.sep}{INDEX}{os.sep}")
    if packed:
        return os.path.normpath(rest.partition(os.sep)[2])
    if is_url(path):
        return path
    return os.path.normpath(path).removeprefix(os.path.join(os.path.normpath(root), "")).lstrip(os.sep)  # noqa: PTH118  faster


def list_hash(file: Path) -> str:
    """SHA-256 of a list file, or of a pack's index, by which a run knows its videos again."""
    return sha256_of(file / INDEX if file.is_dir() else file)


def class_names(list_file: Path) -> list[str] | None:
    """Returns the lines of the classes.txt beside a list file or in a pack, or None without one. Line i names label i."""
    path = list_file / CLASSES if list_file.is_dir() else list_file.with_name(CLASSES)
    return path.read_text().splitlines() if path.exists() else None
