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
    dataset: str | None = None
    protocol: str | None = None
    """Name of the test set and of the protocol in reports, for the best number that the authors published."""


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
    license: str
    """License of the weights, or "not stated"."""
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


def _published(name: str, value: float, dataset: str, protocol: str) -> Metric:
    return Metric(name=name, value=value, source=_RELEASE, dataset=dataset, protocol=protocol)


def _natural(model: str, size: int, files: Mapping[str, str], measured: Mapping[str, float]) -> WeightRecord:
    """Returns a set of ours that comes with the package. `measured` is what its card says, in percent, by protocol and test."""
    return WeightRecord(
        name=f"{model}.natural",
        size=size,
        files=files,
        license="free for research; see the card",
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
            license="not stated",
            provenance=(
                "Trained by the authors of VIE (Zhuang et al., CVPR 2020) on 239,888 videos of Kinetics-400 without labels: "
                "instance recognition for 50,000 steps, local aggregation to step 1,450,000, batch 64."
            ),
            metrics=(
                _published("kNN top-1, Kinetics-400, best LA step", 32.3, "Kinetics-400", "knn"),
                Metric(name="kNN top-1, Kinetics-400, last LA step", value=32.1, source=_RELEASE),
                _published("linear top-1, Kinetics-400, CONV3", 33.7, "Kinetics-400", "encode_6"),
                _published("linear top-1, Kinetics-400, CONV4", 41.7, "Kinetics-400", "encode_8"),
                _published("linear top-1, Kinetics-400, CONV5", 43.6, "Kinetics-400", "encode_10"),
                _published("linear top-1, ImageNet, CONV3", 30.5, "ImageNet", "encode_6"),
                _published("linear top-1, ImageNet, CONV4", 35.5, "ImageNet", "encode_8"),
                _published("linear top-1, ImageNet, CONV5", 32.6, "ImageNet", "encode_10"),
            ),
        ),
        # our own: printed by reproduce.checkpoints
        _natural(
            "vie_single_tiny",
            2904676,
            {
                "config.json": "56f99e291ff072baf5229b9cb896621061267803d249d5e174788fccd31e99a0",
                "model.safetensors": "27887d38235614a1cfc0eb75b1901a0a36ca0ebb9281abf745285050fa383405",
                "bank.safetensors": "2a051e12ed02992b650d2d7dfecc5112d50b53ecf4e5f18743ccb0792d2221dc",
            },
            {
                "knn, 20 UCF101 classes, groups left out": 31.0,
                "logistic, 20 UCF101 classes, groups left out": 29.4,
                "knn, fights among street scenes": 61.1,
                "logistic, fights among street scenes": 57.7,
                "knn, states of a loading bay": 73.7,
                "logistic, states of a loading bay": 87.3,
                "knn, Caltech-101, 15 to learn from": 21.0,
                "logistic, Caltech-101, 15 to learn from": 25.4,
                "knn, Caltech-101, 30 to learn from": 24.3,
                "logistic, Caltech-101, 30 to learn from": 29.4,
            },
        ),
        _natural(
            "vie_3dresnet_tiny",
            5679371,
            {
                "config.json": "cca048ac916de9b8a5ca8bdd32e21d4c0ba3b7e792a82e3a2f42ced42a6d0047",
                "model.safetensors": "11f2e5afba411a1f09c170f42ebb05856b6a50a5322596fecd67390dc3e450f7",
                "bank.safetensors": "d5c0461701fcb7b69d00e8b127473b2c5a059970ea89f6b9c7fd7a7a1ab54856",
            },
            {
                "knn, 20 UCF101 classes, groups left out": 20.8,
                "logistic, 20 UCF101 classes, groups left out": 25.9,
                "knn, fights among street scenes": 56.7,
                "logistic, fights among street scenes": 54.9,
                "knn, states of a loading bay": 61.2,
                "logistic, states of a loading bay": 75.6,
                "knn, Caltech-101, 15 to learn from": 12.6,
                "logistic, Caltech-101, 15 to learn from": 15.3,
                "knn, Caltech-101, 30 to learn from": 12.9,
                "logistic, Caltech-101, 30 to learn from": 20.6,
            },
        ),
        _natural(
            "vie_slowfast_tiny",
            4537856,
            {
                "config.json": "14fe1727f810f529ec8e08a5ba1454cd4c3a9852112e736ba23a2177d91cf872",
                "model.safetensors": "5040ce326c12b7a7aa22858676f65a386fcebe8e48ccdd36940e7efd939fe12c",
                "bank.safetensors": "feefba4f6cb833de34a6d28da068a49def1df90e93ddbb713fd694b34814e435",
            },
            {
                "knn, 20 UCF101 classes, groups left out": 19.3,
                "logistic, 20 UCF101 classes, groups left out": 27.4,
                "knn, fights among street scenes": 58.0,
                "logistic, fights among street scenes": 59.4,
                "knn, states of a loading bay": 74.2,
                "logistic, states of a loading bay": 84.4,
                "knn, Caltech-101, 15 to learn from": 13.9,
                "logistic, Caltech-101, 15 to learn from": 20.9,
                "knn, Caltech-101, 30 to learn from": 15.1,
                "logistic, Caltech-101, 30 to learn from": 26.4,
            },
        ),
        _natural(
            "vie_single_small",
            7135685,
            {
                "config.json": "412a30d70562f89b1015ea4cc56ecec0fd1dcb93f22cf7573ec62af867011dda",
                "model.safetensors": "65b2c0da3d9ccffe9fc07847f64a65e8c416502226bf589154f16eb57681bfeb",
                "bank.safetensors": "b1befbaee4b5ddff051a1c501f3f7a92499c82ddbde100a0339551b337dd15be",
            },
            {
                "knn, 20 UCF101 classes, groups left out": 31.0,
                "logistic, 20 UCF101 classes, groups left out": 36.5,
                "knn, fights among street scenes": 60.4,
                "logistic, fights among street scenes": 63.1,
                "knn, states of a loading bay": 81.0,
                "logistic, states of a loading bay": 88.7,
                "knn, Caltech-101, 15 to learn from": 25.3,
                "logistic, Caltech-101, 15 to learn from": 32.7,
                "knn, Caltech-101, 30 to learn from": 28.0,
                "logistic, Caltech-101, 30 to learn from": 36.8,
            },
        ),
        _natural(
            "vie_slowfast_small",
            13568721,
            {
                "config.json": "15c6234a5c51afbf66bd834e9ab1c1156c7a7780a1091dd67cc491b314e7adeb",
                "model.safetensors": "89ee80993b6571caa912eb0ffb80885228b4b6d50862c274ee4ed0f5f216403d",
                "bank.safetensors": "e7d5cb1ba7978eaf7c1693e7b114d2c127f6ba6e40b8439f6fc5dc0a413fba67",
            },
            {
                "knn, 20 UCF101 classes, groups left out": 22.8,
                "logistic, 20 UCF101 classes, groups left out": 27.4,
                "knn, fights among street scenes": 62.5,
                "logistic, fights among street scenes": 65.5,
                "knn, states of a loading bay": 65.6,
                "logistic, states of a loading bay": 88.9,
                "knn, Caltech-101, 15 to learn from": 15.2,
                "logistic, Caltech-101, 15 to learn from": 23.9,
                "knn, Caltech-101, 30 to learn from": 15.4,
                "logistic, Caltech-101, 30 to learn from": 27.8,
            },
        ),
        _natural(
            "vie_twopathway_tiny",
            7441953,
            {
                "config.json": "c1479dd317ee0a134a2e7a359f99babda40f7661d6e6f5400eab43dbf1e428d0",
                "../vie_single_tiny.natural/model.safetensors": "27887d38235614a1cfc0eb75b1901a0a36ca0ebb9281abf745285050fa383405",
                "../vie_single_tiny.natural/bank.safetensors": "2a051e12ed02992b650d2d7dfecc5112d50b53ecf4e5f18743ccb0792d2221dc",
                "../vie_slowfast_tiny.natural/model.safetensors": "5040ce326c12b7a7aa22858676f65a386fcebe8e48ccdd36940e7efd939fe12c",
                "../vie_slowfast_tiny.natural/bank.safetensors": "feefba4f6cb833de34a6d28da068a49def1df90e93ddbb713fd694b34814e435",
            },
            {
                "knn, 20 UCF101 classes, groups left out": 23.4,
                "logistic, 20 UCF101 classes, groups left out": 32.5,
                "knn, fights among street scenes": 60.4,
                "logistic, fights among street scenes": 63.8,
                "knn, states of a loading bay": 80.6,
                "logistic, states of a loading bay": 88.3,
                "knn, Caltech-101, 15 to learn from": 22.3,
                "logistic, Caltech-101, 15 to learn from": 28.3,
                "knn, Caltech-101, 30 to learn from": 25.2,
                "logistic, Caltech-101, 30 to learn from": 36.5,
            },
        ),
        _natural(
            "vie_twopathway_small",
            20703828,
            {
                "config.json": "0deebf38e3238e4ae53d339417383cb4f568abbb39224a244378e3ebfc0a81ab",
                "../vie_single_small.natural/model.safetensors": "65b2c0da3d9ccffe9fc07847f64a65e8c416502226bf589154f16eb57681bfeb",
                "../vie_single_small.natural/bank.safetensors": "b1befbaee4b5ddff051a1c501f3f7a92499c82ddbde100a0339551b337dd15be",
                "../vie_slowfast_small.natural/model.safetensors": "89ee80993b6571caa912eb0ffb80885228b4b6d50862c274ee4ed0f5f216403d",
                "../vie_slowfast_small.natural/bank.safetensors": "e7d5cb1ba7978eaf7c1693e7b114d2c127f6ba6e40b8439f6fc5dc0a413fba67",
            },
            {
                "knn, 20 UCF101 classes, groups left out": 26.9,
                "logistic, 20 UCF101 classes, groups left out": 37.1,
                "knn, fights among street scenes": 61.8,
                "logistic, fights among street scenes": 65.5,
                "knn, states of a loading bay": 81.9,
                "logistic, states of a loading bay": 89.4,
                "knn, Caltech-101, 15 to learn from": 28.5,
                "logistic, Caltech-101, 15 to learn from": 34.6,
                "knn, Caltech-101, 30 to learn from": 31.8,
                "logistic, Caltech-101, 30 to learn from": 41.3,
            },
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
