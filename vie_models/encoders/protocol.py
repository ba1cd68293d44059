"""What an encoder must have for extraction, search and evaluation. VIE's encoders have it, and so does a `WrappedModule`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..clip_spec import ClipSpec
from ..models.encoder import OUTPUT as OUTPUT

Self = TypeVar("Self")


class VideoEncoder(Protocol):
    """A module that embeds clips: a call on normalized float clips [B, 3, T, H, W] returns embeddings [B, D].

    B batch, C channels, T time, H height, W width.
    """

    __call__: Callable[..., Any]
    """Clips [B, 3, T, H, W] -> embeddings [B, D]."""

    @property
    def clip_spec(self) -> ClipSpec:
        """The clips that it takes, and how frames become its input."""

    @property
    def model_name(self) -> str:
        """What it is called; `load_encoder` finds it by that name, if it has one."""

    @property
    def layer_names(self) -> list[str]:
        """Names of layers for `forward_layers`, from input to output."""

    @property
    def source(self) -> Mapping[str, str]:
        """Version of the package that it comes from and revision of its weights, as {name: version}. Empty for VIE's own."""

    def forward_layers(self, x: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Returns the named layers of clips [B, 3, T, H, W], each [B, C, T', H', W'] or [B, D]; "output" is the embedding."""

    def check_layers(self, layers: Iterable[str]) -> list[str]:
        """Returns names of layers as a list. Raises ValueError for one that the encoder does not have."""

    # what every nn.Module has

    def eval(self: Self) -> Self:
        """Sets evaluation mode."""

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Moves weights."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights."""

    def buffers(self) -> Iterator[Tensor]:
        """Other tensors."""

    def state_dict(self) -> dict[str, Any]:
        """Weights and other tensors by name."""

    def modules(self) -> Iterator[nn.Module]:
        """All modules in it."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """All modules in it, by name."""


def device_of(model: VideoEncoder) -> torch.device:
    """Returns the device of a model's weights; the CPU for one without any tensor."""
    first = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device
