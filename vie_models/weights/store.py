"""Loads models from the catalog, a local folder or file, or the Hugging Face Hub, and verifies the stored files.

A catalog record with files comes with the package as a folder (models/weight_folder.py); the record has the hash of each file.
For any other record, the file is downloaded once, converted once, and kept as a weight folder under
`torch.hub.get_dir()/checkpoints/vie_models/<name>`, which follows TORCH_HOME and XDG_CACHE_HOME. Its hashes.json has the hashes
of the download and of each file. Beside the folder, <name>.sha256 has the hash that every later download must have.
Hub repositories stay in the Hub's own cache (HF_HOME, HF_HUB_CACHE).
"""

from __future__ import annotations

import difflib
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..clip_spec import ClipSpec
from ..models import MODELS, Encoder, WeightsError, build_model, model_entry
from ..models.pretrained import load_pretrained, with_classes
from ..models.weight_folder import CONFIG, assign_weights, build_from_config, load_folder, read_weights, unwrapped
from .cache import load_record
from .catalog import CATALOG, find_record
from .tensorflow.bundle import read_checkpoint
from .tensorflow.convert import load_tensorflow

REPOSITORY = re.compile(r"(?!checkpoints/)\w[\w.-]*/\w[\w.-]*")
"""The id of a Hub repository, org/name. Names of folders have this form too, if they are relative and of two parts."""


