"""Extracts features on a Ray cluster, to the same folder as `Extractor.extract` (needs the extra `ray`).

Each actor holds the model and an Extractor, and writes the features of its videos. Ray Data starts the actors, feeds them and
restarts those that die. Their records come back to the caller, who writes the manifest.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..failures import MAX_FAILED, check_max_failed
from ..models import Encoder
from ..video.sources import path_or_url
from .extractor import Extractor, fill_folder
from .folder import FeatureFolder, Format, VideoRecord, check_records
from .inputs import Input, find_inputs

if TYPE_CHECKING:
    import ray.data


def extract_ray(
    videos: Iterable[str | os.PathLike[str]] | ray.data.Dataset,
    out_dir: str | os.PathLike[str],
    model: Encoder,
    *,
    root: str | os.PathLike[str] | None = None,
    format: Format = "npz",
    max_failed: float = MAX_FAILED,
    concurrency: int | tuple[int, int] = 2,
    num_cpus: float = 1,
    num_gpus: float = 0,
    videos_per_task: int = 16,
    progress: bool = False,
    **settings: Any,
) -> list[VideoRecord]:
    """Writes features of videos on a Ray cluster: the same files and manifest as `Extractor.extract`.

    Called again, it continues where it stopped, as `Extractor.extract` does.

    Args:
        videos: paths, folders and addresses, or a Dataset with a column `path`. Every node must be able to read the files.
        out_dir: a folder that every node can write to.
        model: the encoder; it is sent to each actor.
        root: as in `Extractor.extract`.
        format: as in `Extractor.extract`.
        max_failed: largest share of the videos that may fail, from 0 to 1. All are tried, and what could be read is kept.
        concurrency: number of actors, or (minimum, maximum).
        num_cpus: number of CPUs per actor.
        num_gpus: number of GPUs per actor; if above 0, the model runs on the GPU.
        videos_per_task: number of videos per task. If an actor dies, its task is repeated.
        progress: as in `Extractor.extract`.
        settings: arguments of `Extractor`, such as layers, clips, stride or batch_size. By default each actor decodes in its
            own process (workers=0).

    Returns:
        The records of all videos, in order.

    Raises:
        ImportError: Ray is not installed.
        TooManyFailuresError: more videos failed than `max_failed` allows. NothingReadError: all did, or there is none.
        ValueError: a setting is invalid (before any work), or as `Extractor.extract`.
        BlockingIOError: another run is writing to `out_dir`.
    """
    ray = _import_ray()
    check_max_failed(max_failed)
    settings = {"workers": 0, **settings}
    extractor = Extractor(model, **settings)
    extractor.check_format(format)
    if num_gpus:
        settings["device"] = "cuda"
    if isinstance(videos, ray.data.Dataset):
        videos = [row["path"] for row in videos.iter_rows()]
    out_dir = Path(out_dir).absolute()
    inputs = find_inputs(videos, None if root is None else Path(root), out_dir)

    def embed(to_do: Sequence[Input]) -> Iterator[tuple[int, VideoRecord, None]]:
        if not to_do:
            return
        paths = [found.path if isinstance(found.path, str) else str(found.path.absolute()) for found in to_do]
        # as JSON, because names may have characters that Arrow cannot hold
        jobs = [{"job": json.dumps([k, found.name, path])} for k, (found, path) in enumerate(zip(to_do, paths, strict=True))]
        dataset = ray.data.from_items(jobs, override_num_blocks=-(-len(jobs) // videos_per_task))
        rows = dataset.map_batches(
            _Actor,
            fn_constructor_args=(ray.put(model), settings, extractor.options(), out_dir, format),
            batch_size=videos_per_task,
            batch_format="numpy",
            concurrency=concurrency,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
        )
        for row in rows.iter_rows():
            number, record = json.loads(row["record"])
            yield number, VideoRecord(**{**record, "path": str(to_do[number].path)}), None

    with FeatureFolder(out_dir, extractor.settings(), format) as folder:
        records = fill_folder(folder, inputs, embed, progress=progress)
    check_records(records, max_failed)
    return records


class _Actor:
    """Embeds videos and writes their features; returns their records."""

    def __init__(self, model: Any, settings: dict[str, Any], options: dict[str, Any], out_dir: Path, format: Format) -> None:
        self.extractor = Extractor(_import_ray().get(model), **settings)
        if self.extractor.options() != options:
            raise RuntimeError(
                f"this node computes in {self.extractor.dtype}, and the caller in {options['dtype']}: pass dtype=torch.float32"
            )
        self.folder = FeatureFolder(out_dir, self.extractor.settings(), format)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        jobs = [json.loads(job) for job in batch["job"]]
        found = []
        for i, record, arrays in self.extractor.results([path_or_url(path) for _, _, path in jobs]):
            number, record.name, _ = jobs[i]
            if arrays is not None:
                self.folder.write_features(record, arrays)
            found.append(json.dumps([number, dataclasses.asdict(record)]))
        return {"record": found}


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray.data") and importlib.import_module("ray")
    except ImportError as error:
        raise ImportError("extract_ray needs Ray: pip install 'vie_models[ray]'") from error
