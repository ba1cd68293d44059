"""`vie convert`, `export`, `join`, `card` and `publish`: weight folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg


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
        from ..weights.tensorflow.convert import convert_tensorflow

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
        from ..weights.folder import join

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
        from ..weights.publish import publish

        done = publish(self.folder, self.repo_id, tag=self.tag, private=self.private, dry_run=self.dry_run)
        files = ", ".join(f"{name} ({size:,} bytes)" for name, size in done.files.items())
        if self.dry_run:
            print(f"all of it agrees; would be published as {done.repo_id}: {files}")
        else:
            print(f"published as {done.repo_id}, {done.tag}: {files}; loaded back, and the same: {done.url}")
        return 0


@dataclasses.dataclass(kw_only=True)
class Card:
    """Writes the model card of a weight folder, README.md, which `vie publish` checks.

    ABOUT is a JSON file with what only its author knows: licence (the Hub's identifier), licence_text, summary, training_data,
    procedure, intended_use and limits; perhaps commands and evaluation. All else is taken from the folder and from results.
    """

    folder: Positional[Path]
    """A weight folder; its name, MODEL.TAG, is the set's."""
    about: Positional[Path]
    """The JSON file."""
    results: tuple[Path, ...] = ()
    """Folders with results.json: what they say of these weights, and of runs that differ in their seed, is in the card."""

    def run(self) -> int:
        from ..evaluate.report import measured_of, read_rows
        from ..weights.card import CARD, About, write_card
        from ..weights.folder import hash_of_weights, load_folder

        fields = json.loads(self.about.read_text())
        rows = read_rows(list(self.results)) if self.results else []
        measured = measured_of(hash_of_weights(load_folder(self.folder)), rows)
        try:
            about = About(name=self.folder.resolve().name, measured=measured, **{"commands": self._commands(), **fields})
        except TypeError as error:
            raise ValueError(f"{self.about} is not what a card needs: {error}") from error
        write_card(self.folder, about)
        print(f"{self.folder / CARD}: {len(measured)} measured numbers")
        return 0

    def _commands(self) -> list[str]:
        from ..train.export import TRAINING

        file = self.folder / TRAINING
        command = json.loads(file.read_text())["command"] if file.exists() else None
        return [command] if command else []


@dataclasses.dataclass(kw_only=True)
class Export:
    """Makes a weight folder of a run's last checkpoint: what from_pretrained loads, with the memory bank beside it."""

    run_folder: Annotated[Positional[Path], arg(name="run", metavar="RUN")]
    """Folder of `vie train`."""
    out: Positional[Path]
    """Folder to write to."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of weights and bank: float16 is half as large, and is loaded as float32."""

    def run(self) -> int:
        import torch

        from ..train.export import export

        print_weights(export(self.run_folder, self.out, getattr(torch, self.dtype)), self.out)
        return 0


def print_weights(model: Any, folder: Path) -> None:
    """What lies in a weight folder."""
    files = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"{folder}: {model.model_name} of width {model.model_args['width']}: {files}")
