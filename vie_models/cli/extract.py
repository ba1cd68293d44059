"""`vie extract`."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .exit_codes import EXIT_SOME_FAILED


@dataclasses.dataclass(kw_only=True)
class Extract:
    """Writes features of videos: a file a video, and manifest.jsonl in which every video appears.

    Stop it when you like: the same command goes on where it was. Exit code 3 says that some videos failed or are damaged; what
    could be had is there, and the manifest has the reasons. Under torchrun, each process does its part of the videos, on its
    own GPU, and the exit code is 0; without it, commands that differ in --shard only do the same.
    """

    videos: Positional[tuple[Path, ...]] = ()
    """Video files, and folders to be searched for them and for folders of %06d.jpg frames."""
    out: Annotated[Path, arg(aliases=["-o"])]
    """Folder to write to."""
    model: str
    """A model or weight set by name."""
    checkpoint: Path | None = None
    """Weights of your own: folder, .safetensors, TensorFlow checkpoint or PyTorch state_dict. Default: the published ones."""
    list: Path | None = None
    """A text file that names more videos, one path a line."""
    root: Path | None = None
    """What the paths are relative to; features then go to OUT/<path>.npz, not to OUT/<name>.npz."""
    layers: tuple[str, ...] = ()
    """Layers to write beside the embedding; `vie info NAME` lists them."""
    pool: Literal["avg", "none"] = "avg"
    """Whether layers are averaged over space and time, or written whole."""
    clips: int | None = None
    """Clips a video, evenly placed. Default: 5, unless there is a stride."""
    stride: float | None = None
    """Sliding windows in place of clips: seconds from the start of one to the start of the next."""
    window: float | None = None
    """Seconds that a window spans. Default: a clip of the model."""
    format: Literal["npz", "parquet"] = "npz"
    """npz: one array a layer; parquet (extra `parquet`): one row a clip."""
    batch_size: int | None = None
    """Clips that go through the model at a time. Default: 4 on CPU, 32 elsewhere."""
    workers: int | None = None
    """Processes that decode. Default: one a core, 16 at most; 0: decode in this process."""
    threads: int | None = None
    """Threads of each decoder. Default: 1 in a worker, as many as are useful with --workers 0."""
    device: str | None = None
    """Where the model runs. Default: the GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the model's arithmetic; features are float32."""
    compile: bool = False
    """Run the model through torch.compile."""
    time_limit: float = 300.0
    """Seconds that decoding may go without reading on in a video before the video is given up."""
    max_failures: int | None = None
    """How many videos may fail before the job is given up. Default: any number."""
    shard: str | None = None
    """i/N: do part i (from 0) of N of the videos; all parts may write to one folder. Default: all, or torchrun's rank."""

    def run(self) -> int:
        import torch

        from ..features.extractor import Extractor
        from ..features.folder import MANIFEST
        from ..weights import create_model

        videos = [*self.videos, *self._listed()]
        if not videos:
            raise ValueError("name at least one video or folder, or give a --list")
        if missing := [str(path) for path in self.videos if not (self.root or Path()).joinpath(path).exists()]:
            raise FileNotFoundError(f"no such file or folder: {', '.join(missing)}")
        shard = self._shard()
        model = create_model(self.model, pretrained=self.checkpoint is None, checkpoint_path=self.checkpoint)
        extractor = Extractor(
            model,
            layers=self.layers,
            pool=None if self.pool == "none" else "avg",
            clips=self.clips,
            window=self.window,
            stride=self.stride,
            batch_size=self.batch_size,
            workers=self.workers,
            threads=self.threads,
            dtype=getattr(torch, self.dtype),
            device=self.device or _device(),
            compile=self.compile,
            time_limit=self.time_limit,
        )
        records = extractor.extract(
            videos,
            self.out,
            root=self.root,
            format=self.format,
            max_failures=self.max_failures,
            shard=shard,
            progress=sys.stderr.isatty(),
        )
        for record in records:
            if record.reason:
                print(f"{record.status}: {record.path}: {record.reason}", file=sys.stderr)
        count = {status: sum(r.status == status for r in records) for status in ("ok", "damaged", "failed", "skipped")}
        print(", ".join(f"{n} {status}" for status, n in count.items()) + f"; features and {MANIFEST} in {self.out}")
        if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun would take another code for a crash, and stop the other processes
            return 0
        return EXIT_SOME_FAILED if count["failed"] or count["damaged"] else 0

    def _listed(self) -> Iterator[Path]:
        lines = os.fsdecode(self.list.read_bytes()).removeprefix("\ufeff").split("\n") if self.list else []
        return (Path(line.rstrip("\r")) for line in lines if line.strip())

    def _shard(self) -> tuple[int, int]:
        """(i, N) from --shard, or from torchrun."""
        if self.shard is None:
            return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        if not match or int(match[1]) >= int(match[2]):
            raise ValueError(f"--shard must be i/N with 0 <= i < N, got {self.shard!r}")
        return int(match[1]), int(match[2])


def _device() -> str:
    """The GPU that is this process's, under torchrun too; else the CPU."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
