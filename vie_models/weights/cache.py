"""The files of a catalog record: downloaded once, converted once, kept, and verified at every load."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..files import locked, replacing, sha256_of
from ..models import Encoder, WeightsError
from ..models.weight_folder import BANK, CONFIG, MODEL, json_text, load_folder, pathways, read_bank, write_json
from . import catalog
from .catalog import WeightRecord, find_record
from .download import download
from .joined import published_config
from .tensorflow.bundle import CheckpointError
from .tensorflow.convert import convert_tensorflow

HASHES = "hashes.json"


def load_record(
    record: WeightRecord,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    local_files_only: bool = False,
) -> Encoder:
    """Returns the encoder of a catalog record. Downloads it if necessary and allowed, and verifies it always."""
    folder = fetch(record, cache_dir=cache_dir, progress=progress, local_files_only=local_files_only)
    _verify(record, folder, CONFIG, MODEL)
    model = load_folder(folder)
    model.weights = record
    return model


def load_memory_bank(name: str, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> dict[str, Tensor]:
    """Returns the memory bank of a weight set ("vie_3dresnet.k400"), in which to look up neighbors.

    Args:
        name: a weight set, or a model for its default one.
        cache_dir: folder for downloaded weights, instead of torch.hub's.
        progress: show a progress bar while downloading.

    Returns:
        `memory_bank` float32 [N, D], the unit-length embedding of each training video, and `labels` int64 [N].

    Raises:
        WeightsError: nobody has published such weights, they have no bank, or they cannot be downloaded or verified.
    """
    model, _, tag = name.partition(".")
    record = find_record(model, tag)
    folder = fetch(record, cache_dir=cache_dir, progress=progress)
    if not record.url or (folder / BANK).exists():
        _verify(record, folder, BANK)
    if (bank := read_bank(folder)) is None:
        raise WeightsError(f"{name} has no memory bank")
    return bank


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder of downloaded catalog weights."""
    return Path(cache_dir) if cache_dir else Path(torch.hub.get_dir()) / "checkpoints" / "vie_models"


def shipped_folder(record: WeightRecord) -> Path:
    """Returns the folder of a set that comes with the package: inside the package, or beside it in a clone."""
    folder = catalog.CHECKPOINTS / record.name
    if not (folder / CONFIG).exists():
        raise WeightsError(f"{record.name} comes with vie_models, but {folder} is missing: install vie_models again")
    return folder


def fetch(
    record: WeightRecord,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    local_files_only: bool = False,
) -> Path:
    """Returns the record's weight folder, in the package or the cache. One process downloads and converts it if necessary."""
    if not record.url:
        return shipped_folder(record)
    folder = cache_root(cache_dir) / record.name
    if (folder / HASHES).exists():  # written last and renamed with the folder, so the set is complete
        return folder
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline or local_files_only:
        who, remedy = ("HF_HUB_OFFLINE", "unset it once") if offline else ("local_files_only", "leave it out once")
        raise WeightsError(
            f"{record.name} is not in {folder.parent}, and {who} forbids downloading it: {remedy}, or copy {folder.name}/ "
            "there from a machine that has it"
        )
    try:
        with locked(folder.with_name(record.name + ".lock"), None):
            if not (folder / HASHES).exists():
                _fill(record, folder, progress)
    except OSError as error:
        raise WeightsError(
            f"cannot write to {folder.parent}, where {record.name} would be kept: {error.strerror}. "
            "Choose another place with TORCH_HOME or cache_dir="
        ) from error
    return folder


def _fill(record: WeightRecord, folder: Path, progress: bool) -> None:
    """Downloads and converts a record's file to `folder`."""
    if folder.exists():
        raise WeightsError(
            f"{folder} has no {HASHES}, so it is not a cached set. Delete it, move it away, or choose another "
            "place with TORCH_HOME or cache_dir="
        )
    archive = folder.with_name(record.name + ".tar")
    if not archive.exists():
        download(record.url, archive, progress=progress)
    _convert_archive(record, archive, folder)
    archive.unlink()


def cache_state(record: WeightRecord, cache_dir: str | os.PathLike[str] | None = None) -> str:
    """Says in words whether the record's weights are on this machine, and where."""
    if not record.url:
        return f"in {shipped_folder(record)}"
    folder = cache_root(cache_dir) / record.name
    return f"in {folder}" if (folder / HASHES).exists() else "not fetched yet"


