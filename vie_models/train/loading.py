"""Training data: random views of videos, in batches. A view is a function of (seed, epoch, index) and nothing else.

b clips of this rank's batch, B clips of all ranks' batches, T time, S side of the crop.
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
    """This rank's clips of one step."""

    frames: Tensor
    """uint8 [b, T, 3, S, S]. A clip that could not be read has the frames of another clip."""
    indices: Tensor
    """int64 [b]: the video of each clip; -1 for a clip that could not be read."""
    failures: list[tuple[int, str]]
    """(index, reason) of each video that could not be read."""

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory, so that it can be copied to a GPU while the GPU computes."""
        return dataclasses.replace(self, frames=self.frames.pin_memory(), indices=self.indices.pin_memory())


class ClipDataset(Dataset[tuple[int, Tensor | str]]):
    """Random views of videos: dataset[epoch, index] is (index, uint8 [T, 3, S, S]), or (index, reason) without a view.

    Args:
        videos: the instances.
        spec: clip length, frame rate and crop.
        recipe: the augmentation.
        seed: seed for clips and augmentation.
        time_limit: seconds after which reading one clip counts as failed.
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
        """Returns a batch of fixed size: a clip that could not be read gets the frames of another clip, and index -1."""
        there = [frames for _, frames in samples if isinstance(frames, Tensor)]
        blank = torch.zeros(self.spec.num_frames, 3, self.spec.crop, self.spec.crop, dtype=torch.uint8)
        instead = there[0] if there else blank
        return Batch(
            torch.stack([frames if isinstance(frames, Tensor) else instead for _, frames in samples]),
            torch.tensor([index if isinstance(frames, Tensor) else -1 for index, frames in samples]),
            [(index, frames) for index, frames in samples if isinstance(frames, str)],
        )

    def _clip(self, index: int, draws: torch.Generator) -> np.ndarray:
        """Reads a random clip of a video, uint8 [T, H, W, 3]."""
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
        first = min(first, video.num_frames - 1)  # the video may be shorter than the list says
        clip = train_clip(max(min(last, video.num_frames) - first, 1), self.spec, draws)
        return Clip(tuple(first + k for k in clip.indices), clip.looped)


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """An endless iterator over steps, from `first_step` on, that yields the (epoch, index) of this rank's clips.

    An epoch is N // B steps of B videos each, in an order that depends only on (seed, epoch). It leaves out the remaining
    N mod B videos. Of a step's B videos, rank r has the r-th part.
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
        """Number of steps per epoch, N // B."""
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
    """Returns a loader of the batches of `sampler`. `workers` processes read ahead; with 0, this process reads them on demand.

    Workers are not forked from this process but from a server that has imported what they need: decoders, GPUs and threads do
    not survive a fork. A script that trains with workers therefore needs `if __name__ == "__main__"`.
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
    """Starts the fork server with SIGTERM ignored. Its children inherit that: see `_ignore_signals`."""
    from multiprocessing import forkserver

    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGTERM, before)


def _ignore_signals(worker: int) -> None:
    """Makes a worker ignore SIGINT and SIGTERM, so that it lives until the training process has saved.

    Ctrl-C, torchrun and job schedulers send their signal to all processes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
