"""Video encoders learned without labels: their weights, the features of videos, training and evaluation.

Exit codes: 0 all done; 1 the job could not be done; 2 wrong arguments; 3 done, but some videos failed or are
damaged; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from .train.commands import COMMANDS, WITH_SETTINGS, print_weights
from .train.data_commands import EXIT_SOME_FAILED

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


@dataclasses.dataclass(kw_only=True)
class List:
    """The models and the weight sets that are published for them."""

    def run(self) -> int:
        from .models import MODELS, list_models
        from .weights.catalog import weights_of

        for name in list_models():
            sets = ", ".join(record.name for record in weights_of(name)) or "-"
            print(f"{name:22}{MODELS[name].summary:78}{sets}")
        return 0


@dataclasses.dataclass(kw_only=True)
class Info:
    """What a model is: clips, size, cost, layers, weight sets and their state."""

    name: Positional[str]
    """A model ("vie_3dresnet") or one of its weight sets ("vie_3dresnet.k400")."""

    def run(self) -> int:
        from .info import describe

        print(describe(self.name))
        return 0


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

        from .extract import Extractor
        from .feature_folder import MANIFEST
        from .weights import create_model

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


@dataclasses.dataclass(kw_only=True)
class Convert:
    """Makes a weight folder (config.json, model.safetensors, bank.safetensors) of a TensorFlow checkpoint."""

    checkpoint: Positional[Path]
    """Tar, prefix, .index file or folder of a V2 checkpoint of the original release."""
    out: Positional[Path]
    """Folder to write to."""
    model: str = "vie_3dresnet"
    """The model that the checkpoint is of."""

    def run(self) -> int:
        from .weights.store import convert_tensorflow

        model = convert_tensorflow(self.checkpoint, self.out, self.model)
        print_weights(model, self.out)
        return 0


@dataclasses.dataclass(kw_only=True)
class Join:
    """Puts a static and a dynamic weight folder together as the two-pathway set that they make.

    OUT gets a config.json that names the two, which are not copied: keep them where they are to each other. `vie publish` makes
    one whole of them.
    """

    static: Positional[Path]
    """Weight folder of VIE-Single."""
    dynamic: Positional[Path]
    """Weight folder of VIE-Slow or VIE-Slowfast, trained on the same list."""
    out: Positional[Path]
    """Folder to write to."""

    def run(self) -> int:
        from .weights.folder import join

        print_weights(join(self.static, self.dynamic, self.out), self.out)
        return 0


@dataclasses.dataclass(kw_only=True)
class Publish:
    """Publishes a weight folder with its card (`vie card`) as a repository of the Hugging Face Hub.

    Card, hashes, configuration, tensors and memory bank must agree. The files go up in one commit, which is fetched and loaded
    again before it gets its tag. Log in first (`hf auth login`, or HF_TOKEN); HF_ENDPOINT says where the Hub is.
    """

    folder: Positional[Path]
    """The weight folder."""
    repo_id: str
    """org/name; made where it does not exist."""
    tag: str | None = None
    """Of this version. Default: v1, or the next that is free."""
    private: bool = False
    """Make the repository a private one."""
    dry_run: bool = False
    """Check everything, and send nothing."""

    def run(self) -> int:
        from .weights.publish import publish

        done = publish(self.folder, self.repo_id, tag=self.tag, private=self.private, dry_run=self.dry_run)
        files = ", ".join(f"{name} ({size:,} bytes)" for name, size in done.files.items())
        if self.dry_run:
            print(f"all of it agrees; would be published as {done.repo_id}: {files}")
        else:
            print(f"published as {done.repo_id}, {done.tag}: {files}; loaded back, and the same: {done.url}")
        return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    from . import __version__
    from .weights import CheckpointError, WeightsError

    arguments = sys.argv[1:] if args is None else args
    if arguments == ["--version"]:
        print(f"vie_models {__version__}")
        return 0
    commands: dict[str, Any] = {
        "list": List,
        "info": Info,
        "extract": Extract,
        "convert": Convert,
        "join": Join,
        "publish": Publish,
    }
    commands |= COMMANDS
    try:
        for words, run in WITH_SETTINGS.items():
            name = arguments[len(words) : len(words) + 1]
            if arguments[: len(words)] == list(words) and name and not name[0].startswith("-"):
                return run(name[0], arguments[len(words) + 1 :])
        command = tyro.extras.subcommand_cli_from_dict(commands, prog="vie", description=__doc__, args=arguments)
        return command.run()
    except (ValueError, FileNotFoundError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return EXIT_FAILED if isinstance(error, CheckpointError) else EXIT_USAGE
    except (WeightsError, OSError, ImportError, RuntimeError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("vie: stopped; what is done is kept, and the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
