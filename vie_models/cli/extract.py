"""`vie extract`."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from ..clip_spec import Placement
from ..failures import MAX_FAILED, NothingReadError, check_failures, check_max_failed
from .arguments import command
from .exit_codes import exit_code


@command(model="MODEL", videos="VIDEO ...")
@dataclasses.dataclass(kw_only=True)
class Extract:
    """Writes features of videos: one file per video, and manifest.jsonl with one line per video.

    You can stop it at any time: the same command continues where it stopped. Exit code 3 means that some videos failed or are
    damaged, 1 that more failed than --max-failed allows. The manifest says why; features of what could be read are kept.
    Under torchrun, each process takes its share of the videos on its own GPU, and the exit code is never 3. Without torchrun,
    start several commands with different values of --shard.
    """

    model: str
    """Name of a model or weight set; `vie list` shows them."""
    videos: tuple[str, ...] = ()
    """Video files, their http(s) addresses, and folders to search for video files and for folders of %06d.jpg frames."""
    out: Path
    """Folder for the features and the manifest."""
    weights: Path | None = None
    """Your own weights: a folder, .safetensors, TensorFlow checkpoint or PyTorch state_dict. Default: the published weights."""
    list: Path | None = None
    """Text file that names more videos, one path or address per line."""
    root: Path | None = None
    """Folder that the paths are relative to. Features then go to OUT/<path>.npz instead of OUT/<file name>.npz."""
    layers: tuple[str, ...] = ()
    """Names of layers to write besides the embedding; `vie info MODEL` lists them."""
    pool: Literal["avg", "none"] = "avg"
    """avg: average each layer over space and time. none: write its whole feature maps."""
    clips: int | None = None
    """Number of clips per video. Default: 5, unless --stride is given."""
    placement: Placement = "even"
    """Where the clips lie. even: evenly spaced from the start of the video to its end. paper: as in the paper's evaluation."""
    stride: float | None = None
    """Use sliding windows instead of clips: seconds from the start of one window to the start of the next."""
    window: float | None = None
    """Length of a sliding window in seconds. Default: the length of the model's clip."""
    format: Literal["npz", "parquet"] = "npz"
    """npz: one array per layer. parquet: one row per clip; needs `pip install 'vie_models[parquet]'`."""
    batch_size: int | None = None
    """Number of clips per forward pass. Default: 4 on CPU, 32 on other devices."""
    workers: int | None = None
    """Number of processes that decode. Default: one per core, at most 16. 0 decodes in the main process."""
    threads: int | None = None
    """Number of threads per decoder. Default: 1 in a worker; with --workers 0, the decoder chooses."""
    device: str | None = None
    """Device that runs the model, such as cpu or cuda:1. Default: the GPU if there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the model's arithmetic. Features are always written as float32."""
    compile: bool = False
    """Compile the model with torch.compile."""
    time_limit: float = 300.0
    """Seconds without progress in decoding a video after which the video counts as failed."""
    max_failed: float = MAX_FAILED
    """Largest share of the videos that may fail, from 0 to 1. All are tried, and what could be read is kept, in any case."""
    shard: str | None = None
    """Share of the videos to process: i/N, with i from 0. All shards may write to one folder. Default: torchrun's, or all."""
    dry_run: bool = False
    """Only say what would be done: how many videos, clips and bytes. Reads headers of some videos; loads no weights."""

    def run(self) -> int:
        import torch

        from ..encoders import load_encoder
        from ..features.folder import MANIFEST, check_records
        from ..video.remote import is_url

        check_max_failed(self.max_failed)
        listed = list(self._listed())
        videos = [*self.videos, *listed]
        if not videos and self.list is not None:
            raise NothingReadError(f"{self.list} names no video: it needs one path or address per line")
        if not videos:
            raise ValueError("no videos given: name at least one video or folder, or use --list")
        # a link that leads nowhere gets a row; a name that nothing has is a slip
        if missing := [path for path in self.videos if not is_url(path) and not os.path.lexists(Path(self.root or "", path))]:
            raise FileNotFoundError(f"no such file or folder: {', '.join(missing)}")
        shard = self._shard()
        if self.dry_run:
            outline = load_encoder(self.model, self.weights, outline=True)
            return self._estimate(self._extractor(outline, dtype=torch.float32), videos, shard)
        model = load_encoder(self.model, self.weights)
        extractor = self._extractor(
            model, dtype=getattr(torch, self.dtype), device=self.device or default_device(), compile=self.compile
        )
        records = extractor.extract(
            videos,
            self.out,
            root=self.root,
            format=self.format,
            shard=shard,
            progress=True,
        )
        for record in records:
            if record.reason:
                print(f"{record.status}: {record.path}: {record.reason}", file=sys.stderr)
        count = {status: sum(r.status == status for r in records) for status in ("ok", "damaged", "failed", "skipped")}
        print(", ".join(f"{n} {status}" for status, n in count.items()) + f"; features and {MANIFEST} in {self.out}")
        everybody = records if "TORCHELASTIC_RUN_ID" not in os.environ else self._all_records(videos)
        check_records(everybody, self.max_failed, remedy=f"paths start from --root {self.root}" if self.root else "")
        return exit_code(count["failed"] + count["damaged"])

    def _all_records(self, videos: Sequence[str]) -> Sequence[Any]:
        """Returns the records of all of torchrun's processes to the one that ends last, and none to the others.

        An error ends all of them, so nobody may raise one while others are at work.
        """
        from ..features.folder import read_manifests
        from ..features.inputs import find_inputs

        jobs = {job.name for job in find_inputs(videos, self.root, self.out)}
        records = [record for name, record in read_manifests(self.out).items() if name in jobs]
        return records if len(records) == len(jobs) else []

    def _extractor(self, model: Any, **settings: Any) -> Any:
        from ..features.extractor import Extractor

        return Extractor(
            model,
            layers=self.layers,
            pool=None if self.pool == "none" else "avg",
            clips=self.clips,
            placement=self.placement,
            window=self.window,
            stride=self.stride,
            batch_size=self.batch_size,
            workers=self.workers,
            threads=self.threads,
            time_limit=self.time_limit,
            **settings,
        )

    def _estimate(self, extractor: Any, videos: Iterable[str], shard: tuple[int, int]) -> int:
        """Prints what would be done."""
        from ..features.estimate import estimate

        found = estimate(extractor, videos, self.out, root=self.root, format=self.format, shard=shard)
        for path, reason in found.unreadable:
            print(f"would fail: {path}: {reason}", file=sys.stderr)
        print(
            f"{found.to_do + found.finished} videos: {found.finished} already done, {found.to_do} to do; "
            f"{found.skipped} other files would be skipped\n"
            f"headers of {found.sampled} videos read: {len(found.unreadable)} cannot be opened\n"
            f"about {found.clips} clips and {found.size / 1e6:.3g} MB of features; {found.free / 1e9:.3g} GB are free\n"
            "dry run: nothing was decoded or written"
        )
        if found.unreadable:
            path, reason = found.unreadable[0]
            tried = found.sampled + found.finished
            check_failures(len(found.unreadable), tried, 1.0, what="videos", first=f"{path}: {reason}")
        return exit_code(len(found.unreadable))

    def _listed(self) -> Iterator[str]:
        if self.list and not self.list.is_file():
            raise FileNotFoundError(f"no list file {self.list}: --list takes a text file with one path or address per line")
        lines = os.fsdecode(self.list.read_bytes()).removeprefix("\ufeff").split("\n") if self.list else []
        return (line.rstrip("\r") for line in lines if line.strip())

    def _shard(self) -> tuple[int, int]:
        """Returns (i, N) from --shard, or else from torchrun."""
        if self.shard is None:
            return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        match = re.fullmatch(r"(\d+)/(\d+)", self.shard)
        if not match or int(match[1]) >= int(match[2]):
            raise ValueError(f"--shard must be i/N with 0 <= i < N, got {self.shard!r}")
        return int(match[1]), int(match[2])


def default_device() -> str:
    """Returns this process's GPU (by its local rank under torchrun), or the CPU if there is none."""
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
