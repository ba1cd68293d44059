"""Examples to search by: videos and moments, embedded as the features of an index were made; several, or one minus another."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..clip_spec import ClipSpec, Placement
from ..encoders import VideoEncoder, load_encoder
from ..features import Extractor
from ..video import GRID_FPS, Clip, Video, VideoError, cropping, decoding, open_video, path_or_url, regular_clip, window_offsets
from ..weights import hash_of_weights
from .index import Hit, Index, Pathway

_MAX_CLIPS = 32  # of a long moment
_PLACEMENT_BEFORE: Placement = "paper"  # of features that do not say it, which an earlier version made
_THREADS = 2  # of a decoder; each holds some frames, and a 4K frame takes 12 MB


@dataclasses.dataclass(frozen=True)
class Example:
    """What to search for: a video or a moment of it."""

    path: str | os.PathLike[str]
    """Path or http(s) address of the video."""
    at: float | None = None
    """Middle of the moment, in seconds after the first frame. None: the mean of the whole video's clips."""
    window: float | None = None
    """Length of the moment, in seconds. If it is longer than a clip of the features, the mean of clips, end to end; else one
    clip. Default: one clip."""
    minus: bool = False
    """Search for what is unlike it: its embedding is subtracted."""
    known_as: str | os.PathLike[str] | None = None
    """The video whose beginning `path` is a copy of. Clips of that video count as the example's own. Default: `path`."""

    def __post_init__(self) -> None:
        if self.at is None and self.window is not None:
            raise ValueError(f"window must come with at, the middle of the moment in seconds, got window={self.window} alone")
        if self.at is not None and not 0 <= self.at < math.inf:
            raise ValueError(f"at must be >= 0 seconds, got {self.at}")
        if self.window is not None and not 0 < self.window < math.inf:
            raise ValueError(f"window must be > 0 seconds, got {self.window}")

    def span(self, clip: float) -> tuple[float, float]:
        """Returns the seconds (start, end) of the moment, for a clip of a length in seconds; all time, for a whole video."""
        if self.at is None:
            return -math.inf, math.inf
        half = max(self.window or 0, clip) / 2
        return self.at - half, self.at + half


def find(
    index: Index,
    examples: Sequence[Example] | Example,
    k: int = 20,
    *,
    model: VideoEncoder | None = None,
    pathway: Pathway | None = None,
    keep_own: bool = False,
    overlaps: bool = False,
    videos: bool = False,
    percentile: float = 0,
) -> list[Hit]:
    """Finds the clips most like the examples: like the mean of all of them, minus the mean of those with `minus`.

    Args:
        index: where to search.
        examples: what to search for.
        k: how many clips to find.
        model: the encoder that made the features (default: it is loaded by the name in their manifest).
        pathway: "static" searches by appearance, "dynamic" by motion; for embeddings of two-pathway models.
        keep_own: do not leave out the clips that overlap the examples themselves.
        overlaps: do not leave out clips that overlap a better one of the same video, as windows of one moment do.
        videos: only the best clip of each video, and none of the examples' own videos; `overlaps` changes nothing then.
        percentile: leave out clips that are less alike than this percentage of random pairs of the index. With examples that
            are subtracted, all cosines are low: leave it at 0.

    Returns:
        At most k hits, the most similar first, with their percentiles.

    Raises:
        FileNotFoundError: a video does not exist.
        VideoError: a video cannot be read.
        ValueError: there is no example without minus, a moment does not lie in its video, k < 1, or the model is another than
            that of the features.
    """
    examples = [examples] if isinstance(examples, Example) else list(examples)
    if all(example.minus for example in examples):
        raise ValueError("at least one example must be given that is not subtracted")
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    model = model or encoder_of(index)
    vectors = {example: embed_example(index, example, model) for example in examples}
    query = np.mean([vectors[example] for example in examples if not example.minus], 0)
    if any(example.minus for example in examples):
        query = query - np.mean([vectors[example] for example in examples if example.minus], 0)
    clip = clip_seconds(index.settings)
    own = [] if keep_own else [(example.known_as or example.path, example) for example in examples]
    if videos:
        exclude = [(path, -math.inf, math.inf) for path, _ in own]
        left_out = {number for path, _ in own for number in index.numbers_of(path)}
        enough = min(k, sum(video.rows > 0 and number not in left_out for number, video in enumerate(index.videos)))
    else:
        exclude = [(path, *_own_span(index, path, example, clip)) for path, example in own]
        enough = k
    keep_all = overlaps and not videos
    asked = k if keep_all else 4 * k
    while True:
        hits = index.nearest(query, min(asked, len(index)), exclude, pathway=pathway)
        kept = hits if keep_all else best_of_each_video(hits) if videos else without_overlaps(hits)
        if len(kept) >= enough or asked >= len(index) or keep_all:
            break
        asked *= 4
    return index.with_percentiles(kept[:k], least=percentile, pathway=pathway)


def _own_span(index: Index, path: str | os.PathLike[str], example: Example, clip: float) -> tuple[float, float]:
    """Returns the seconds that the example's clips cover: near an end of the video, a moment is moved into it."""
    start, end = example.span(clip)
    ends = index.end[index.rows_in(path)]
    if example.at is None or not len(ends):
        return start, end
    if start < 0:
        return 0.0, end - start
    return start - max(end - float(ends.max()), 0), end


