"""Every weight set that can be loaded by name, as frozen records. They are read from the cards in checkpoints/."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..clip_spec import ClipSpec
from ..models import WeightsError, model_entry

CARD = "README.md"
_PACKAGE = Path(__file__).parent.parent
CHECKPOINTS = next((p for p in (_PACKAGE / "checkpoints", _PACKAGE.parent / "checkpoints") if p.is_dir()), _PACKAGE)
"""Folder of the weight sets that come with the package: inside the package, or beside it in a clone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A measured accuracy and its source."""

    name: str
    """Protocol and data set."""
    value: float
    """In percent."""
    source: str
    dataset: str
    protocol: str | None = None
    """Name of the protocol in reports, for the best number that the authors published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightRecord:
    """One published weight set, as its card describes it."""

    name: str
    """Name of the set: `model.tag`."""
    url: str = ""
    """Address of the file, a tar of a TensorFlow checkpoint; "" for a set that comes with the package."""
    sha256: str | None = None
    """SHA-256 of that file. None if the publisher gives none: later downloads must then equal the first one."""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of each file of a set that comes with the package, as it is published."""
    license: str
    """License of the weights, or "not stated"."""
    summary: str
    """What the weights are, in a sentence or two."""
    metrics: tuple[Metric, ...] = ()
    model_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Sizes that differ from those of the registered model."""

    @property
    def model(self) -> str:
        """Name of the registered model that the weights are for."""
        return self.name.split(".", 1)[0]

    @property
    def clip_spec(self) -> ClipSpec:
        """Clips that the weights were trained on."""
        return model_entry(self.model).clip_spec


def read_record(card: Path) -> WeightRecord:
    """Reads the record of a weight set from its card: the YAML block, and the first paragraph under the title."""
    import yaml

    _, block, text = card.read_text().split("---\n", 2)
    data = yaml.safe_load(block)
    ours = data["vie_models"]
    metrics = [
        Metric(
            name=f"{metric['name']}, {result['dataset']['name']}",
            value=metric["value"],
            source=ours.get("measured_by", "its card"),
            dataset=result["dataset"]["name"],
            protocol=metric.get("config"),
        )
        for index in data.get("model-index", [])
        for result in index["results"]
        for metric in result["metrics"]
    ]
    return WeightRecord(
        name=card.parent.name,
        url=ours.get("url", ""),
        sha256=ours.get("url_sha256"),
        files=ours["sha256"],
        license=data.get("license_name", data["license"]),
        summary=text.split("\n\n")[1],
        metrics=tuple(metrics),
    )


CATALOG: dict[str, WeightRecord] = {path.parent.name: read_record(path) for path in sorted(CHECKPOINTS.glob(f"*/{CARD}"))}


def list_weights(pattern: str = "*") -> list[str]:
    """Returns the names of the published weight sets that match a shell-style `pattern`, sorted."""
    return sorted(fnmatch.filter(CATALOG, pattern))


def weights_of(model: str) -> list[WeightRecord]:
    """Returns the published weight sets of a registered model. The first is its default."""
    return [record for record in CATALOG.values() if record.model == model]


def find_record(name: str, tag: str = "") -> WeightRecord:
    """Returns the record of "name.tag", or of the model's default set. WeightsError if nobody has published it."""
    records = {record.name: record for record in weights_of(name)}
    if tag and f"{name}.{tag}" in records:
        return records[f"{name}.{tag}"]
    if records and not tag:
        return next(iter(records.values()))
    if not CATALOG:
        raise WeightsError(f"the weight sets that come with vie_models are not in {CHECKPOINTS}: install vie_models again")
    wanted = f"{name}.{tag}" if tag else name
    sets = ", ".join(records) or ", ".join(list_weights())
    raise WeightsError(
        f"nobody has published weights for {wanted}. You can\n"
        f"  - build it untrained: create_model({name!r})\n"
        "  - load your own: checkpoint_path=, or from_pretrained(folder or Hub repository)\n"
        f"  - use a published set{f' of {name}' if records else ''}: {sets}"
    )
