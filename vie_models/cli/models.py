"""`vie list` and `vie info`."""

from __future__ import annotations

import dataclasses

from tyro.conf import Positional


@dataclasses.dataclass(kw_only=True)
class List:
    """The models and the weight sets that are published for them."""

    def run(self) -> int:
        from ..models import MODELS, list_models
        from ..weights.catalog import weights_of

        for name in list_models():
            sets = ", ".join(record.name for record in weights_of(name)) or "-"
            print(f"{name:22}{MODELS[name].summary:78}{sets}")
        return 0


@dataclasses.dataclass(kw_only=True)
class Info:
    """What a model is: clips, size, cost, layers, weight sets and their state."""

    name: Positional[str]
    """A model ("vie_3dresnet") or one of its weight sets ("vie_3dresnet.k400")."""

    def run(self) -> int:
        from .describe import describe

        print(describe(self.name))
        return 0
