"""`vie list` and `vie info`."""

from __future__ import annotations

import dataclasses

from .arguments import command
from .tables import format_table


@dataclasses.dataclass(kw_only=True)
class List:
    """Lists the models and their published weight sets, with the accuracy that `vie info` explains."""

    def run(self) -> int:
        from ..models import MODELS, list_models
        from ..models.registry import NUM_PARAMETERS
        from ..weights.catalog import WeightRecord, weights_of

        rows = []
        for name in list_models():
            size = f"{NUM_PARAMETERS[name] / 1e6:.2f} M"
            records: list[WeightRecord | None] = [*weights_of(name)]
            for record in records or [None]:
                best = record.metrics[0] if record and record.metrics else None
                accuracy = f"{best.value:g} % ({best.name})" if best else "-"
                rows.append([name, size, record.name if record else "-", accuracy, MODELS[name].summary])
        print(format_table(["model", "parameters", "weights", "accuracy", "what it is"], rows))
        return 0


@command(name="NAME")
@dataclasses.dataclass(kw_only=True)
class Info:
    """Describes a model: clip, size, cost, layers, weight sets and where they are."""

    name: str
    """Name of a model ("vie_3dresnet"), of one of its weight sets ("vie_3dresnet.k400"), or of another package's model
    ("timm:resnet18")."""

    def run(self) -> int:
        from .describe import describe

        print(describe(self.name))
        return 0
