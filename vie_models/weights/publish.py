"""Publishes a weight folder as a Hugging Face Hub repository: checks it, uploads one commit, verifies and tags it."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..files import sha256_of
from ..models import Encoder, WeightsError
from ..models.cost import output_size
from ..models.weight_folder import BANK, CONFIG, MODEL, hash_of_weights, load_folder, read_bank
from .card import checked_data, write_published_card
from .catalog import CARD
from .joined import write_published

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FORBIDDEN = {".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth", ".tar", ".py"}
"""Suffixes of files that can hold code. No weight set needs them."""
UNLICENSED = {"unknown", "not stated", "none"}
"""What cards say where there is no license."""


@dataclasses.dataclass(frozen=True)
class Published:
    """What was published, or would be published in a dry run."""

    repo_id: str
    tag: str
    files: dict[str, int]
    """Size of each file, in bytes."""
    url: str | None
    """Address of the commit; None for a dry run."""


def publish(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    tag: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    commit_message: str | None = None,
    dry_run: bool = False,
) -> Published:
    """Uploads a weight folder with its card to the Hub as one commit, downloads and compares it, then tags it.

    Its card says how to load it from there.

    Args:
        folder: config.json, model.safetensors, README.md, and optionally bank.safetensors, classes.txt, training.json. A
            two-pathway set that refers to two other sets is uploaded with tensors of its own.
        repo_id: "org/name"; created if it does not exist.
        tag: name of the version. Default: "v1", or the next free number.
        private: whether a newly created repository is private. None leaves it to the organization's setting.
        token, endpoint: as in huggingface_hub.
        commit_message: default: the model's name and the tag.
        dry_run: check everything locally and upload nothing.

    Raises:
        WeightsError: card, hashes, configuration and tensors do not agree (see `check`), or the Hub's files differ from ours.
        ValueError: the tag exists already.
        huggingface_hub errors: no permission, no network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo_id)
    with tempfile.TemporaryDirectory() as made:
        upload = Path(made)
        _refuse_strangers(Path(folder))
        write_published(Path(folder), upload)
        model = check(upload)
        write_published_card(upload, repo_id, model)
        files = {path.name: path.stat().st_size for path in sorted(upload.iterdir())}
        if dry_run:
            return Published(repo_id, tag or "v1", files, None)
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        taken = {ref.name for ref in api.list_repo_refs(repo_id).tags}
        if tag in taken:
            raise ValueError(f"{repo_id} already has a tag {tag}, and published versions never change: choose another tag")
        tag = tag or next(name for name in (f"v{i}" for i in range(1, len(taken) + 2)) if name not in taken)
        message = commit_message or f"{model.model_name}, {tag}"
        commit = api.upload_folder(repo_id=repo_id, folder_path=upload, commit_message=message, delete_patterns="*")
        _verify_upload(api, repo_id, commit.oid, upload, model)
        api.create_tag(repo_id, tag=tag, revision=commit.oid)
        return Published(repo_id, tag, files, commit.commit_url)


def _refuse_strangers(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give a weight folder, such as `vie export` writes")
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and (path.is_dir() or path.suffix in FORBIDDEN):
            raise WeightsError(f"{path} does not belong in a weight set, which has no folders and no code: move it away")


def check(folder: Path) -> Encoder:
    """Checks that the card, hashes, configuration and tensors of a weight folder agree, and returns its encoder.

    Raises:
        WeightsError: they do not agree. The message says which, and what to do.
    """
    data = _card_data(folder)
    model = load_folder(folder)
    claimed, found = data["vie_models"], checked_data(model, folder)
    of_card, of_files = claimed.get("sha256", {}), found["sha256"]
    for name in sorted({*of_card, *of_files}):
        says, has = of_card.get(name, "nothing"), of_files.get(name, "no such file")
        if says != has:
            raise WeightsError(f"SHA-256 of {name} differs: {CARD} says {says}, the folder has {has}. {_AGAIN}")
    for key in ("architecture", "parameters", "gflops"):
        if claimed.get(key) != found[key]:
            raise WeightsError(f"{CARD} says {key} {claimed.get(key)!r}, but {CONFIG} gives {found[key]!r}. {_AGAIN}")
    if bad := [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]:
        raise WeightsError(f"{MODEL}: {bad[0]} has infinite or NaN values: train again, or export an earlier step")
    if (bank := read_bank(folder)) is not None:
        _check_bank(bank, model)
    return model


_AGAIN = "If the folder is right, write the card again (vie card)"


def _card_data(folder: Path) -> dict[str, Any]:
    """Returns the YAML block of a card, which the Hub and `check` read."""
    from huggingface_hub import ModelCard

    if not (folder / CARD).exists():
        raise WeightsError(f"the model card {CARD} is missing: write one (vie card)")
    try:
        data = ModelCard((folder / CARD).read_text()).data.to_dict()
    except Exception as error:  # from the YAML parser, or from the Hub's checks of its content
        raise WeightsError(f"the YAML block of {CARD} cannot be read: {error}") from error
    for key in ("license", "library_name", "vie_models"):
        if not data.get(key):
            raise WeightsError(f"the YAML block of {CARD} has no {key}: write the card again (vie card)")
    if str(data["license"]).lower() in UNLICENSED:
        raise WeightsError(
            f"{CARD} says license {data['license']!r}, which is none: give the Hub's identifier of one (apache-2.0, cc-by-4.0, "
            "other, ...) as license in about.json (vie card) or in model_card_kwargs"
        )
    if not isinstance(data["vie_models"], dict) or data["library_name"] != "vie_models":
        raise WeightsError(f"{CARD} must be the card of a vie_models weight set, got library_name {data['library_name']!r}")
    return data


def _check_bank(bank: Mapping[str, torch.Tensor], model: Encoder) -> None:
    rows, labels = bank["memory_bank"], bank["labels"]
    if rows.ndim != 2 or rows.shape[1] != output_size(model) or labels.shape != rows.shape[:1]:
        raise WeightsError(
            f"{BANK} must have rows [N, {output_size(model)}] and labels [N] for {model.model_name}, "
            f"got {list(rows.shape)} and {list(labels.shape)}"
        )
    if not ((rows.norm(dim=1) - 1).abs() < 0.01).all():
        raise WeightsError(f"{BANK} has rows that are not of unit length, so it is not a bank of embeddings")


def _verify_upload(api: HfApi, repo_id: str, revision: str, sent: Path, model: Encoder) -> None:
    """Downloads the commit to a fresh cache, and compares all files and the encoder's weights with what was sent."""
    with tempfile.TemporaryDirectory() as cache:
        there = Path(api.snapshot_download(repo_id, revision=revision, cache_dir=cache))
        for path in sent.iterdir():
            if not (there / path.name).exists() or sha256_of(there / path.name) != sha256_of(path):
                raise WeightsError(f"{path.name} in {repo_id}, commit {revision}, differs from the file sent: not tagged")
        if hash_of_weights(load_folder(there)) != hash_of_weights(model):
            raise WeightsError(f"the weights in {repo_id}, commit {revision}, differ from those sent: not tagged")
