"""`vie neuro`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal

from ..failures import MAX_FAILED, check_failures, check_max_failed
from ..models import list_models
from .arguments import Group, command
from .exit_codes import exit_code
from .extract import default_device


@command(model="MODEL", table="TABLE")
@dataclasses.dataclass(kw_only=True)
class Features:
    """Writes the activations of layers to the stimuli of a table, by presentation, layer and time.

    With each number comes the window of time that it depends on. Memory does not grow with the length of the videos. Needs
    `pip install 'vie_models[neuro]'`. Exit code 3 means that some presentations failed or are damaged; the table says why.
    """

    model: str
    """Name of a model or weight set; `vie list` shows them."""
    table: Path
    """CSV file with the columns stimulus (path of a video), and if wanted onset and duration in seconds."""
    out: Path
    """File to write: .nc (NetCDF, as Brain-Score's assemblies) or .parquet (a row for each time bin, layer and time step)."""
    weights: Path | None = None
    """Your own weights: a folder, .safetensors, TensorFlow checkpoint or PyTorch state_dict. Default: the published weights."""
    root: Path | None = None
    """Folder that the paths in the table start from. Default: the table's folder."""
    layers: tuple[str, ...] = ("embedding",)
    """Names of layers, and "embedding" for the model's output; `vie info MODEL` lists them."""
    stride: float | None = None
    """Seconds from one window to the next. Default: the window's length, so that windows touch."""
    window: float | None = None
    """Length of a window in seconds. Default: the length of the model's clip."""
    pool: Literal["avg", "space", "none"] = "avg"
    """avg: average maps over space and time. space: over space; keep each time step. none: keep all units."""
    project: int | None = None
    """Project what has more numbers than this, for each layer and time step, to this many, by a sparse random projection."""
    seed: int = 0
    """Seed of the projection."""
    batch_size: int | None = None
    """Number of clips per forward pass. Default: 4 on CPU, 32 on other devices."""
    workers: int | None = None
    """Number of processes that decode. Default: one per core, at most 16. A single video is decoded in the main process."""
    device: str | None = None
    """Device that runs the model, such as cpu or cuda:1. Default: the GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the model's arithmetic. Features are always written as float32."""
    max_failed: float = MAX_FAILED
    """Largest share of the presentations that may fail, from 0 to 1. All are tried, and what could be read is kept."""

    def run(self) -> int:
        import torch

        from ..encoders import load_encoder
        from ..neuro import stimulus_features

        check_max_failed(self.max_failed)
        model = load_encoder(self.model, self.weights)
        records = stimulus_features(
            self.table,
            model,
            self.out,
            layers=self.layers,
            stride=self.stride,
            window=self.window,
            pool=None if self.pool == "none" else self.pool,
            project=self.project,
            seed=self.seed,
            root=self.root,
            batch_size=self.batch_size,
            workers=self.workers,
            dtype=getattr(torch, self.dtype),
            device=self.device or default_device(),
            progress=True,
        )
        for number, record in enumerate(records, 1):
            if record.reason:
                print(f"{record.status}: presentation {number} of {record.stimulus}: {record.reason}", file=sys.stderr)
        count = {status: sum(r.status == status for r in records) for status in ("ok", "damaged", "failed")}
        bins = sum(record.time_bins for record in records)
        print(", ".join(f"{n} {status}" for status, n in count.items()) + f"; {bins} time bins in {self.out}")
        if failed := [record for record in records if record.status == "failed"]:
            first = f"{failed[0].stimulus}: {failed[0].reason}"
            check_failures(len(failed), len(records), self.max_failed, what=f"presentations of {self.table}", first=first)
        return exit_code(count["failed"] + count["damaged"])


@command(model="MODEL", models=list_models())
@dataclasses.dataclass(kw_only=True)
class Windows:
    """Prints what each layer of a model sees, in time, before and after a moment."""

    model: str
    """Name of a model."""

    def run(self) -> int:
        from ..models import build_model
        from ..neuro.windows import windows_page

        print(windows_page(build_model(self.model)))
        return 0


NEURO = Group(
    "command",
    """For people who compare networks with brains: activations of layers, by time, and what each layer sees.""",
    {"features": Features, "windows": Windows},
)
