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
_FROZEN = "reproduce/frozen_textures.py, which renders 96 videos"


def _textures(model: str, size: int, files: Mapping[str, str], measured: Mapping[str, float]) -> WeightRecord:
    """Returns a set of ours that comes with the package. `measured` is kNN top-1 of the frozen test in percent, by label."""
    return WeightRecord(
        name=f"{model}.textures",
        size=size,
        files=files,
        licence="Apache-2.0",
        provenance=(
            "Trained by the authors of vie_models on 1536 rendered videos of moving textures, without labels: instance "
            "recognition, then local aggregation. Its card says how: checkpoints/."
        ),
        metrics=tuple(
            Metric(name=f"kNN top-1, {label} of the frozen test", value=percent, source=_FROZEN)
            for label, percent in measured.items()
        ),
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
        _textures(
            "vie_single_tiny",
            1856852,
            {
                "config.json": "56f99e291ff072baf5229b9cb896621061267803d249d5e174788fccd31e99a0",
                "model.safetensors": "2c1ef224d6fe7fd62409ab34e1461b699e4c4d0d4d7696cfecf736d28e11cd6e",
                "bank.safetensors": "1c2fe13185d63fc2a18c4fa16d99d219410e1c2fe6c4726dd09e645a09001a52",
            },
            {"object": 31.2, "motion": 9.4},
        ),
        _textures(
            "vie_3dresnet_tiny",
            4631547,
            {
                "config.json": "cca048ac916de9b8a5ca8bdd32e21d4c0ba3b7e792a82e3a2f42ced42a6d0047",
                "model.safetensors": "ca50497bfe85504bf6ff8ebb859d630ef175ac652600742ccb31398a7600dbcb",
                "bank.safetensors": "3c923beb0ff17059f4dc2e27b9743b9319c7d9697c7581c4d53717e7fafc6a40",
            },
            {"object": 16.7, "motion": 21.9},
        ),
        _textures(
            "vie_slowfast_tiny",
            3490032,
            {
                "config.json": "14fe1727f810f529ec8e08a5ba1454cd4c3a9852112e736ba23a2177d91cf872",
                "model.safetensors": "ce89c5b5fd74f3ff6fabe734865cb69876ebe85d7532c2349b5d05def806620c",
                "bank.safetensors": "d33999ab41183f176a713879ee44765c2839ed1d313360712a1043ebfa9bed2e",
            },
            {"object": 20.8, "motion": 30.2},
        ),
        _textures(
            "vie_twopathway_tiny",
            5346307,
            {
                "config.json": "84883aab7ba3368db851c0931647af7aa2df683ce4d207ff552d99ef3946496d",
                "../vie_single_tiny.textures/model.safetensors": "2c1ef224d6fe7fd62409ab34e1461b699e4c4d0d4d7696cfecf736d28e11cd6e",
                "../vie_single_tiny.textures/bank.safetensors": "1c2fe13185d63fc2a18c4fa16d99d219410e1c2fe6c4726dd09e645a09001a52",
                "../vie_slowfast_tiny.textures/model.safetensors": "ce89c5b5fd74f3ff6fabe734865cb69876ebe85d7532c2349b5d05def806620c",
                "../vie_slowfast_tiny.textures/bank.safetensors": "d33999ab41183f176a713879ee44765c2839ed1d313360712a1043ebfa9bed2e",
            },
            {"object": 25.0, "motion": 32.3},
        ),
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
    sets = ", ".join(records) or ", ".join(list_weights()) or "none yet"
    raise WeightsError(
        f"nobody has published weights for {wanted}. You can\n"
        f"  - build it untrained: create_model({name!r})\n"
        "  - load your own: checkpoint_path=, or from_pretrained(folder or Hub repository)\n"
        f"  - use a published set{f' of {name}' if records else ''}: {sets}"
    )
