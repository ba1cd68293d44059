"""Lists of videos: a file with a line for each, read as paths, labels and lengths."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CLASSES = "classes.txt"
GRID_FPS = 25.0
"""The frame rate at which a list counts frames."""
NO_LABEL = -1


class Paths(Sequence[Path]):
    """Paths as two tensors: worker processes share them, where a list of objects would be copied for each."""

    def __init__(self, paths: Iterable[Path]) -> None:
        names = [os.fsencode(path) for path in paths]
        self._bytes = torch.frombuffer(bytearray(b"".join(names) or b"."), dtype=torch.uint8)
        self._ends = torch.tensor([0, *map(len, names)]).cumsum(0)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, i: Any) -> Any:
        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} paths, got {i}")
        first, last = self._ends[i % len(self)], self._ends[i % len(self) + 1]
        return Path(os.fsdecode(self._bytes[first:last].numpy().tobytes()))


@dataclasses.dataclass(frozen=True)
class VideoList:
    """The videos of a list file; instance i of a training run is entry i."""

    paths: Paths
    labels: Tensor
    """int64 [N]; -1 where there is none."""
    frames: Tensor | None = None
    """int64 [N]: lengths at 25 frames a second, as the list has them."""
    stretches: Tensor | None = None
    """int64 [N, 2]: of each entry, the grid frames [first, last) that are it; None: whole videos."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, which: Sequence[int]) -> VideoList:
        """Some of the entries."""
        return VideoList(
            Paths(self.paths[i] for i in which),
            self.labels[list(which)],
            None if self.frames is None else self.frames[list(which)],
            None if self.stretches is None else self.stretches[list(which)],
        )

    @property
    def num_classes(self) -> int:
        """The highest label and one."""
        return int(self.labels.max()) + 1

    def part(self, share: float, seed: int) -> VideoList:
        """A random share of the videos, in the order of the list."""
        if not 0 < share <= 1:
            raise ValueError(f"the part of the videos must be in (0, 1], got {share}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self[sorted(order[: max(round(share * len(self)), 1)].tolist())]

    def binned(self, longest: int = 130) -> VideoList:
        """Every video cut into equal stretches of at most `longest` frames, each an instance with the video's label.

        Stretches of a video longer than `longest` have more than half as many; the original has 42 to 130 frames.
        """
        if self.frames is None:
            raise ValueError("to cut videos into bins their lengths must be known: give a list of lines `path frames label`")
        which, stretches = [], []
        for i, frames in enumerate(self.frames.tolist()):
            bins = max(-(-frames // longest), 1)
            for k in range(bins):
                which.append(i)
                stretches.append((frames * k // bins, frames * (k + 1) // bins))
        return dataclasses.replace(self[which], stretches=torch.tensor(stretches))


def read_list(file: str | os.PathLike[str], root: str | os.PathLike[str] = ".") -> VideoList:
    """Reads a list file: a line a video, `path frames label`, `path label` or `path`, the same on every line.

    Paths, which may hold spaces, are of videos or of folders of `%06d.jpg`, and relative to `root`. Empty lines do not count.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it names no video, the same one twice, or has a label below zero.
    """
    text = os.fsdecode(Path(file).read_bytes()).removeprefix("\ufeff")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{file} names no video: it needs a line `path frames label` for each")
    columns = min(_trailing_numbers(line) for line in lines)
    rows = [line.rsplit(maxsplit=columns) for line in lines]
    paths = [Path(root, row[0]) for row in rows]
    ((twice, times),) = Counter(paths).most_common(1)
    if times > 1:
        raise ValueError(f"{file} names {twice} twice: every video is an instance of its own")
    labels = torch.tensor([int(row[-1]) if columns else NO_LABEL for row in rows])
    if columns and int(labels.min()) < 0:
        raise ValueError(f"{file} has a label below zero, {int(labels.min())}: labels count from 0")
    return VideoList(Paths(paths), labels, torch.tensor([int(row[1]) for row in rows]) if columns == 2 else None)


def _trailing_numbers(line: str) -> int:
    """How many whole numbers end the line, after its path: 0, 1 or 2."""
    last = line.rsplit(maxsplit=2)[1:]
    numbers = [field.lstrip("-").isdigit() for field in last]
    return 2 if numbers == [True, True] else int(bool(numbers) and numbers[-1])


def class_names(list_file: Path) -> list[str] | None:
    """The lines of classes.txt beside a list file, if it is there: line i names label i."""
    path = list_file.with_name(CLASSES)
    return path.read_text().splitlines() if path.exists() else None
