"""Training data: random views of videos, in batches. A view is a function of (seed, epoch, index) and nothing else.

b clips of this rank's batch, B clips of all ranks' batches, T time, S side of the crop.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..bank.ranks import World
from ..clip_spec import Augmentation, ClipSpec
from ..datasets.lists import VideoList
from ..processes import clean_context, ignore_signals
from ..video.clips import Clip, train_clip
from ..video.frames import Video, VideoError
from ..video.sources import decoding, open_video, read_clip
from ..video.transforms import COLOR_CHANGES, train_transform
from .seeds import generator

_AHEAD = 1 << 30  # bytes of batches that wait, of all workers together
_NICENESS = 19
_BEFORE = 2**32 - 1
"""The number of an epoch that no training reaches."""


@dataclasses.dataclass
class Batch:
    """This rank's clips of one step."""

    frames: Tensor
    """uint8 [b, T, 3, S, S]. A clip that could not be read has the frames of another clip."""
    indices: Tensor
    """int64 [b]: the video of each clip; -1 for a clip that could not be read."""
    failures: list[tuple[int, str]]
    """(index, reason) of each video that could not be read."""
    colors: Tensor | None = None
    """float64 [b, 9]: the change of colors that is still to be made, by the recipe's `COLOR_CHANGES`; None: there is none."""
    reading: float = 0.0
    """Seconds that a worker took to read the clips,"""
    augmenting: float = 0.0
    """and to resize, crop, mirror and color them."""

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory, so that it can be copied to a GPU while the GPU computes."""
        return dataclasses.replace(self, frames=self.frames.pin_memory(), indices=self.indices.pin_memory())


class ClipDataset(Dataset[tuple[int, Tensor | str]]):
    """Random views of videos: dataset[epoch, index] is (index, uint8 [T, 3, S, S]), or (index, reason) without a view.

    Args:
        videos: the instances.
        spec: clip length, frame rate and crop.
        recipe: the augmentation.
        color: change colors here; otherwise batches say how they are to be changed.
        seed: seed for clips and augmentation.
        time_limit: seconds after which reading one clip counts as failed.
    """

    def __init__(
        self,
        videos: VideoList,
        spec: ClipSpec,
        *,
        recipe: Augmentation = "color_jitter",
        color: bool = True,
        seed: int = 0,
        time_limit: float = 60.0,
    ) -> None:
        self.videos, self.spec, self.color, self.seed, self.time_limit = videos, spec, color, seed, time_limit
        self._transform = train_transform(spec, recipe)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, which: tuple[int, int]) -> tuple[int, Tensor | str]:
        batch = self.__getitems__([which])
        return which[1], batch.failures[0][1] if batch.failures else batch.frames[0]

    def __getitems__(self, which: Sequence[tuple[int, int]]) -> Batch:
        """The batch of some (epoch, index). It has its size whatever could be read: see `Batch`."""
        began = time.perf_counter()
        frames = _batch_memory((len(which), self.spec.num_frames, 3, self.spec.crop, self.spec.crop))
        colors: list[list[float] | None] = [None] * len(which)
        batch = Batch(frames, torch.tensor([index for _, index in which], device="cpu"), [])
        for slot, (epoch, index) in enumerate(which):
            draws = generator(self.seed, epoch, index)
            before = time.perf_counter()
            try:
                clip = self._clip(index, draws)
            except (VideoError, OSError) as error:
                batch.indices[slot] = -1
                batch.failures.append((index, str(error)))
                continue
            finally:
                batch.reading += time.perf_counter() - before
            frames[slot], colors[slot] = self._transform.view(clip, draws)
        _fill(batch, colors)
        if self.color and batch.colors is not None:
            COLOR_CHANGES[self._transform.recipe](frames.flatten(0, 1), batch.colors)
            batch.colors = None
        batch.augmenting = time.perf_counter() - began - batch.reading
        return batch

    def _clip(self, index: int, draws: torch.Generator) -> np.ndarray:
        """Reads a random clip of a video, uint8 [T, H, W, 3]."""
        deadline = time.monotonic() + self.time_limit
        path = self.videos.paths.name(index)

        def check() -> None:
            if time.monotonic() > deadline:
                raise VideoError(path, f"reading a clip took more than {self.time_limit:g} s")

        with decoding(path), open_video(path, self.spec.fps, threads=1) as video:
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
            raise ValueError(
                f"batch_size must be from 1 to the {num_videos} videos of the list, got {batch_size}: lower --batch-size"
            )
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
            order = torch.randperm(self.num_videos, generator=generator(self.seed, epoch), device="cpu")
            for k in range(step, self.steps_per_epoch):
                batch = order[k * self.batch_size : (k + 1) * self.batch_size]
                yield [(epoch, i) for i in self.world.local(batch).tolist()]
            epoch, step = epoch + 1, 0


def before_training(num_videos: int, batch_size: int, world: World) -> Iterator[list[tuple[int, int]]]:
    """Yields the (epoch, index) of this rank's clips, for each batch of one pass over all videos.

    Their views are of no epoch that is trained on. The last batch is filled up with the first videos.
    """
    order = torch.arange(-(-num_videos // batch_size) * batch_size, device="cpu") % num_videos
    for batch in order.split(batch_size):
        yield [(_BEFORE, i) for i in world.local(batch).tolist()]


def loader(
    dataset: ClipDataset, sampler: Iterable[list[tuple[int, int]]], *, clips: int, workers: int, device: torch.device
) -> Iterator[Batch]:
    """Returns the batches of `sampler`.

    Workers are no forks of this process (see processes.py), so a script that trains with workers needs
    `if __name__ == "__main__"`.

    Args:
        dataset: the videos.
        sampler: yields the (epoch, index) of the clips of each batch.
        clips: number of clips in a batch, which decides how many batches workers make ahead of time.
        workers: number of processes that read; 0 reads in this process, when a batch is asked for.
        device: where the batches are going. Beside a network on the CPU, workers give way to it.
    """
    size = clips * dataset.spec.num_frames * 3 * dataset.spec.crop**2
    batches = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        pin_memory=device.type == "cuda",
        prefetch_factor=min(max(_AHEAD // (max(workers, 1) * size), 2), 8) if workers else None,
        multiprocessing_context=clean_context(preload=__name__) if workers else None,
        worker_init_fn=functools.partial(_begin_worker, device.type == "cpu"),
    )
    with torch.device("cpu"):  # whatever the default device is, it draws a number here
        return iter(batches)


def _fill(batch: Batch, colors: list[list[float] | None]) -> None:
    """Puts another clip, or black, where one could not be read; and the changes of colors, if there are any, together."""
    there = next((slot for slot, index in enumerate(batch.indices.tolist()) if index >= 0), None)
    for slot, index in enumerate(batch.indices.tolist()):
        if index < 0:
            batch.frames[slot] = 0 if there is None else batch.frames[there]
            colors[slot] = None if there is None else colors[there]
    if None not in colors:
        batch.colors = torch.tensor(colors, dtype=torch.float64, device="cpu")


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _batch_memory(shape: tuple[int, ...]) -> Tensor:
    """Memory for a batch, uint8; in a worker it is shared with the training process, and so is not copied again."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8, device="cpu")
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).view(shape)  # type: ignore[call-overload]


def _begin_worker(give_way: bool, worker: int) -> None:
    ignore_signals()  # a worker ends only once the training process has saved
    if give_way:
        os.nice(_NICENESS)
