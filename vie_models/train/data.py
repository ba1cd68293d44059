"""Training data: list files, and a random view of a video as a function of (seed, epoch, index) and nothing else.

b clips of this rank's batch, B of all ranks', T time, S side of the crop.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..clip_spec import ClipSpec
from ..video.clips import Clip, train_clip
from ..video.frames import Video, VideoError
from ..video.sources import open_video, read_clip
from ..video.transforms import Recipe, train_transform
from .distributed import World
from .parallel import clean_context
from .seeds import generator

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


@dataclasses.dataclass
class Batch:
    """One step's clips of this rank."""

    frames: Tensor
    """uint8 [b, T, 3, S, S]. A clip that is not there has another one's frames."""
    indices: Tensor
    """int64 [b]: which videos they are of; -1 for a clip that is not there."""
    failures: list[tuple[int, str]]
    """(index, reason) of each video that could not be read."""

    def pin_memory(self) -> Batch:
        """For the loader: page-locked, so that it can be copied to a GPU while that computes."""
        return dataclasses.replace(self, frames=self.frames.pin_memory(), indices=self.indices.pin_memory())


class ClipDataset(Dataset[tuple[int, Tensor | str]]):
    """dataset[epoch, index]: (index, a random view of the video, uint8 [T, 3, S, S]), or (index, why there is none).

    Args:
        videos: the instances.
        spec: of the clips.
        recipe: of the augmentation.
        seed: of clips and augmentation.
        time_limit: seconds that reading one clip may take before it is given up.
    """

    def __init__(
        self, videos: VideoList, spec: ClipSpec, *, recipe: Recipe = "color_jitter", seed: int = 0, time_limit: float = 60.0
    ) -> None:
        self.videos, self.spec, self.seed, self.time_limit = videos, spec, seed, time_limit
        self._transform = train_transform(spec, recipe)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, which: tuple[int, int]) -> tuple[int, Tensor | str]:
        epoch, index = which
        draws = generator(self.seed, epoch, index)
        try:
            return index, self._transform.crop(self._clip(index, draws), draws)
        except (VideoError, OSError) as error:
            return index, str(error)

    def collate(self, samples: Sequence[tuple[int, Tensor | str]]) -> Batch:
        """A batch of one size whatever could be read: a clip that is not there has another one's frames, and no index."""
        there = [frames for _, frames in samples if isinstance(frames, Tensor)]
        blank = torch.zeros(self.spec.num_frames, 3, self.spec.crop, self.spec.crop, dtype=torch.uint8)
        instead = there[0] if there else blank
        return Batch(
            torch.stack([frames if isinstance(frames, Tensor) else instead for _, frames in samples]),
            torch.tensor([index if isinstance(frames, Tensor) else -1 for index, frames in samples]),
            [(index, frames) for index, frames in samples if isinstance(frames, str)],
        )

    def _clip(self, index: int, draws: torch.Generator) -> np.ndarray:
        """uint8 [T, H, W, 3]."""
        deadline = time.monotonic() + self.time_limit
        path = self.videos.paths[index]

        def check() -> None:
            if time.monotonic() > deadline:
                raise VideoError(path, f"reading a clip took more than {self.time_limit:g} s")

        with open_video(path, self.spec.fps, threads=1) as video:
            video.progress = check
            state = draws.get_state()

            def choose(video: Video) -> Clip:
                draws.set_state(state)
                return self._drawn(video, index, draws)

            return read_clip(video, choose)

    def _drawn(self, video: Video, index: int, draws: torch.Generator) -> Clip:
        if self.videos.stretches is None:
            return train_clip(video.num_frames, self.spec, draws)
        first, last = self.videos.stretches[index].tolist()
        first = min(first, video.num_frames - 1)  # the list may say more than there is
        clip = train_clip(max(min(last, video.num_frames) - first, 1), self.spec, draws)
        return Clip(tuple(first + k for k in clip.indices), clip.looped)


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """The (epoch, index) of this rank's clips, step after step without end, from `first_step` on.

    An epoch is N // B steps of B videos each, in an order that depends on (seed, epoch) alone; what is left over is left out of
    the epoch. Of a step's B videos, rank r has the r-th part.
    """

    def __init__(
        self, num_videos: int, batch_size: int, *, seed: int = 0, first_step: int = 0, world: World | None = None
    ) -> None:
        self.world = world or World()
        if not 1 <= batch_size <= num_videos:
            raise ValueError(f"batch_size must be from 1 to the {num_videos} videos of the list, got {batch_size}")
        if batch_size % self.world.size:
            raise ValueError(f"batch_size must be a multiple of the {self.world.size} processes, got {batch_size}")
        self.num_videos, self.batch_size, self.seed, self.first_step = num_videos, batch_size, seed, first_step

    @property
    def steps_per_epoch(self) -> int:
        """N // B."""
        return self.num_videos // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, step = divmod(self.first_step, self.steps_per_epoch)
        while True:
            order = torch.randperm(self.num_videos, generator=generator(self.seed, epoch))
            for k in range(step, self.steps_per_epoch):
                batch = order[k * self.batch_size : (k + 1) * self.batch_size]
                yield [(epoch, i) for i in self.world.own(batch).tolist()]
            epoch, step = epoch + 1, 0


def loader(
    dataset: ClipDataset, sampler: Iterable[list[tuple[int, int]]], *, workers: int, device: torch.device
) -> DataLoader[Any]:
    """The batches of `sampler`; `workers` processes read them ahead (0: this one, when they are asked for).

    Workers are forked from a server that has imported what they need, not from this process: decoders, GPUs and threads do not
    outlive a fork. A script that trains with workers therefore needs `if __name__ == "__main__"`.
    """
    context = None
    if workers:
        context = clean_context()
        if sys.platform != "win32":
            context.set_forkserver_preload([__name__])
            _start_forkserver()
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=dataset.collate,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        multiprocessing_context=context,
        worker_init_fn=_ignore_signals,
    )


def _start_forkserver() -> None:
    """With SIGTERM ignored, which its children inherit: see `_ignore_signals`."""
    from multiprocessing import forkserver

    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGTERM, before)


def _ignore_signals(worker: int) -> None:
    """Ctrl-C, torchrun and job schedulers signal all processes: this one ends when the training process has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
