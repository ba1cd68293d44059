"""List files, with one line per video, read as paths, labels and lengths."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..failures import NothingReadError
from ..files import sha256_of
from ..video.packed import INDEX, open_pack
from ..video.sources import PathOrURL, path_or_url

CLASSES = "classes.txt"
NO_LABEL = -1


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

    A path names a video file (also by its http(s) address), an image or a folder of `%06d.jpg` frames. It may have spaces.
    Label -1 stands for a video without one. Empty lines are ignored.

    Args:
        file: the list file; or a pack (`vie data pack`), which stands for the list that it was made of.
        root: folder that the paths are relative to; a pack needs none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the list is empty, names a video twice, or has a label below -1.
    """
    if Path(file).is_dir():
        return _packed_list(Path(file))
    if not Path(file).exists():
        raise FileNotFoundError(f"no list file {file}: give a text file with one video per line, or a pack (`vie data pack`)")
    text = os.fsdecode(Path(file).read_bytes()).removeprefix("\ufeff")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        raise NothingReadError(f"{file} names no video: it needs one line per video, such as `path frames label`")
    columns = min(_trailing_numbers(line) for line in lines)
    rows = [line.rsplit(maxsplit=columns) for line in lines]
    paths = [path_or_url(row[0], root) for row in rows]
    ((twice, times),) = Counter(paths).most_common(1)
    if times > 1:
        raise ValueError(f"{file} names {twice} twice: remove one, because each video is one instance")
    labels = torch.tensor([int(row[-1]) if columns else NO_LABEL for row in rows], device="cpu")
    if int(labels.min()) < NO_LABEL:
        raise ValueError(
            f"{file} has a label {int(labels.min())}: labels must be 0 or more, or {NO_LABEL} for a video without one"
        )
    return VideoList(Paths(paths), labels, torch.tensor([int(row[1]) for row in rows], device="cpu") if columns == 2 else None)


def _packed_list(folder: Path) -> VideoList:
    pack = open_pack(folder)
    labels, frames = ([getattr(row, name) for row in pack.rows] for name in ("label", "frames"))
    return VideoList(
        Paths(map(pack.entry, range(len(pack.rows)))), torch.tensor(labels, device="cpu"), torch.tensor(frames, device="cpu")
    )


def list_hash(file: Path) -> str:
    """SHA-256 of a list file, or of a pack's index, by which a run knows its videos again."""
    return sha256_of(file / INDEX if file.is_dir() else file)


def _trailing_numbers(line: str) -> int:
    """Returns how many integers follow the path at the end of a line: 0, 1 or 2."""
    last = line.rsplit(maxsplit=2)[1:]
    numbers = [field.lstrip("-").isdigit() for field in last]
    return 2 if numbers == [True, True] else int(bool(numbers) and numbers[-1])


def class_names(list_file: Path) -> list[str] | None:
    """Returns the lines of the classes.txt beside a list file or in a pack, or None without one. Line i names label i."""
    path = list_file / CLASSES if list_file.is_dir() else list_file.with_name(CLASSES)
    return path.read_text().splitlines() if path.exists() else None
