"""Checkpoints of a run: whole or not there, verified when read, and independent of how many ranks wrote them.

    RUN/checkpoints/step-000005000/   state.pt (what all ranks share), bank-0-of-2.pt ... (each rank's part), hashes.json

A checkpoint is written under another name and renamed. All ranks must see the same folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from ..bank.ranks import World
from ..files import sha256_of

CHECKPOINTS, STATE, HASHES = "checkpoints", "state.pt", "hashes.json"


class DamagedCheckpointError(RuntimeError):
    """No checkpoint of a run is as it was written."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, verified."""

    path: Path

    def state(self) -> dict[str, Any]:
        """What all ranks share, on the CPU."""
        return _read(self.path / STATE)

    def parts(self) -> list[dict[str, Any]]:
        """What each rank had for itself, in order of rank, mapped from disk."""
        return sorted((_read(path, mmap=True) for path in self.path.glob("bank-*.pt")), key=lambda part: part["rank"])


class Checkpoints:
    """The checkpoints in a folder. Methods are collective: all ranks call them.

    Args:
        folder: of the checkpoints.
        keep: how many are kept, the last ones.
        world: the ranks.
    """

    def __init__(self, folder: Path, *, keep: int = 3, world: World | None = None) -> None:
        self.folder, self.keep, self.world = folder, keep, world or World()

    def save(self, step: int, state: dict[str, Any], part: dict[str, Any] | None = None) -> None:
        """Writes the checkpoint of a step, unless it is there, and removes the oldest one too many.

        Args:
            step: how many steps have been made.
            state: what all ranks share; rank 0's is written.
            part: what is this rank's alone.

        Raises:
            OSError: a rank could not write it; those before are as they were.
        """
        target = self.folder / f"step-{step:09d}"
        made = self.folder / f".{target.name}"
        if self.world.from_first(target.exists()):  # verified when the run began, or written since
            return
        if self.world.is_first:
            with contextlib.suppress(OSError):  # the write to come will say it
                for left in self.folder.glob(".step-*"):  # by a killed run
                    shutil.rmtree(left)
                made.mkdir(parents=True)
        self.world.gather_objects(None)  # the folder is there
        hashes, error = {}, None
        try:
            if self.world.is_first:
                hashes[STATE] = _write(made / STATE, state)
            if part is not None:
                name = f"bank-{self.world.rank}-of-{self.world.size}.pt"
                hashes[name] = _write(made / name, part)
        except (OSError, RuntimeError) as failure:  # torch reports a full disk as a RuntimeError
            error = str(failure).splitlines()[0]
        outcomes = self.world.gather_objects((hashes, error))
        error = next((message for _, message in outcomes if message), None)
        if self.world.is_first:
            try:
                if error is None:
                    together = {name: digest for found, _ in outcomes for name, digest in found.items()}
                    (made / HASHES).write_text(json.dumps(together, indent=2) + "\n")
                    made.rename(target)
                    for path in self._all()[: -self.keep]:
                        shutil.rmtree(path)
            except OSError as failure:
                error = str(failure)
            if error is not None:
                shutil.rmtree(made, ignore_errors=True)
        error = self.world.from_first(error)
        if error is not None:
            raise OSError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {error}. The ones before are as they "
                "were: make room, and start the same command again"
            )

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name))

    def newest(self) -> Checkpoint | None:
        """The last checkpoint that is as it was written; None where there is none.

        One that is damaged is put aside under another name, with a warning.

        Raises:
            DamagedCheckpointError: there are some, and all of them are damaged.
        """
        found: Path | None = None
        if self.world.is_first:
            paths = self._all()
            for path in reversed(paths):
                if (damage := _damage(path)) is None:
                    found = path
                    break
                aside = path.with_name(f"{path.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
                warnings.warn(f"{path} is damaged ({damage}): it is put aside, and the one before is used", stacklevel=2)
            damaged = bool(paths) and found is None
        else:
            damaged = False
        found, damaged = self.world.from_first((found, damaged))
        if damaged:
            raise DamagedCheckpointError(
                f"every checkpoint in {self.folder} is damaged: remove the folder to begin again, or bring back a copy"
            )
        return None if found is None else Checkpoint(found)


def named(path: Path) -> Checkpoint:
    """The checkpoint in a folder, verified.

    Raises:
        FileNotFoundError: there is none.
        DamagedCheckpointError: it is not as it was written.
    """
    if not path.is_dir():
        there = ", ".join(other.name for other in sorted(path.parent.glob("step-*"))) or "none"
        raise FileNotFoundError(f"there is no checkpoint {path}; there are: {there}")
    if damage := _damage(path):
        raise DamagedCheckpointError(f"{path} is damaged ({damage}): go on from another checkpoint of that run")
    return Checkpoint(path)


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        expected = json.loads((path / HASHES).read_text())
        for name, digest in expected.items():
            if sha256_of(path / name) != digest:
                return f"{name} is not what was written"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None if STATE in expected else f"it has no {STATE}"


def _write(path: Path, content: dict[str, Any]) -> str:
    """Returns the hash of the file."""
    torch.save(content, path)
    return sha256_of(path)


def _read(path: Path, mmap: bool = False) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)  # type: ignore[no-any-return]
