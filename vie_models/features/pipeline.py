"""Gathers the clips of many videos into batches, runs a model on them, and gives each video what belongs to it.

Videos come in parts that mix (`VideoReader`), and a batch takes clips as they come. While the device computes a batch, the next
one is gathered; only then are its results copied to memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from ..video.frames import VideoError
from ..video.reader import Message
from ..video.sampling import ClipRead, VideoRead

Forward = Callable[[Sequence[np.ndarray]], dict[str, Tensor]]
"""Runs the model on the pixels of at most one batch of clips: {name: [batch, ...]}, on its device."""
Alone = Callable[[], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass
class EmbeddedVideo:
    """A video, as far as it was read, and what the model makes of its clips."""

    clips: list[ClipRead] = dataclasses.field(default_factory=list)
    """Its clips, in order; once they are embedded, without pixels."""
    outputs: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    """For each name that the model returns, float32 [...] of each clip that has been embedded, in order."""
    embedded: int = 0
    """Number of clips that have been embedded."""
    end: VideoRead | None = None
    """What is known after the last clip; None before."""

    @property
    def is_complete(self) -> bool:
        """Whether the video was read to its end, and all of its clips are embedded."""
        return self.end is not None and self.embedded == len(self.clips)


class Pipeline:
    """Embeds videos. Iterate over what `run` returns once.

    Args:
        forward: runs the model.
        batch_size: number of clips in a batch; the last one may have fewer.
        alone: the context in which the model runs. It pauses the workers where they share the model's CPU.
    """

    def __init__(self, forward: Forward, batch_size: int, alone: Alone = contextlib.nullcontext) -> None:
        self._forward, self._batch_size, self._alone = forward, batch_size, alone
        self._videos: dict[int, EmbeddedVideo] = {}
        self._batch: list[tuple[EmbeddedVideo, ClipRead]] = []
        self._running: list[EmbeddedVideo] = []  # the videos of the clips that the device computes
        self._results: dict[str, Tensor] = {}  # and what it computes of them

    def run(self, messages: Iterable[tuple[int, Message]]) -> Iterator[tuple[int, EmbeddedVideo | VideoError]]:
        """Yields (number, video) of each video when it is complete, or (number, error) if it cannot be read."""
        for number, message in messages:
            match message:
                case ClipRead():
                    video = self._videos.setdefault(number, EmbeddedVideo())
                    video.clips.append(message)
                    self._batch.append((video, message))
                    if len(self._batch) == self._batch_size:
                        self._launch()
                        yield from self._complete()
                case None:  # reading starts again, so what came before belongs to nothing
                    self._videos.pop(number, None)
                case VideoRead():
                    self._videos[number].end = message
                case VideoError():
                    self._videos.pop(number, None)
                    yield number, message
        if self._batch:
            self._launch()
        self._collect()
        yield from self._complete()
        assert not self._videos

    def _launch(self) -> None:
        """Starts the model on the batch, and then collects the one before."""
        with self._alone():
            results = self._forward([clip.pixels for _, clip in self._batch])
        for _, clip in self._batch:
            clip.pixels = np.empty(0)
        self._collect()
        self._running, self._results = [video for video, _ in self._batch], results
        self._batch.clear()

    def _collect(self) -> None:
        """Waits for the batch that the device computes, and gives its results to their videos."""
        for name, values in self._results.items():
            for video, value in zip(self._running, values.float().cpu().numpy(), strict=False):  # what is left is padding
                video.outputs.setdefault(name, []).append(value)
        for video in self._running:
            video.embedded += 1
        self._running, self._results = [], {}

    def _complete(self) -> Iterator[tuple[int, EmbeddedVideo]]:
        for number in [number for number, video in self._videos.items() if video.is_complete]:
            yield number, self._videos.pop(number)
