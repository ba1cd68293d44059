"""Training data: list files, and a random view of a video as a function of (seed, epoch, index) and nothing else.

b clips of this rank's batch, B of all ranks', T time, S side of the crop.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..bank.ranks import World
from ..clip_spec import ClipSpec
from ..datasets.lists import VideoList
from ..datasets.processes import clean_context
from ..video.clips import Clip, train_clip
from ..video.frames import Video, VideoError
from ..video.sources import open_video, read_clip
from ..video.transforms import Recipe, train_transform
from .seeds import generator


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
