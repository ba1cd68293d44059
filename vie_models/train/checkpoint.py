"""Checkpoints of a run: written atomically, verified when read, and loadable with any number of ranks.

    RUN/checkpoints/step-000005000/   state.pt (what all ranks share), bank-0-of-2.pt ... (each rank's part), hashes.json

A checkpoint is written under a temporary name and then renamed. All ranks must see the same folder.
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
    """A checkpoint, or every checkpoint of a run, differs from what was written."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    path: Path

    def state(self) -> dict[str, Any]:
        """Reads the state that all ranks share, onto the CPU."""
        return _read(self.path / STATE)

    def parts(self) -> list[dict[str, Any]]:
        """Reads each rank's own part, in order of rank, memory-mapped from disk."""
        return sorted((_read(path, mmap=True) for path in self.path.glob("bank-*.pt")), key=lambda part: part["rank"])


class Checkpoints:
    """The checkpoints in a folder. Methods are collective: all ranks call them.

    Args:
        folder: folder of the checkpoints.
        keep: number of checkpoints to keep, the newest ones.
        world: the ranks. Default: one process.
    """

    def __init__(self, folder: Path, *, keep: int = 3, world: World | None = None) -> None:
        self.folder, self.keep, self.world = folder, keep, world or World()

    def save(self, step: int, state: dict[str, Any], part: dict[str, Any] | None = None) -> None:
        """Writes the checkpoint of a step, unless it exists, and removes the oldest ones beyond `keep`.

        Args:
            step: number of steps made.
            state: the state that all ranks share. Rank 0's is written.
            part: this rank's own part.

        Raises:
            OSError: a rank could not write it. Earlier checkpoints are intact.
        """
        target = self.folder / f"step-{step:09d}"
        made = self.folder / f".{target.name}"
        if self.world.from_first(target.exists()):  # it was verified when the run started, or written since
            return
        if self.world.is_first:
            with contextlib.suppress(OSError):  # the write below reports the error
                for left in self.folder.glob(".step-*"):  # left by a killed run
                    shutil.rmtree(left)
                made.mkdir(parents=True)
        self.world.gather_objects(None)  # wait until the folder exists
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
                f"the checkpoint of step {step} could not be written to {self.folder}: {error}. Earlier checkpoints are "
                "intact: make room, and start the same command again"
            )

    def _all(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name))

    def newest(self) -> Checkpoint | None:
        """Returns the newest undamaged checkpoint, or None if there are no checkpoints.

        Renames damaged checkpoints to `step-....damaged`, with a warning.

        Raises:
            DamagedCheckpointError: there are checkpoints, and all of them are damaged.
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
                warnings.warn(
                    f"{path} is damaged ({damage}): it is renamed to {aside.name}, and an earlier one is tried", stacklevel=2
                )
            damaged = bool(paths) and found is None
        else:
            damaged = False
        found, damaged = self.world.from_first((found, damaged))
        if damaged:
            raise DamagedCheckpointError(
                f"every checkpoint in {self.folder} is damaged: restore a copy, or remove the folder to start again"
            )
        return None if found is None else Checkpoint(found)


def open_checkpoint(path: Path) -> Checkpoint:
    """Returns the checkpoint in the folder `path`, verified.

    Raises:
        FileNotFoundError: there is no such folder.
        DamagedCheckpointError: the checkpoint differs from what was written.
    """
    if not path.is_dir():
        known = ", ".join(other.name for other in sorted(path.parent.glob("step-*"))) or "none"
        raise FileNotFoundError(f"there is no checkpoint {path}; its folder has: {known}")
    if damage := _damage(path):
        raise DamagedCheckpointError(f"{path} is damaged ({damage}): continue from another checkpoint of that run")
    return Checkpoint(path)


def _damage(path: Path) -> str | None:
    """Returns what is wrong with a checkpoint, or None."""
    try:
        expected = json.loads((path / HASHES).read_text())
        for name, digest in expected.items():
            if sha256_of(path / name) != digest:
                return f"{name} differs from what was written"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None if STATE in expected else f"it has no {STATE}"


def _write(path: Path, content: dict[str, Any]) -> str:
    """Writes a file and returns its SHA-256."""
    torch.save(content, path)
    return sha256_of(path)


def _read(path: Path, mmap: bool = False) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)  # type: ignore[no-any-return]
