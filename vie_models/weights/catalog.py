"""Every weight set that can be loaded by name, as frozen records. This file holds data; store.py loads the weights."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

from ..clip_spec import ClipSpec
from ..models import model_entry
from .errors import WeightsError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A measured number and its source."""

    name: str
    value: float
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightRecord:
    """One published weight set. Unknown values are None or described in words."""

    name: str
    """Name of the set: `model.tag`."""
    url: str = ""
    """Address of the file, a tar of a TensorFlow checkpoint; "" for a set that comes with the package."""
    sha256: str | None = None
    """SHA-256 of that file. None if the publisher gives none: later downloads must then equal the first one."""
    size: int | None = None
    """Size of that file, or of all files of the set, in bytes; None if unknown."""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of each file, by its path in the set's folder, for a set that comes with the package."""
    licence: str
    """Licence of the weights, or "not stated"."""
    provenance: str
    """Who trained the weights, on what, and how."""
    metrics: tuple[Metric, ...] = ()
    """Published numbers, in percent."""
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


_RELEASE = "log of the original release"
_FOOTAGE = "reproduce/footage.py"


def _natural(model: str, size: int, files: Mapping[str, str], measured: Mapping[str, float]) -> WeightRecord:
    """Returns a set of ours that comes with the package. `measured` is what its card says, in percent, by protocol and test."""
    return WeightRecord(
        name=f"{model}.natural",
        size=size,
        files=files,
        licence="free for research; see the card",
        provenance=(
            "Trained by the authors of vie_models on 5,099 photographs in motion and 406 stretches of real video, without "
            "labels: instance recognition. Its card says how: checkpoints/."
        ),
        metrics=tuple(Metric(name=name, value=percent, source=_FOOTAGE) for name, percent in measured.items()),
    )


CATALOG: dict[str, WeightRecord] = {
    record.name: record
    for record in (
        WeightRecord(
            name="vie_3dresnet.k400",
            url="https://visualmaster-models.s3.amazonaws.com/vie/3dresnet_112/checkpoint-1450000.tar",
            sha256=None,
            size=None,
            licence="not stated",
            provenance=(
                "Trained by the authors of VIE (Zhuang et al., CVPR 2020) on 239,888 videos of Kinetics-400 without labels: "
                "instance recognition for 50,000 steps, local aggregation to step 1,450,000, batch 64."
            ),
            metrics=(
                Metric(name="kNN top-1, Kinetics-400, best LA step", value=32.3, source=_RELEASE),
                Metric(name="kNN top-1, Kinetics-400, last LA step", value=32.1, source=_RELEASE),
                Metric(name="linear top-1, Kinetics-400, CONV3", value=33.7, source=_RELEASE),
                Metric(name="linear top-1, Kinetics-400, CONV4", value=41.7, source=_RELEASE),
                Metric(name="linear top-1, Kinetics-400, CONV5", value=43.6, source=_RELEASE),
                Metric(name="linear top-1, ImageNet, CONV3", value=30.5, source=_RELEASE),
                Metric(name="linear top-1, ImageNet, CONV4", value=35.5, source=_RELEASE),
                Metric(name="linear top-1, ImageNet, CONV5", value=32.6, source=_RELEASE),
            ),
        ),
        # our own: printed by reproduce.checkpoints
    )
}


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
    wanted = f"{name}.{tag}" if tag else name
    options = [
        f"build it untrained: create_model({name!r})",
        "load your own: checkpoint_path=, or from_pretrained(folder or Hub repository)",
        f"use a published set: {', '.join(list_weights()) or 'there is none yet'}",
    ]
    raise WeightsError(f"nobody has published weights for {wanted}. You can " + "; ".join(options))
