"""What an extraction would do and write, from the headers of a sample of its videos."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..models.cost import layer_shapes, output_size
from ..video.decode import VideoFile
from ..video.frames import VideoError
from ..video.sources import PathOrURL, open_video
from .extractor import Extractor
from .folder import FeatureFolder, Format
from .inputs import find_inputs

_SAMPLE = 50  # videos whose headers are read
_ARRAY_BYTES = 270  # of names and places around an array in an .npz


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What an extraction would do."""

    to_do: int
    """Number of videos to read."""
    finished: int
    """Number of videos that have features already."""
    skipped: int
    """Number of files in the folders that are not named like videos."""
    sampled: int
    """Number of videos whose headers were read."""
    unreadable: list[tuple[PathOrURL, str]]
    """Those of them that cannot be opened, and why."""
    clips: int
    """Number of clips to come. Estimated from the sample's claimed lengths if windows slide."""
    size: int
    """Bytes of features to come."""
    free: int
    """Bytes that are free where they would be written."""


def estimate(
    extractor: Extractor,
    paths: Iterable[str | os.PathLike[str]],
    out_dir: Path,
    *,
    root: Path | None = None,
    format: Format = "npz",
    shard: tuple[int, int] = (0, 1),
) -> Estimate:
    """Estimates what `Extractor.extract` would do with the same arguments. Decodes and writes nothing.

    The extractor's model is never run, so it may lie on the meta device, without weights.

    Raises:
        ValueError: as `extract` would, except that the weights are not compared with those of features in `out_dir`.
    """
    inputs = find_inputs(paths, root, out_dir)[shard[0] :: shard[1]]
    folder = FeatureFolder(out_dir, extractor.options(), format, shard)
    folder.read(ignore=("weights", "dtype"))
    finished = [bool(folder.finished(found.name, found.path)) for found in inputs]
    to_do = [found.path for found, done in zip(inputs, finished, strict=True) if found.is_video and not done]
    sample = to_do[:: -(-len(to_do) // _SAMPLE) or 1]
    counts, unreadable = [], []
    for path in sample:
        try:
            counts.append(_clips(extractor, path))
        except (VideoError, OSError) as error:
            unreadable.append((path, getattr(error, "reason", str(error))))
    mean = sum(counts) / max(len(counts), 1)
    readable = len(to_do) * len(counts) / max(len(sample), 1)
    there = next(folder for folder in (out_dir, *out_dir.absolute().parents) if folder.exists())
    return Estimate(
        to_do=len(to_do),
        finished=sum(finished),
        skipped=sum(not found.is_video for found in inputs),
        sampled=len(sample),
        unreadable=unreadable,
        clips=round(readable * mean),
        size=round(readable * (mean * _clip_bytes(extractor) + _ARRAY_BYTES * (5 + len(extractor.layers)))),
        free=shutil.disk_usage(there).free,
    )


def _clips(extractor: Extractor, path: PathOrURL) -> int:
    """Returns the number of clips of a video, by the length that its headers claim; 1 if they claim none."""
    sampling = extractor.sampling
    with open_video(path, sampling.fps, threads=1) as video:
        if isinstance(video, VideoFile):  # its num_frames may take decoding
            return sampling.count(round((video.metadata["claimed_duration"] or 0) * sampling.fps))
        return sampling.count(video.num_frames)


def _clip_bytes(extractor: Extractor) -> int:
    """Returns the bytes of one clip's features: float32 arrays, three numbers and its frame times."""
    shapes = layer_shapes(extractor.model, extractor.layers)
    sizes = [output_size(extractor.model)]
    for layer in extractor.layers:
        channels, *rest = shapes[layer]
        sizes.append(channels * (1 if extractor.pool else rest[0] * rest[1] * rest[2]))
    return 4 * sum(sizes) + 8 * (2 + extractor.sampling.spec.num_frames) + 1
