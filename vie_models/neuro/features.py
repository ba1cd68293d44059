"""Features of a stimulus table, written while the videos are read: memory does not grow with their length."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..encoders import VideoEncoder
from ..failures import check_failures
from ..features import Extractor
from ..files import replacing
from ..models import layer_shapes, output_size
from ..progress import Progress
from ..video import VideoError, VideoRead, VideoReader
from .projection import SparseProjection
from .stimuli import PresentationReading, PresentedClip, bin_start, read_stimuli
from .table import Block, TableWriter, write_parquet
from .windows import EMBEDDING, layer_windows

Pool = Literal["avg", "space"]


@dataclasses.dataclass
class PresentationRecord:
    """What became of a presentation."""

    stimulus: str
    """The video as the table names it."""
    time_bins: int = 0
    """Number of time bins that have values."""
    looped: bool = False
    """Whether the presentation was shorter than a window, and was repeated."""
    status: str = "failed"
    """"ok"; "damaged": there are values of what could be read; "failed": there are none."""
    reason: str = ""
    """Why the status is not "ok"."""


def stimulus_features(
    table: str | os.PathLike[str],
    model: VideoEncoder,
    out: str | os.PathLike[str],
    *,
    layers: Sequence[str] = (EMBEDDING,),
    stride: float | None = None,
    window: float | None = None,
    pool: Pool | None = "avg",
    project: int | None = None,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> list[PresentationRecord]:
    """Writes the activations of layers to the stimuli of a table, by presentation, layer and time.

    The model sees sliding windows of each presentation. Time bin k has the activations for the window that starts k * stride
    seconds after the onset. With each number comes the window of time that it depends on (see `layer_windows`). Each video is
    decoded once, from its start. A bad video does not stop the others: its presentations have the status "failed".

    Args:
        table: CSV file with the columns stimulus (path of a video), and if wanted onset and duration in seconds.
        model: the encoder. It is set to evaluation mode, and moved to `device` if that is given.
        out: file to write, .nc (see `load_stimulus_features`) or .parquet (see `table.write_parquet`).
        layers: names of layers, and "embedding" for the model's output.
        stride: seconds from one window to the next (default: the window's length, so that windows touch).
        window: length of a window in seconds (default: the model's clip).
        pool: "avg" averages maps over space and time; "space" over space, and keeps each time step of the map with its own
            window; None keeps all units.
        project: projects what has more numbers than this, for each layer and time step, to this many, by a very sparse random
            projection.
        seed: seed of the projection.
        root: folder that the paths in the table start from (default: the table's folder).
        batch_size: as in `Extractor`.
        workers: as in `Extractor`.
        dtype: as in `Extractor`.
        device: as in `Extractor`.
        progress: count clips on a progress line, or on a line a minute where there is no terminal.

    Returns:
        What became of each presentation, in the order of the table.

    Raises:
        NothingReadError: no presentation has values; there is no table then.
        FileNotFoundError: there is no such table or video.
        ValueError: a row of the table or an argument is invalid.
        ImportError: the extra `neuro` is not installed.
    """
    out = Path(out)
    if out.suffix not in (".nc", ".parquet"):
        raise ValueError(f"the table of features must be a .nc or .parquet file, got {out}")
    if pool not in ("avg", "space", None):
        raise ValueError(f"pool must be 'avg', 'space' or None, got {pool!r}")
    if (project is not None and project < 1) or seed < 0:
        raise ValueError(f"project must be >= 1 and seed >= 0, got {project} and {seed}")
    presentations = read_stimuli(table, root)
    layers = list(dict.fromkeys(layers))
    spec = model.clip_spec
    if stride is None:
        stride = window if window is not None else spec.seconds
    kept = [layer for layer in layers if layer != EMBEDDING]
    extractor = Extractor(
        model,
        layers=kept,
        pool=None,
        stride=stride,
        window=window,
        batch_size=batch_size,
        workers=workers,
        dtype=dtype,
        device=device,
    )
    reducers = _reducers(model, layers, window, pool, project, seed)
    by_path: dict[str, list[Any]] = {}
    for number, presentation in enumerate(presentations):
        by_path.setdefault(str(presentation.path), []).append((number, presentation))
    reading = PresentationReading(extractor.sampling, by_path)
    records = [PresentationRecord(presentation.stimulus) for presentation in presentations]
    about = {**extractor.settings(), "layers": layers, "pool": pool, "project": project, "seed": seed}
    ends = [presentation.grid(spec.fps) for presentation in presentations]
    longest = max(end - first for first, end in ends)
    max_bins = None if longest == math.inf else max(int(longest / (stride * spec.fps)) + 1, 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(replacing(out))
        netcdf = target if out.suffix == ".nc" else stack.enter_context(_beside(out))
        blocks = [block for reducer in reducers for block in reducer.blocks]
        writer = TableWriter(netcdf, presentations, blocks, max_bins, about)
        stack.callback(writer.close)
        _fill(writer, extractor, reading, reducers, records, progress)
        if all(record.status == "failed" for record in records):
            first = f"{records[0].stimulus}: {records[0].reason}"
            check_failures(len(records), len(records), 1.0, what=f"presentations of {table}", first=first)
        grid = np.array([bin_start(k, reading.sampling) for k in range(max(r.time_bins for r in records))])
        starts = grid.reshape(-1, 1) * 1000 / spec.fps
        presented = {
            "onset_ms": np.array([first * 1000 / spec.fps for first, _ in ends]),
            "duration_ms": np.array([(end - first) * 1000 / spec.fps for first, end in ends]),
            "time_bins": np.array([record.time_bins for record in records]),
            "looped": np.array([record.looped for record in records], np.int8),
            "status": np.array([record.status for record in records], object),
            "reason": np.array([record.reason for record in records], object),
        }
        writer.finish(np.hstack([starts, starts + stride * 1000]), presented)
        if out.suffix == ".parquet":
            write_parquet(netcdf, target)
    return records


@contextlib.contextmanager
def _beside(out: Path) -> Any:
    """Yields a temporary path beside a file, and deletes it afterwards."""
    path = out.with_name(f".{out.name}.{os.getpid()}.nc")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _fill(
    writer: TableWriter,
    extractor: Extractor,
    reading: PresentationReading,
    reducers: Sequence[_Reducer],
    records: Sequence[PresentationRecord],
    progress: bool,
) -> None:
    """Reads all videos, runs the model and writes the values, a batch at a time."""
    paths = [Path(path) for path in reading.presentations]
    bar = Progress(None, "clip", show=progress)
    batch: list[PresentedClip] = []
    on_cpu = extractor.device.type == "cpu"
    workers = min(extractor.workers, len(paths)) if len(paths) > 1 else 0

    def launch(reader: VideoReader) -> None:
        with reader.paused() if on_cpu else contextlib.nullcontext():
            maps = extractor.forward([clip.pixels for clip in batch])
            with torch.inference_mode():
                values = torch.cat([reducer(maps).float() for reducer in reducers], 1).cpu().numpy()
        begin = 0
        for end in range(1, len(batch) + 1):  # neighbors in time are written together
            last, following = batch[end - 1], batch[end] if end < len(batch) else None
            if following and (following.presentation, following.bin) == (last.presentation, last.bin + 1):
                continue
            writer.write(last.presentation, batch[begin].bin, values[begin:end])
            begin = end
        for clip in batch:
            record = records[clip.presentation]
            record.time_bins, record.looped = max(record.time_bins, clip.bin + 1), clip.looped
        bar.update(len(batch))
        batch.clear()

    with bar, VideoReader(paths, reading, workers=workers, ahead=2 * extractor.batch_size) as reader:
        ends: dict[int, VideoRead | VideoError] = {}
        for number, message in reader:
            if isinstance(message, PresentedClip):
                batch.append(message)
                if len(batch) == extractor.batch_size:
                    launch(reader)
            elif isinstance(message, (VideoRead, VideoError)):
                ends[number] = message
        if batch:
            launch(reader)
    for number, end_of_video in ends.items():
        for row, presentation in reading.presentations[str(paths[number])]:
            _conclude(records[row], end_of_video, presentation.grid(reading.fps), reading.fps)


def _conclude(record: PresentationRecord, end: VideoRead | VideoError, grid: tuple[int, float], fps: float) -> None:
    """Sets the status of a presentation, and its reason."""
    if isinstance(end, VideoError):
        record.reason = end.reason
    elif end.damage:
        record.reason = end.damage
    elif (math.isfinite(grid[1]) and end.num_frames + 1 < grid[1]) or end.num_frames <= grid[0]:
        span = f"{grid[0] / fps:g} s to {grid[1] / fps:g} s" if math.isfinite(grid[1]) else f"from {grid[0] / fps:g} s"
        record.reason = f"the video lasts {end.num_frames / fps:g} s, but the presentation is {span}"
    record.status = "failed" if not record.time_bins else "damaged" if record.reason else "ok"


class _Reducer:
    """Reduces the maps of a layer to the numbers of the table."""

    def __init__(self, layer: str, shape: Sequence[int], windows: np.ndarray, pool: Pool | None, projection: Any) -> None:
        self._name = "output" if layer == EMBEDDING else layer
        self._pool, self._projection = pool, projection
        if len(shape) > 1 and pool == "avg":
            windows = np.array([[windows[:, 0].min(), windows[:, 1].max()]])
        place = (shape[0],) if len(shape) == 1 or pool else (shape[0], *shape[2:])
        size = len(projection.matrix) if projection else math.prod(place)
        self.blocks = [
            Block(layer=layer, step=s, size=size, window=(float(a), float(b)), shape=None if projection else tuple(place))
            for s, (a, b) in enumerate(windows)
        ]

    def __call__(self, maps: dict[str, Tensor]) -> Tensor:
        """{layer: [B, C, T', H, W]} -> [B, numbers]."""
        x = maps[self._name]
        if x.ndim == 2:
            steps = x[:, None]
        elif self._pool == "avg":
            steps = x.mean((2, 3, 4))[:, None]
        elif self._pool == "space":
            steps = x.mean((3, 4)).transpose(1, 2)
        else:
            steps = x.transpose(1, 2).flatten(2)  # [B, T', C*H*W]
        if self._projection:
            steps = self._projection(steps.float())
        return steps.flatten(1)


def _reducers(
    model: VideoEncoder, layers: Sequence[str], window: float | None, pool: Pool | None, project: int | None, seed: int
) -> list[_Reducer]:
    shapes = {**layer_shapes(model, [layer for layer in layers if layer != EMBEDDING]), EMBEDDING: [output_size(model)]}
    windows = layer_windows(model, layers, window=window)
    reducers = []
    for layer in layers:
        size = shapes[layer][0] * (1 if pool else math.prod(shapes[layer][2:]))
        projection = SparseProjection(size, project, seed, layer) if project and project < size else None
        reducers.append(_Reducer(layer, shapes[layer], windows[layer], pool, projection))
    return reducers
