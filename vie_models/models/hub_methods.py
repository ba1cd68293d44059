"""The methods of an encoder that huggingface_hub's users look for on the object, as its PyTorchModelHubMixin has them.

What they do is in vie_models.weights, which is imported when a method is called.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class HubMethods:
    """Loads, saves and publishes an encoder."""

    @classmethod
    def from_pretrained(cls, repo_or_folder: str | os.PathLike[str], **options: Any) -> Self:
        """Loads the encoder of a folder, a weight set or a Hub repository ("org/name"), in evaluation mode. Loading is strict.

        Args:
            repo_or_folder: as in `vie_models.from_pretrained`.
            **options: those of `vie_models.from_pretrained`: revision, token, cache_dir, force_download, local_files_only,
                num_classes.

        Raises:
            ValueError: the encoder found there is of another class than the one whose method this is.
            FileNotFoundError, WeightsError: as in `vie_models.from_pretrained`.
        """
        return _hub_mixin().load(cls, repo_or_folder, **options)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Writes config.json, model.safetensors and, if there is none yet, the model card README.md.

        Args:
            save_directory: folder to write. It may exist.
            repo_id: Hub repository ("org/name") for `push_to_hub`.
            push_to_hub: publish it too.
            model_card_kwargs: what the card says, as fields of about.json of `vie card`: license, summary, ...
            **push_to_hub_kwargs: further arguments of the method `push_to_hub`.

        Returns:
            The address of the commit with `push_to_hub`, else None.
        """
        return _hub_mixin().save(self, save_directory, repo_id, push_to_hub, model_card_kwargs, push_to_hub_kwargs)

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: Mapping[str, Any] | None = None, **publish_kwargs: Any) -> str:
        """Publishes the encoder with a model card as a Hub repository, and returns the address of the commit.

        It does what `vie publish` does: one commit, downloaded again, compared and tagged. The repository then also loads with
        timm and transformers. Files of an earlier version are replaced, its memory bank included: to publish a folder with a
        bank, use `vie publish`.

        Args:
            repo_id: "org/name"; created if it does not exist.
            model_card_kwargs: what the card says, as fields of about.json of `vie card`: license, summary, ... The license
                must be there: nothing is published without one.
            **publish_kwargs: private, token, tag, commit_message, endpoint.
        """
        return _hub_mixin().push(self, repo_id, model_card_kwargs, publish_kwargs)


def _hub_mixin() -> Any:
    return importlib.import_module("vie_models.weights.hub_mixin")
