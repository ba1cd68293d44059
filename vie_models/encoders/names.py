"""The names of other packages' models: "timm:resnet18", "torchvision:r3d_18,frames=8", "hf:ORG/NAME,fps=4"."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

Package = Literal["timm", "torchvision", "hf"]


@dataclasses.dataclass(frozen=True)
class EncoderName:
    """A name with its options: "PACKAGE:NAME[,OPTION=VALUE ...]"."""

    text: str
    """The whole of it."""
    package: Package
    """Where it comes from."""
    name: str
    """What the package calls the model."""
    clip: dict[str, Any]
    """Fields of the ClipSpec that differ from what the package declares."""
    seed: int | None = None
    """Seed of random weights; None for those that the package publishes."""
    revision: str | None = None
    """Revision of a repository."""


_CLIP_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "frames": ("num_frames", int),
    "interval": ("frame_interval", int),
    "fps": ("fps", float),
}
_OPTION = re.compile(rf"^(.+),({'|'.join(_CLIP_OPTIONS)}|revision|untrained)(?:=([^,]*))?$")


def parse_name(text: str) -> EncoderName | None:
    """Returns what a name of another package's model says, or None if it is not one.

    Raises:
        ValueError: an option has no valid value.
    """
    package, sign, name = text.partition(":")
    if not sign or package not in get_args(Package):
        return None
    options: dict[str, str | None] = {}
    while match := _OPTION.match(name):
        name = match[1]
        options[match[2]] = match[3]
    try:
        clip = {field: kind(options[key] or "") for key, (field, kind) in _CLIP_OPTIONS.items() if key in options}
        seed = int(options["untrained"] or 0) if "untrained" in options else None
    except ValueError as error:
        raise ValueError(
            f"{text}: options are ,frames=N ,interval=N ,fps=N ,revision=COMMIT and ,untrained or ,untrained=SEED ({error})"
        ) from error
    return EncoderName(text, cast(Package, package), name, clip, seed, options.get("revision"))
