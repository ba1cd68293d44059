"""Loads an encoder from a weight folder or a repository of the Hugging Face Hub, whose cached files are verified."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import sha256_of
from .errors import WeightsError
from .weight_folder import CONFIG, MODEL, load_files, load_folder

if TYPE_CHECKING:
    from .encoder import Encoder


def load_pretrained(repo_or_folder: str | os.PathLike[str], *, num_classes: int | None = None, **hub_options: Any) -> Encoder:
    """Loads an encoder in evaluation mode. Loading is strict.

    Args:
        repo_or_folder: an existing folder, or the id of a repository, "org/name".
        num_classes: None keeps the saved head. Another value makes a new head if the saved one differs in its classes.
        **hub_options: of `repository_files`; a folder needs none.
    """
    if Path(repo_or_folder).is_dir():
        model = load_folder(repo_or_folder)
    else:
        model = load_files(*repository_files(str(repo_or_folder), (CONFIG, MODEL), **hub_options))
    return with_classes(model, num_classes)


def with_classes(model: Encoder, num_classes: int | None) -> Encoder:
    """Returns `model`, with a new head if it has not `num_classes` classes. None keeps the head."""
    if num_classes is not None and num_classes != model.num_classes:
        model.reset_classifier(num_classes)
    return model


def repository_files(repo_id: str, names: tuple[str, ...], **options: Any) -> list[Path]:
    """Downloads files of a Hub repository to the Hub's cache, verifies them and returns their paths.

    `options` are those of `huggingface_hub.hf_hub_download`.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import RepositoryNotFoundError

    try:
        _ask_once(repo_id, names[0], **options)
        paths = [Path(hf_hub_download(repo_id, name, **options)) for name in names]
    except RepositoryNotFoundError as error:
        error.append_to_message(f"\nThere is no folder {repo_id} here either.")
        raise
    for path in paths:
        _verify_blob(path)
    return paths


def _ask_once(repo_id: str, name: str, *, revision: Any = None, cache_dir: Any = None, **options: Any) -> None:
    """Raises FileNotFoundError if a file is not cached and the Hub does not answer.

    huggingface_hub asks a Hub that does not answer six times, for half a minute. The name of a folder with a typing error has
    the form of a repository's id, so that would be the usual answer to it without a network.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import HfHubHTTPError

    if options.get("local_files_only") or constants.HF_HUB_OFFLINE:
        return
    if isinstance(try_to_load_from_cache(repo_id, name, cache_dir=cache_dir, revision=revision), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(repo_id, name, revision=revision), token=options.get("token"))
    except HfHubHTTPError:
        return  # it answers; hf_hub_download says what is wrong
    except Exception as error:  # of the HTTP client, which is another in each huggingface_hub
        raise FileNotFoundError(
            f"no folder {repo_id} here; the Hub, which may have such a repository, does not answer: {error}"
        ) from error


def _verify_blob(path: Path) -> None:
    """Checks a file against its blob's name in the Hub's cache: SHA-256 of a large file, git's SHA-1 of a small one."""
    name = path.readlink().name if path.is_symlink() else ""  # the blob may link on to a shared file
    if re.fullmatch(r"[0-9a-f]{64}", name):
        found = sha256_of(path)
    elif re.fullmatch(r"[0-9a-f]{40}", name):
        content = path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        return  # a file system without links: the cache has no hash of the file
    if found != name:
        raise WeightsError(
            f"{path} is not what it should be: expected {name}, found {found}. "
            f"Delete {path.resolve()} and load again to download a new copy"
        )