def create_model(
    name: str,
    pretrained: bool | None = None,
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
        name: a registered model ("vie_3dresnet"), or one of its weight sets ("vie_3dresnet.k400").
        pretrained: True loads the weight set that is named, or the model's default one. False builds the encoder untrained,
            with the sizes of that set. None loads a set that is named, and nothing for a model.
        checkpoint_path: weights to load instead: a weight folder, a .safetensors file, a TensorFlow checkpoint
            (tar, prefix or .index) or a PyTorch state_dict (read with weights_only=True).
        num_classes: None for embeddings [B, D], 0 for pooled features [B, F], N for logits [B, N]. N keeps the checkpoint's
            head if that has N classes, and makes a new head otherwise. None keeps the head of a weight folder.
        clip_spec: clips that the model takes, if they are not the registered ones.
        cache_dir: folder for downloaded weights, instead of torch.hub's.
        progress: show a progress bar while downloading.
        **sizes: width=, fast_width= and static_width=, in channels.

    Raises:
        ValueError: unknown name, size or combination of arguments.
        FileNotFoundError: nothing exists at `checkpoint_path`.
        CheckpointError: a TensorFlow checkpoint is damaged or does not fit the model.
        WeightsError: nobody has published such weights, or they cannot be downloaded, verified or fitted to the model.
    """
    name, _, tag = name.partition(".")
    model_entry(name)
    if (pretrained or tag) and checkpoint_path is not None:
        raise ValueError("give either pretrained=True (or a weight set's name) or checkpoint_path=, not both")
    record = find_record(name, tag) if pretrained or tag else None
    if record is not None and pretrained is not False:
        model = load_record(record, cache_dir=cache_dir, progress=progress)
        check_sizes(model, sizes, record.name)
    elif checkpoint_path is not None:
        model = load_checkpoint(name, checkpoint_path, num_classes=num_classes, **sizes)
    else:
        sizes = {**(record.model_args if record else {}), **sizes}
        return build_model(name, clip_spec=clip_spec, num_classes=num_classes, **sizes)
    if clip_spec is not None:
        model.clip_spec = clip_spec
    return with_classes(model, num_classes)


def check_sizes(model: Encoder, sizes: dict[str, Any], source: str) -> None:
    """Raises ValueError unless `sizes` equal those of the loaded weights."""
    for size, value in sizes.items():
        if size not in model.model_args or model.model_args[size] != value:
            raise ValueError(f"{source} has the sizes {model.model_args}, got {size}={value}; leave it out, or train your own")


def create_outline(name: str, *, checkpoint_path: str | os.PathLike[str] | None = None) -> Encoder:
    """Builds the encoder that `create_model(name, pretrained=True)` or (name, checkpoint_path=...) loads, without its weights.

    It lies on the meta device, in evaluation mode. Nothing is downloaded, and of a checkpoint, only the config.json of a weight
    folder is read: any other has the sizes that are registered for the model.

    Raises:
        ValueError: unknown name.
        FileNotFoundError: nothing exists at `checkpoint_path`.
        WeightsError: nobody has published such weights, or the config.json is damaged.
    """
    name, _, tag = name.partition(".")
    model_entry(name)
    if checkpoint_path is None:
        sizes = find_record(name, tag).model_args
    elif (Path(checkpoint_path) / CONFIG).exists():
        return build_from_config(Path(checkpoint_path) / CONFIG, device="meta").eval()
    elif Path(checkpoint_path).exists():
        sizes = {}
    else:
        raise FileNotFoundError(f"no checkpoint at {checkpoint_path}")
    with torch.device("meta"):
        return build_model(name, **sizes).eval()


# --- the user's files and folders ------------------------------------------------------------------------------------


def load_checkpoint(name: str, path: str | os.PathLike[str], *, num_classes: int | None = None, **sizes: Any) -> Encoder:
    """Loads the weights at `path` into the model `name`, in evaluation mode. `create_model` says what `path` can be."""
    path = Path(path)
    if path.is_dir() and (path / CONFIG).exists():
        model = load_folder(path)
        if model.model_name != name:
            raise ValueError(f"{path} holds {model.model_name}, not {name}")
        check_sizes(model, sizes, str(path))
        return model
    if path.suffix == ".safetensors":
        state = read_weights(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        state = unwrapped(_read_torch(path), path)
    elif path.exists() or path.with_name(f"{path.name}.index").exists():
        return load_tensorflow(read_checkpoint(path), name, path, **sizes)
    else:
        raise _nowhere(path, "no folder and no file")
    with torch.device("meta"):
        model = build_model(name, num_classes=None if num_classes is None else _saved_classes(state, num_classes), **sizes)
    assign_weights(model, state, path)
    return model.eval()


def _saved_classes(state: Mapping[str, Tensor], wanted: int) -> int | None:
    """Returns num_classes of the head in `state`. 128 rows are taken for an embedding head unless 128 classes are wanted."""
    if "static.head.weight" in state:
        return None
    rows = state["head.weight"].shape[0] if "head.weight" in state else 0
    return None if rows == Encoder.embedding_size != wanted else rows


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError and others
        raise WeightsError(f"{path} must be a PyTorch file that holds only tensors: {error}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} must hold a state_dict (names to tensors), or one under the key 'state_dict'")
    return state


# --- the Hugging Face Hub --------------------------------------------------------------------------------------------


def from_pretrained(
    repo_or_folder: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
    num_classes: int | None = None,
) -> Encoder:
    """Loads the encoder of a weight folder, a weight set or a Hub repository, in evaluation mode. Loading is strict.

    Args:
        repo_or_folder: an existing folder; or the name of a weight set ("vie_3dresnet.k400"); or the id of a repository, a
            string "org/name". A `Path` is always a folder, and so is "checkpoints/...", where a clone of vie_models has sets.
        revision: branch, tag or commit of a repository, as in huggingface_hub.
        token: access token for a private repository, as in huggingface_hub.
        cache_dir: where repositories are kept (default: HF_HOME), or weight sets (default: torch.hub's folder).
        force_download: download files of a repository again that are cached.
        local_files_only: download nothing; use what is cached.
        num_classes: None keeps the saved head. Another value makes a new head if the saved one differs in its classes.

    Raises:
        FileNotFoundError: there is no such folder, and no such repository here while the Hub does not answer.
        ValueError: revision or force_download for a weight set, which has one version.
        WeightsError: the files are damaged or do not hold a VIE encoder.
        huggingface_hub errors: the repository, revision or file does not exist.
    """
    if Path(repo_or_folder).is_dir():
        return load_pretrained(repo_or_folder, num_classes=num_classes)
    if repo_or_folder in CATALOG:
        if revision is not None or force_download:
            raise ValueError(
                f"{repo_or_folder} is a weight set, which has one version, checked at every load: leave out revision= and "
                "force_download=, or name a repository (org/name)"
            )
        model = load_record(CATALOG[str(repo_or_folder)], cache_dir=cache_dir, local_files_only=local_files_only)
        return with_classes(model, num_classes)
    if not isinstance(repo_or_folder, str) or not REPOSITORY.fullmatch(repo_or_folder):
        raise _nowhere(repo_or_folder, "no folder here, no weight set and no Hub repository (org/name)")
    return load_pretrained(
        repo_or_folder,
        num_classes=num_classes,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        force_download=force_download,
        local_files_only=local_files_only,
    )


def _nowhere(wanted: object, what: str) -> FileNotFoundError:
    """The error about something to load that is not there."""
    name = Path(str(wanted)).name
    remedy = ""
    if name in CATALOG:
        remedy = f"; the weight set {name} is loaded by this name alone"
    elif name in MODELS:
        remedy = f"; {name} is a model: create_model({name!r}, pretrained=True) loads its weights"
    elif near := difflib.get_close_matches(name, CATALOG, 1):
        remedy = f"; is the weight set {near[0]} meant?"
    return FileNotFoundError(f"{wanted} is {what}{remedy}")


def load_weights(name: str, weights: Path, **sizes: Any) -> Encoder:
    """Loads an encoder from the name of a published set, or from a checkpoint_path of `create_model` for the model `name`."""
    if str(weights) in CATALOG:
        model = str(weights).partition(".")[0]
        if model != name:
            raise ValueError(f"{weights} holds {model}, not {name}: name that model, or other weights")
        return create_model(str(weights), **sizes)
    return create_model(name, checkpoint_path=weights, **sizes)
