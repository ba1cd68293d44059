"""Gets weights and gives models: from the catalog, a local folder or file, or the Hugging Face Hub. What is kept is verified.

A catalog record with files comes with the package, as a weight folder (see folder.py); the record says what each file must be.
Another's file is fetched once, converted once, and kept as a weight folder under
`torch.hub.get_dir()/checkpoints/vie_models/<name>`, which follows TORCH_HOME and XDG_CACHE_HOME; hashes.json in it says what
was fetched and what each file must be, and <name>.sha256 beside it what every later fetch must be.
Hub repositories stay in the Hub's own cache (HF_HOME, HF_HUB_CACHE).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import Tensor

from ..clip_spec import ClipSpec
from ..models import Encoder, build_model, model_entry
from ..models.encoder import EMBEDDING_SIZE
from .catalog import WeightRecord, list_weights, weights_of
from .download import download
from .errors import WeightsError
from .folder import (
    BANK,
    CONFIG,
    MODEL,
    assign_weights,
    load_files,
    load_folder,
    read_bank,
    read_tensors,
    replacing,
    save_pretrained,
    sha256_of,
    write_tensors,
)
from .tensor_bundle import CheckpointError, read_checkpoint
from .tensorflow import tf_memory_bank, tf_to_state_dict, tf_width

HASHES = "hashes.json"


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    checkpoint_path: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    clip_spec: ClipSpec | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **sizes: Any,
) -> Encoder:
    """Builds an encoder by name, untrained (in training mode) or with weights (in evaluation mode).

    Args:
        name: a registered model ("vie_3dresnet"), or one of its weight sets ("vie_3dresnet.k400"), which is then loaded.
        pretrained: load the model's default published weight set.
        checkpoint_path: load weights from here instead: a weight folder, a .safetensors file, a TensorFlow checkpoint
            (tar, prefix or .index) or a PyTorch state_dict (read with weights_only=True).
        num_classes: None embeds, 0 gives pooled features, N gives logits: of the checkpoint's head if it has N classes,
            else of a new one. A weight folder says what its head is: there None keeps it.
        clip_spec: clips the model is for, where they are not the registered ones.
        cache_dir: where fetched weights are kept, instead of torch.hub's folder.
        progress: show a bar while fetching.
        **sizes: width=, fast_width=, static_width=.

    Raises:
        ValueError: unknown name, size or combination.
        WeightsError: nobody has published such weights, or they cannot be fetched, verified or fitted.
    """
    name, _, tag = name.partition(".")
    model_entry(name)
    if (pretrained or tag) and checkpoint_path is not None:
        raise ValueError("give either pretrained=True (or a weight set's name) or checkpoint_path=, not both")
    if pretrained or tag:
        record = find_record(name, tag)
        model = load_record(record, cache_dir=cache_dir, progress=progress)
        check_sizes(model, sizes, record.name)
    elif checkpoint_path is not None:
        model = load_checkpoint(name, checkpoint_path, num_classes=num_classes, **sizes)
    else:
        return build_model(name, clip_spec=clip_spec, num_classes=num_classes, **sizes)
    if clip_spec is not None:
        model.clip_spec = clip_spec
    return with_classes(model, num_classes)


def with_classes(model: Encoder, num_classes: int | None) -> Encoder:
    """`model` with a new head if `num_classes` asks for another than it has; None keeps the head."""
    if num_classes is not None and num_classes != model.num_classes:
        model.reset_classifier(num_classes)
    return model


def check_sizes(model: Encoder, sizes: dict[str, Any], source: str) -> None:
    """ValueError unless `sizes` are those that loaded weights have."""
    for size, value in sizes.items():
        if size not in model.model_args or model.model_args[size] != value:
            raise ValueError(f"{source} has the sizes {model.model_args}, got {size}={value}; leave it out, or train your own")


def find_record(name: str, tag: str = "") -> WeightRecord:
    """The record of "name.tag", or of the model's default weight set; WeightsError where nobody has published one."""
    records = {record.name: record for record in weights_of(name)}
    if tag and f"{name}.{tag}" in records:
        return records[f"{name}.{tag}"]
    if records and not tag:
        return next(iter(records.values()))
    wanted = f"{name}.{tag}" if tag else name
    options = [
        f"build it untrained: create_model({name!r})",
        "load your own: checkpoint_path=, or from_pretrained(folder or Hub repository)",
        f"use a published set: {', '.join(list_weights()) or 'there is none yet'}",
    ]
    raise WeightsError(f"nobody has published weights for {wanted}. You can " + "; ".join(options))


