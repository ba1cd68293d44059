"""Every weight set that can be loaded by name, as frozen records. Data, no code: loading is store.py's."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

from ..clip_spec import ClipSpec
from ..models import model_entry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A measured number and where it was printed."""

    name: str
    value: float
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightRecord:
    """One published weight set. What is not known is None, or said in words."""

    name: str
    """`model.tag`."""
    url: str = ""
    """Where the file comes from: a tar of a TensorFlow checkpoint. "" for a set that comes with the package."""
    sha256: str | None = None
    """SHA-256 of that file, or None where the publisher gives none: then that of the first fetch is recorded and kept to."""
    size: int | None = None
    """Length of that file, or of the set's files, in bytes; None where it is not known."""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of each file, by its path in the set's folder, of a set that comes with the package."""
    licence: str
    """Of the weights, or "not stated"."""
    provenance: str
    """Who trained them, on what, and how."""
    metrics: tuple[Metric, ...] = ()
    """Published numbers, in percent."""
    model_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Sizes that differ from the registered model's."""

    @property
    def model(self) -> str:
        """The registered model they are for."""
        return self.name.split(".", 1)[0]

    @property
    def clip_spec(self) -> ClipSpec:
        """The clips they were trained on."""
        return model_entry(self.model).clip_spec


_RELEASE = "log of the original release"
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
    )
}


def list_weights(pattern: str = "*") -> list[str]:
    """Names of the published weight sets that match a shell-style `pattern`, sorted."""
    return sorted(fnmatch.filter(CATALOG, pattern))


def weights_of(model: str) -> list[WeightRecord]:
    """The published weight sets of a registered model; the first is its default."""
    return [record for record in CATALOG.values() if record.model == model]
