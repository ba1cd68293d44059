"""`vie convert`, `export`, `join`, `card` and `publish`: weight folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from .arguments import command


@command(model="MODEL", checkpoint="CHECKPOINT", out="OUT")
@dataclasses.dataclass(kw_only=True)
class Convert:
    """Converts a TensorFlow checkpoint to a weight folder (config.json, model.safetensors, bank.safetensors)."""

    model: str
    """Name of the model in the checkpoint."""
    checkpoint: Path
    """TensorFlow V2 checkpoint of the original release: its tar, prefix, .index file or folder."""
    out: Path
    """Weight folder to write."""

    def run(self) -> int:
        from ..weights.tensorflow.convert import convert_tensorflow

        model = convert_tensorflow(self.checkpoint, self.out, self.model)
        print_weights(model, self.out)
        return 0


@command(static="STATIC", dynamic="DYNAMIC", out="OUT")
@dataclasses.dataclass(kw_only=True)
class Join:
    """Joins the weight folders of a static and a dynamic pathway to the weight folder of a two-pathway model.

    OUT gets a config.json with relative paths to the two folders. Nothing is copied, so move all three together or not at
    all. The command `vie publish` uploads them as one complete weight set.
    """

    static: Path
    """Weight folder of VIE-Single."""
    dynamic: Path
    """Weight folder of VIE-Slow or VIE-Slowfast, trained on the same list."""
    out: Path
    """Weight folder to write."""

    def run(self) -> int:
        from ..weights.joined import join

        print_weights(join(self.static, self.dynamic, self.out), self.out)
        return 0


@command(folder="FOLDER")
@dataclasses.dataclass(kw_only=True)
class Publish:
    """Publishes a weight folder and its card (see `vie card`) on the Hugging Face Hub.

    It first checks that card, hashes, configuration, tensors and memory bank agree. It then uploads the files in one commit,
    downloads and loads that commit again, and tags it. Log in before with `hf auth login` or HF_TOKEN. HF_ENDPOINT selects
    another Hub.
    """

    folder: Path
    """Weight folder to publish."""
    repo_id: str
    """Repository, as org/name. It is created if it does not exist."""
    tag: str | None = None
    """Tag of this version. Default: v1, or the next free number."""
    private: bool = False
    """Make a new repository private. Otherwise the organization's setting counts."""
    dry_run: bool = False
    """Check everything, but upload nothing."""

    def run(self) -> int:
        from ..weights.publish import publish

        done = publish(self.folder, self.repo_id, tag=self.tag, private=self.private or None, dry_run=self.dry_run)
        files = ", ".join(f"{name} ({size:,} bytes)" for name, size in done.files.items())
        if self.dry_run:
            print(f"all checks pass; would be published as {done.repo_id}: {files}")
        else:
            print(f"published as {done.repo_id}, {done.tag}: {files}; the download equals the upload: {done.url}")
        return 0


@command(folder="FOLDER", about="ABOUT")
@dataclasses.dataclass(kw_only=True)
class Card:
    """Writes the model card (README.md) of a weight folder, which `vie publish` needs.

    It combines the folder, measured results and ABOUT, a JSON file with facts that only the author knows. ABOUT must have
    license (the Hub's identifier), license_text, summary, training_data, procedure, intended_use and limits, and may have
    commands and evaluation.
    """

    folder: Path
    """Weight folder. Its name, MODEL.TAG, becomes the name of the weight set."""
    about: Path
    """JSON file with the author's statements."""
    results: tuple[Path, ...] = ()
    """Folders with results.json. The card shows their numbers for these weights and for runs with other seeds."""

    def run(self) -> int:
        from ..evaluate.report import measured_of, read_rows
        from ..models.weight_folder import hash_of_weights, load_folder
        from ..weights.card import stated, write_card
        from ..weights.catalog import CARD

        fields = self._stated()
        rows = read_rows(list(self.results)) if self.results else []
        measured = measured_of(hash_of_weights(load_folder(self.folder)), rows)
        if ours := sorted({"name", "measured"} & set(fields)):
            raise ValueError(f"{self.about} has {ours[0]}, which comes from the folder and --results: leave it out")
        name = self.folder.resolve().name
        about = stated({"commands": self._commands(), **fields, "name": name, "measured": measured}, self.about)
        write_card(self.folder, about)
        print(f"{self.folder / CARD}: {len(measured)} measured numbers")
        return 0

    def _stated(self) -> dict[str, Any]:
        try:
            fields = json.loads(self.about.read_text())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"no file {self.about}: write the author's statements there; see `vie card --help`"
            ) from None
        except ValueError as error:
            raise ValueError(f"{self.about} must be a JSON file: {error}") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{self.about} must hold one JSON object with the fields of a card, got {type(fields).__name__}")
        return fields

    def _commands(self) -> list[str]:
        from ..train.export import TRAINING

        file = self.folder / TRAINING
        command = json.loads(file.read_text())["command"] if file.exists() else None
        return [command] if command else []


@command(run_folder="RUN", out="OUT")
@dataclasses.dataclass(kw_only=True)
class Export:
    """Writes a run's last checkpoint and its memory bank as a weight folder that from_pretrained loads."""

    run_folder: Path
    """Run folder of `vie train`."""
    out: Path
    """Weight folder to write."""
    dtype: Literal["float32", "float16"] = "float32"
    """Precision of the stored weights and bank. float16 files are half as large, and load as float32."""

    def run(self) -> int:
        import torch

        from ..train import export_run

        print_weights(export_run(self.run_folder, self.out, getattr(torch, self.dtype)), self.out)
        return 0


def print_weights(model: Any, folder: Path) -> None:
    """Prints the model and the files of a weight folder."""
    files = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"{folder}: {model.model_name} of width {model.model_args['width']}: {files}")