def size_in_bytes(record: WeightRecord, cache_dir: str | os.PathLike[str] | None = None) -> int | None:
    """Returns the size of a set's files on this machine, with those of its pathways; None if it is not fetched yet."""
    folder = shipped_folder(record) if not record.url else cache_root(cache_dir) / record.name
    if not folder.exists():
        return None
    folders = [folder, *pathways(folder).values()]
    return sum(file.stat().st_size for folder in folders for file in folder.glob("*") if file.name in (CONFIG, MODEL, BANK))


def _convert_archive(record: WeightRecord, archive: Path, folder: Path) -> None:
    """Verifies the downloaded tar and converts it to `folder`, atomically. A tar that fails verification is deleted."""
    digest = sha256_of(archive)
    first = folder.with_name(record.name + ".sha256")  # outlives the folder: a later download must give the same file
    expected = record.sha256 or (first.read_text().strip() if first.exists() else digest)
    if digest != expected:
        archive.unlink()
        remedy = "The file was deleted; load again to download a new copy"
        if record.sha256 is None:
            remedy += f". If the publisher has replaced the file and you trust it, delete {first}"
        raise _mismatch(record.url, expected, digest, remedy)
    made = folder.with_name(f".{record.name}")  # a fixed name, so leftovers of killed processes do not pile up
    shutil.rmtree(made, ignore_errors=True)
    try:
        made.mkdir()
        convert_tensorflow(archive, made, record.model, record=record, **record.model_args)
        hashes = {
            "source": {"url": record.url, "sha256": digest},
            "files": {path.name: sha256_of(path) for path in sorted(made.iterdir())},
        }
        write_json(made / HASHES, hashes)
        with replacing(first) as path:
            path.write_text(digest + "\n")
        made.rename(folder)
    except CheckpointError as error:
        archive.unlink()
        raise WeightsError(
            f"the file from {record.url} is not {record.name}: {error}. It was deleted; load again to download a new copy"
        ) from error
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
        raise WeightsError(
            f"cannot convert {archive}: {error}. It needs about {archive.stat().st_size / 1e6:.1f} MB, and "
            f"{shutil.disk_usage(folder.parent).free / 1e6:.1f} MB are free. Make room, or choose another place with "
            "TORCH_HOME or cache_dir=; the downloaded file is kept"
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _verify(record: WeightRecord, folder: Path, *names: str) -> None:
    """Compares files with the hashes in the record, or for a downloaded set with those in hashes.json and its source."""
    if not record.url:
        return _verify_shipped(record, folder, names)
    try:
        recorded = json.loads((folder / HASHES).read_text())
        source = str(recorded["source"]["sha256"])
        expected = {name: str(recorded["files"][name]) for name in names}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / HASHES} is damaged ({error!r}); delete {folder} and load again") from error
    if record.sha256 not in (None, source):
        raise _mismatch(f"the source of {folder}", str(record.sha256), source, f"Delete {folder} and load again")
    _compare(folder, expected, f"Delete {folder} and load again to download a new copy")


def _verify_shipped(record: WeightRecord, folder: Path, names: Iterable[str]) -> None:
    """Compares files with the hashes in the set's card, and a two-pathway set's tensors with those in its pathways' cards."""
    remedy = "Install vie_models again"
    if not (parts := pathways(folder)):
        return _compare(folder, {name: record.files[name] for name in names}, remedy)
    found = hashlib.sha256(json_text(published_config(folder)).encode()).hexdigest()
    if found != record.files[CONFIG]:
        raise _mismatch(folder / CONFIG, record.files[CONFIG], found, remedy)
    for part in parts.values():
        of_part = catalog.CATALOG[part.name]
        _verify_shipped(of_part, shipped_folder(of_part), names)


def _compare(folder: Path, expected: Mapping[str, str], remedy: str) -> None:
    for name, digest in expected.items():
        found = sha256_of(folder / name) if (folder / name).exists() else "no file"
        if found != digest:
            raise _mismatch(folder / name, digest, found, remedy)


def _mismatch(file: object, expected: str, found: str, remedy: str) -> WeightsError:
    return WeightsError(f"{file} is not what it should be: expected SHA-256 {expected}, found {found}. {remedy}")