# --- catalog ---------------------------------------------------------------------------------------------------------


def load_record(record: WeightRecord, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Encoder:
    """The encoder of a catalog record, fetched if it is not in the cache, verified either way."""
    folder = fetch(record, cache_dir=cache_dir, progress=progress)
    _verify(record, folder, CONFIG, MODEL)
    model = load_folder(folder)
    model.weights = record
    return model


def load_memory_bank(name: str, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> dict[str, Tensor]:
    """The memory bank that came with a weight set ("vie_3dresnet.k400"), for looking up neighbours.

    Returns `memory_bank` float32 [N, D], the unit embedding of each training video, and `labels` int64 [N].
    """
    model, _, tag = name.partition(".")
    record = find_record(model, tag)
    folder = fetch(record, cache_dir=cache_dir, progress=progress)
    if record.files or (folder / BANK).exists():
        _verify(record, folder, BANK)
    if (bank := read_bank(folder)) is None:
        raise WeightsError(f"{name} came without a memory bank")
    return bank


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where catalog weights are kept."""
    return Path(cache_dir) if cache_dir else Path(torch.hub.get_dir()) / "checkpoints" / "vie_models"


def shipped_folder(record: WeightRecord) -> Path:
    """The folder of a set that comes with the package: inside it, or beside it in a clone."""
    package = Path(__file__).parent.parent
    for folder in (package / "checkpoints" / record.name, package.parent / "checkpoints" / record.name):
        if (folder / CONFIG).exists():
            return folder
    raise WeightsError(f"{record.name} comes with vie_models, and {folder} is not there: install vie_models again, whole")


def fetch(record: WeightRecord, *, cache_dir: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """The record's weight folder: the package's own, or in the cache, fetched and converted first if need be by one process."""
    if record.files:
        return shipped_folder(record)
    folder = cache_root(cache_dir) / record.name
    if (folder / HASHES).exists():  # written last and renamed in with the folder: all of it is there
        return folder
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise WeightsError(
            f"{record.name} is not in {folder.parent}, and HF_HUB_OFFLINE forbids fetching it: "
            f"unset it once, or copy {folder.name}/ there from a machine that has it"
        )
    lock = FileLock(folder.with_name(record.name + ".lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise WeightsError(
            f"cannot write to {folder.parent}, where {record.name} would be kept: {error.strerror}. "
            "Choose another place with TORCH_HOME or cache_dir="
        ) from error
    try:
        if not (folder / HASHES).exists():
            if folder.exists():
                raise WeightsError(
                    f"{folder} is in the way and not ours: it has no {HASHES}. Delete it or move it away, or choose another "
                    "place with TORCH_HOME or cache_dir="
                )
            archive = folder.with_name(record.name + ".tar")
            if not archive.exists():
                download(record.url, archive, progress=progress)
            _convert_archive(record, archive, folder)
            archive.unlink()
    finally:
        lock.release()
    return folder


def cache_state(record: WeightRecord, cache_dir: str | os.PathLike[str] | None = None) -> str:
    """In words: whether the record's weights are here, and where."""
    if record.files:
        return f"in {shipped_folder(record)}"
    folder = cache_root(cache_dir) / record.name
    return f"in {folder}" if (folder / HASHES).exists() else "not fetched yet"


def _convert_archive(record: WeightRecord, archive: Path, folder: Path) -> None:
    """Verifies the fetched tar and makes `folder` of it, at once; a tar that is not what it should be is removed."""
    digest = sha256_of(archive)
    first = folder.with_name(record.name + ".sha256")  # outlives the folder: a later fetch must bring the same file
    expected = record.sha256 or (first.read_text().strip() if first.exists() else digest)
    if digest != expected:
        archive.unlink()
        remedy = "The file was removed; load again to fetch it anew"
        if record.sha256 is None:
            remedy += f". If the publisher has replaced the file and you trust it, delete {first}"
        raise _mismatch(record.url, expected, digest, remedy)
    made = folder.with_name(f".{record.name}")  # always this name, so that what a killed process left does not pile up
    shutil.rmtree(made, ignore_errors=True)
    try:
        made.mkdir()
        convert_tensorflow(archive, made, record.model, record=record, **record.model_args)
        hashes = {
            "source": {"url": record.url, "sha256": digest},
            "files": {path.name: sha256_of(path) for path in sorted(made.iterdir())},
        }
        (made / HASHES).write_text(json.dumps(hashes, indent=2) + "\n")
        with replacing(first) as path:
            path.write_text(digest + "\n")
        made.rename(folder)
    except CheckpointError as error:
        archive.unlink()
        raise WeightsError(
            f"what {record.url} sent is not {record.name}: {error}. The file was removed; load again to fetch it anew"
        ) from error
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
        raise WeightsError(
            f"cannot convert {archive}: {error}; about {archive.stat().st_size / 1e6:.1f} MB are needed for it, "
            f"{shutil.disk_usage(folder.parent).free / 1e6:.1f} MB are free. Make room, or choose another place with "
            "TORCH_HOME or cache_dir=; the file fetched is kept"
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def convert_tensorflow(
    source: str | os.PathLike[str], folder: Path, model_name: str, *, record: WeightRecord | None = None, **sizes: Any
) -> Encoder:
    """Makes a weight folder of a TensorFlow checkpoint: encoder, and memory bank with labels where there is one."""
    variables = read_checkpoint(source)
    model = load_tensorflow(variables, model_name, source, **sizes)
    model.weights = record
    save_pretrained(model, folder)
    if (bank := tf_memory_bank(variables)) is not None:
        write_tensors(folder / BANK, bank)
    return model


def _verify(record: WeightRecord, folder: Path, *names: str) -> None:
    """The files are what the record says, or what hashes.json recorded, made of the file that the record is of."""
    if record.files:
        here = {file: digest for file, digest in record.files.items() if Path(file).name in names}
        return _compare(folder, here, "Install vie_models again")
    try:
        recorded = json.loads((folder / HASHES).read_text())
        source = str(recorded["source"]["sha256"])
        expected = {name: str(recorded["files"][name]) for name in names}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / HASHES} is damaged ({error!r}); delete {folder} and load again") from error
    if record.sha256 not in (None, source):
        raise _mismatch(f"what {folder} was made of", str(record.sha256), source, f"Delete {folder} and load again")
    _compare(folder, expected, f"Delete {folder} and load again to fetch it anew")


def _compare(folder: Path, expected: Mapping[str, str], remedy: str) -> None:
    for name, digest in expected.items():
        found = sha256_of(folder / name) if (folder / name).exists() else "no file"
        if found != digest:
            raise _mismatch(folder / name, digest, found, remedy)


def _mismatch(file: object, expected: str, found: str, remedy: str) -> WeightsError:
    return WeightsError(f"{file} is not what it should be: expected SHA-256 {expected}, found {found}. {remedy}")


# --- files and folders of the user's ---------------------------------------------------------------------------------


def load_checkpoint(name: str, path: str | os.PathLike[str], *, num_classes: int | None = None, **sizes: Any) -> Encoder:
    """The model `name` with the weights at `path`, in evaluation mode; see `create_model` for what `path` can be."""
    path = Path(path)
    if path.is_dir() and (path / CONFIG).exists():
        model = load_folder(path)
        if model.model_name != name:
            raise ValueError(f"{path} holds {model.model_name}, not {name}")
        check_sizes(model, sizes, str(path))
        return model
    if path.suffix == ".safetensors":
        state = read_tensors(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        state = _read_torch(path)
    else:
        return load_tensorflow(read_checkpoint(path), name, path, **sizes)
    with torch.device("meta"):
        model = build_model(name, num_classes=None if num_classes is None else _saved_classes(state, num_classes), **sizes)
    assign_weights(model, state, path)
    return model.eval()


def _saved_classes(state: Mapping[str, Tensor], wanted: int) -> int | None:
    """num_classes of the head in `state`. One of 128 rows embeds, unless 128 classes are wanted: the file does not say."""
    if "static.head.weight" in state:
        return None
    rows = state["head.weight"].shape[0] if "head.weight" in state else 0
    return None if rows == EMBEDDING_SIZE != wanted else rows


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError and others for what it will not read
        raise WeightsError(f"{path} is not a PyTorch file of tensors alone: {error}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} must hold a state_dict (names to tensors), or one under the key 'state_dict'")
    return state


def load_tensorflow(variables: Any, name: str, source: object, **sizes: Any) -> Encoder:
    """The model `name` with TensorFlow variables, in evaluation mode; as wide as they are unless `sizes` say otherwise."""
    with torch.device("meta"):
        model = build_model(name, **{"width": tf_width(variables), **sizes})
    assign_weights(model, tf_to_state_dict(variables, model), source)
    return model.eval()


# --- the Hugging Face Hub --------------------------------------------------------------------------------------------


def from_pretrained(
    repo_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    num_classes: int | None = None,
) -> Encoder:
    """The encoder in a local weight folder or a Hub repository ("org/name"), in evaluation mode; strict.

    Args:
        repo_or_folder: an existing folder, else a repository id.
        revision, token, cache_dir, local_files_only: as in huggingface_hub; for repositories only.
        num_classes: None keeps the saved head; otherwise a new one if the saved head has not as many classes.

    Raises:
        FileNotFoundError: neither a folder nor a repository id.
        WeightsError: files that are damaged or are not a VIE encoder's.
        huggingface_hub errors: the repository, revision or file cannot be had; offline and not cached.
    """
    if Path(repo_or_folder).is_dir():
        return with_classes(load_folder(repo_or_folder), num_classes)
    config, weights = hub_files(
        str(repo_or_folder),
        (CONFIG, MODEL),
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
    )
    model = load_files(config, weights)
    return with_classes(model, num_classes)


def hub_files(repo_id: str, names: tuple[str, ...], **options: Any) -> list[Path]:
    """Files of a Hub repository in the Hub's cache, verified."""
    from huggingface_hub import hf_hub_download

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise FileNotFoundError(f"{repo_id!r} is neither a folder here nor a Hub repository id (org/name)")
    paths = [Path(hf_hub_download(repo_id, name, **options)) for name in names]
    for path in paths:
        _verify_blob(path)
    return paths


def _verify_blob(path: Path) -> None:
    """The Hub's cache names a blob by its ETag: the SHA-256 of a large file, git's SHA-1 of a small one."""
    name = path.readlink().name if path.is_symlink() else ""  # the blob may itself be a link, to where repositories share
    if re.fullmatch(r"[0-9a-f]{64}", name):
        found = sha256_of(path)
    elif re.fullmatch(r"[0-9a-f]{40}", name):
        content = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return  # a file system without links: the cache does not say what the file should be
    if found != name:
        raise WeightsError(
            f"{path} is not what it should be: expected {name}, found {found}. "
            f"Delete {path.resolve()} and load again to fetch it anew"
        )
