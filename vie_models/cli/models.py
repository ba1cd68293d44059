"""`vie list` and `vie info`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from tyro.conf import Positional, arg


@dataclasses.dataclass(kw_only=True)
class List:
    """Lists the models and their published weight sets."""

    def run(self) -> int:
        from ..models import MODELS, list_models
        from ..weights.catalog import weights_of

        for name in list_models():
            sets = ", ".join(record.name for record in weights_of(name)) or "-"
            print(f"{name:22}{MODELS[name].summary:78}{sets}")
        return 0


@dataclasses.dataclass(kw_only=True)
class Info:
    """Describes a model: clip, size, cost, layers, weight sets and where they are."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Name of a model ("vie_3dresnet") or of one of its weight sets ("vie_3dresnet.k400")."""

    def run(self) -> int:
        from .describe import describe

        print(describe(self.name))
        return 0
