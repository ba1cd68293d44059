"""Extracts features on a Ray cluster, from a Dataset of paths to Parquet (needs the extra `ray`).

Each actor holds the model and an Extractor. Ray Data starts the actors, feeds them and restarts those that die.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..models import Encoder
from ..video.sources import path_or_url
from .extractor import Extractor
from .folder import VideoRecord, clip_table

if TYPE_CHECKING:
    import ray.data

SETTINGS = "_settings.json"  # readers of Parquet folders ignore names that begin with an underscore


def extract_ray(
    videos: Iterable[str | os.PathLike[str]] | ray.data.Dataset,
    out_dir: str | os.PathLike[str],
    model: Encoder,
    *,
    concurrency: int | tuple[int, int] = 2,
    num_cpus: float = 1,
    num_gpus: float = 0,
    videos_per_task: int = 16,
    **settings: Any,
) -> None:
    """Writes features of videos as Parquet on a Ray cluster, with one row per clip, or one row for a video without features.

    Columns: name, path, status ("ok", "damaged", "failed"), reason, duration (seconds), clip, start and end (seconds), looped,
    frame_times (seconds), embedding, and one per layer. The row of a failed video has a reason, and null from `duration` on.
    `_settings.json` beside the Parquet files records the extraction settings.

    Args:
        videos: paths, or a Dataset with a column `path`. Every node must be able to read the files.
        out_dir: a new folder that every node can write to, or a URI that Ray supports.
        model: the encoder; it is sent to each actor.
        concurrency: number of actors, or (minimum, maximum).
        num_cpus: number of CPUs per actor.
        num_gpus: number of GPUs per actor; if above 0, the model runs on the GPU.
        videos_per_task: number of videos per task. If an actor dies, its task is repeated.
        settings: arguments of `Extractor`, such as layers, clips, stride or batch_size. By default each actor decodes in its
            own process (workers=0).

    Raises:
        ImportError: Ray is not installed.
        FileExistsError: `out_dir` already has features.
        ValueError: a setting is invalid (raised before any work).
    """
    ray = _import_ray()
    if settings.get("pool", "avg") is None:
        raise ValueError("Parquet holds pooled layers only: use pool='avg', or Extractor.extract with format='npz'")
    settings = {"workers": 0, **settings}
    made_by = Extractor(model, **settings).settings()
    is_uri = "://" in str(out_dir)
    if not is_uri and (Path(out_dir) / SETTINGS).exists():
        raise FileExistsError(f"{out_dir} already has features: choose another folder, or remove it")
    if num_gpus:
        settings["device"] = "cuda"
    dataset = videos if isinstance(videos, ray.data.Dataset) else ray.data.from_items([{"path": str(path)} for path in videos])
    rows = dataset.map_batches(
        _Actor,
        fn_constructor_args=(ray.put(model), settings),
        batch_size=videos_per_task,
        batch_format="numpy",
        concurrency=concurrency,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    # Actors may occupy every CPU of the cluster, so writing must not wait for one.
    rows.write_parquet(str(out_dir), ray_remote_args={"num_cpus": 0})
    if not is_uri:
        (Path(out_dir) / SETTINGS).write_text(json.dumps(made_by, indent=2) + "\n")


class _Actor:
    def __init__(self, model: Any, settings: dict[str, Any]) -> None:
        self.extractor = Extractor(_import_ray().get(model), **settings)

    def __call__(self, batch: dict[str, np.ndarray]) -> Any:
        pyarrow = importlib.import_module("pyarrow")
        paths = [path_or_url(str(path)) for path in batch["path"]]
        results = {number: (record, arrays) for number, record, arrays in self.extractor.results(paths)}
        tables = [_rows(*results[number]) for number in sorted(results)]
        return pyarrow.concat_tables(tables, promote_options="default")


def _rows(record: VideoRecord, arrays: dict[str, np.ndarray] | None) -> Any:
    """Returns a pyarrow table of one video: one row per clip, or a single row if it failed."""
    pyarrow = importlib.import_module("pyarrow")
    about = {"name": record.name, "path": record.path, "status": record.status, "reason": record.reason}
    if arrays is None:
        return pyarrow.table({key: pyarrow.array([value], pyarrow.string()) for key, value in about.items()})
    table = clip_table(record, arrays)
    for position, key in enumerate(("status", "reason"), 2):
        table = table.add_column(position, key, pyarrow.array([about[key]] * len(table), pyarrow.string()))
    return table.add_column(4, "duration", pyarrow.array([record.duration] * len(table), pyarrow.float64()))


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray.data") and importlib.import_module("ray")
    except ImportError as error:
        raise ImportError("extract_ray needs Ray: pip install 'vie_models[ray]'") from error
