"""What the methods `from_pretrained`, `save_pretrained` and `push_to_hub` of an encoder do (see models/hub_methods.py)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models import Encoder
from .card import CARD, About, stated, write_card
from .folder import save_pretrained
from .publish import publish
from .store import from_pretrained

UNSAID = "The author does not say."


def load(cls: type[Encoder], repo_or_folder: str | os.PathLike[str], **options: Any) -> Encoder:
    """Loads an encoder, which must be of the class `cls`."""
    model = from_pretrained(repo_or_folder, **options)
    if not isinstance(model, cls):
        raise ValueError(
            f"{repo_or_folder} holds {model.model_name}, a {type(model).__name__} and not a {cls.__name__}: "
            f"load it with {type(model).__name__}.from_pretrained or vie_models.from_pretrained"
        )
    return model


def save(
    model: Encoder,
    folder: str | os.PathLike[str],
    repo_id: str | None = None,
    push_to_hub: bool = False,
    about: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> str | None:
    """Saves an encoder with a card, which is not written over; publishes it too if asked to."""
    if options and not push_to_hub:
        raise TypeError(f"save_pretrained() got {', '.join(options)}, which only push_to_hub=True uses")
    folder = Path(folder)
    save_pretrained(model, folder)
    if not (folder / CARD).exists():
        write_card(folder, _about(model, folder.resolve().name, about))
    return push(model, repo_id or "", about, options) if push_to_hub else None


def push(model: Encoder, repo_id: str, about: Mapping[str, Any] | None, options: Mapping[str, Any] | None) -> str:
    """Publishes an encoder with a card of its own, and returns the commit's address."""
    if "/" not in repo_id:
        raise ValueError(f'repo_id must be "org/name", or "you/name" for a repository of your own, got {repo_id!r}')
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        save_pretrained(model, folder)
        write_card(folder, _about(model, repo_id.rpartition("/")[2], about))
        done = publish(folder, repo_id, **(options or {}))
    return str(done.url)


def _about(model: Encoder, name: str, about: Mapping[str, Any] | None) -> About:
    """What the card says: the author's words, or that there are none."""
    unsaid = {
        "name": name,
        "license": "unknown",
        "license_text": UNSAID,
        "summary": f"A VIE video encoder, {model.model_name}.",
        "training_data": UNSAID,
        "procedure": UNSAID,
        "commands": (),
        "intended_use": UNSAID,
        "limits": UNSAID,
    }
    return stated({**unsaid, **(about or {})}, "model_card_kwargs")