def shown(index: Index, example: Example) -> Hit:
    """Describes an example for a sheet of pictures: its video and the seconds that are compared, as far as the video goes."""
    path = path_or_url(example.path)
    with decoding(path), open_video(path, GRID_FPS, threads=_THREADS) as video:
        start, end = example.span(clip_seconds(index.settings))
        end = min(end, video.num_frames / GRID_FPS)
        return Hit(-1, str(video.name), str(path), max(start, 0.0), end, 1.0)


def without_overlaps(hits: Sequence[Hit]) -> list[Hit]:
    """Leaves out the hits that overlap an earlier one of the same video."""
    kept: list[Hit] = []
    for hit in hits:
        if not any(hit.name == other.name and hit.start < other.end and hit.end > other.start for other in kept):
            kept.append(hit)
    return kept


def best_of_each_video(hits: Iterable[Hit]) -> list[Hit]:
    """Keeps the first hit of each video."""
    best: dict[str, Hit] = {}
    for hit in hits:
        best.setdefault(hit.name, hit)
    return list(best.values())


def encoder_of(index: Index) -> VideoEncoder:
    """Loads the encoder that made the features of an index, by its name.

    Raises:
        ValueError: the published weights are others than those that made the features.
    """
    model = _load(str(index.settings["model"]))
    _check_weights(model, index)
    return model


@functools.lru_cache(maxsize=2)
def _load(name: str) -> VideoEncoder:
    return load_encoder(name)


def embed_example(index: Index, example: Example, model: VideoEncoder | None = None) -> np.ndarray:
    """Embeds an example as the features of an index were made: a unit vector, float32 [D].

    Args:
        index: the index.
        example: a video, or a moment of it.
        model: the encoder that made the features (default: it is loaded by the name in their manifest).

    Raises:
        FileNotFoundError: the video does not exist.
        VideoError: the video cannot be read.
        ValueError: the moment does not lie in the video, or the model or its weights are others than the features'.
    """
    model = model or encoder_of(index)
    _check_weights(model, index)
    extractor = Extractor(
        model,
        layers=[] if index.array == "embedding" else [index.array],
        clips=index.settings["clips"],
        placement="even" if index.settings["clips"] is None else index.settings.get("placement", _PLACEMENT_BEFORE),
        window=index.settings["window"],
        stride=index.settings["stride"],
        workers=0,
    )
    if example.at is None:
        values = extractor.features(path_or_url(example.path))[0][index.array]
    else:
        values = _moment(example, extractor, index.array)
    values = values.astype(np.float64)
    mean = (values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-30)).mean(0)
    return (mean / max(np.linalg.norm(mean), 1e-30)).astype(np.float32)


def clip_seconds(settings: dict[str, Any]) -> float:
    """Returns how much of a video a clip of the features covers, in seconds."""
    return float(settings["window"] or ClipSpec.from_dict(settings["clip_spec"]).seconds)


def _moment(example: Example, extractor: Extractor, array: str) -> np.ndarray:
    """Returns the features of the clips of a moment, [clips, D]."""
    sampling, fps = extractor.sampling, extractor.sampling.fps
    convert = cropping(sampling.spec)

    def read(video: Video) -> list[np.ndarray]:
        assert example.at is not None
        if example.at * fps >= video.num_frames:
            raise ValueError(
                f"at must lie in the video: {video.name} lasts {video.num_frames / fps:.2f} s, got {example.at:g} s"
            )
        return list(video.read(_clips(example, extractor, video.num_frames), convert))

    with decoding(example.path), open_video(path_or_url(example.path), fps, threads=_THREADS) as video:
        try:
            pixels = video.retrying(lambda: read(video))
        except OSError as error:
            raise VideoError(example.path, f"cannot be read: {error.strerror or error}") from error
    return np.concatenate(list(extractor.outputs(pixels, "output" if array == "embedding" else array)))


def _clips(example: Example, extractor: Extractor, num_frames: int) -> list[tuple[int, ...]]:
    """Returns the grid indices of the clips that cover a moment, in a video of `num_frames` grid points."""
    sampling, fps = extractor.sampling, extractor.sampling.fps
    assert example.at is not None
    length = sampling.window_length
    covered = max(round((example.window or 0) * fps), length)
    first = round(example.at * fps - covered / 2)
    count = min(math.ceil(covered / length), _MAX_CLIPS)
    last = max(num_frames - length, 0)
    starts = sorted({min(max(first + round(i * (covered - length) / max(count - 1, 1)), 0), last) for i in range(count)})
    if sampling.window is None and sampling.stride is None:
        return [regular_clip(num_frames, sampling.spec, start).indices for start in starts]
    offsets = window_offsets(sampling.spec.num_frames, length)
    return [Clip.of([start + offset for offset in offsets], num_frames).indices for start in starts]


def _check_weights(model: VideoEncoder, index: Index) -> None:
    made_by = index.settings["model"]
    if model.model_name != made_by or hash_of_weights(model) != index.settings["weights"]:
        raise ValueError(
            f"the features were made by {made_by} with other weights than these of {model.model_name}: pass the "
            "encoder that made them (model=; --model and --weights)"
        )
