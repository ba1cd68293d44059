"""The command line: `vie list`, `vie info`, `vie extract`, `vie convert`.

Exit codes: 0 all done; 1 the job could not be done; 2 wrong arguments; 3 done, but some videos failed or are damaged.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

EXIT_FAILED, EXIT_USAGE, EXIT_SOME_FAILED = 1, 2, 3


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
    """Writes features of videos: one .npz a video, and manifest.jsonl in which every video appears.

    Exit code 3 says that some videos failed or are damaged; what could be had is there, and the manifest has the reasons.
    """

    videos: Positional[tuple[Path, ...]]
    """Video files, and folders to be searched for them."""
    out: Annotated[Path, arg(aliases=["-o"])]
    """Folder to write to."""
    model: str
    """A model or weight set by name."""
    checkpoint: Path | None = None
    """Weights of your own: folder, .safetensors, TensorFlow checkpoint or PyTorch state_dict. Default: the published ones."""
    layers: tuple[str, ...] = ()
    """Layers to write beside the embedding, averaged over space and time; `vie info NAME` lists them."""
    clips: int = 5
    """Clips a video, evenly placed."""

    def run(self) -> int:
        from .extract import MANIFEST, Extractor
        from .weights import create_model

        if not self.videos:
            raise ValueError("name at least one video or folder")
        if missing := [str(path) for path in self.videos if not path.exists()]:
            raise FileNotFoundError(f"no such file or folder: {', '.join(missing)}")
        model = create_model(self.model, pretrained=self.checkpoint is None, checkpoint_path=self.checkpoint)
        records = Extractor(model, layers=self.layers, clips=self.clips).extract(self.videos, self.out)
        for record in records:
            if record.reason:
                print(f"{record.status}: {record.path}: {record.reason}", file=sys.stderr)
        count = {status: sum(r.status == status for r in records) for status in ("ok", "damaged", "failed", "skipped")}
        print(", ".join(f"{n} {status}" for status, n in count.items()) + f"; features and {MANIFEST} in {self.out}")
        return EXIT_SOME_FAILED if count["failed"] or count["damaged"] else 0


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
        files = ", ".join(sorted(path.name for path in self.out.iterdir()))
        print(f"{self.out}: {model.model_name} of width {model.model_args['width']}: {files}")
        return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    from . import __version__
    from .weights import CheckpointError, WeightsError

    arguments = sys.argv[1:] if args is None else args
    if arguments == ["--version"]:
        print(f"vie_models {__version__}")
        return 0
    commands: dict[str, Any] = {"list": List, "info": Info, "extract": Extract, "convert": Convert}
    command = tyro.extras.subcommand_cli_from_dict(commands, prog="vie", description=__doc__, args=arguments)
    try:
        return command.run()
    except (ValueError, FileNotFoundError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return EXIT_FAILED if isinstance(error, CheckpointError) else EXIT_USAGE
    except (WeightsError, OSError, ImportError) as error:
        print(f"vie: {error}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
