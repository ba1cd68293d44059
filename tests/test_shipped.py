"""Weight sets that come with the package, and the cards in checkpoints/."""

import os
import shutil

import pytest
import torch
from conftest import ROOT
from huggingface_hub import ModelCard

import vie_models as vie
from vie_models.models.cost import count_flops, count_parameters
from vie_models.weights import store
from vie_models.weights.card import CARD
from vie_models.weights.catalog import CATALOG, WeightRecord
from vie_models.weights.folder import BANK, CONFIG, MODEL, join, save_pretrained, sha256_of, write_tensors
from vie_models.weights.store import cache_state


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """A single-pathway and a two-pathway set, as if they came with the package; the folder of both."""
    package = tmp_path / "vie_models"
    parts = {name: package / "checkpoints" / f"{name}.toys" for name in ("vie_single_tiny", "vie_slowfast_tiny")}
    for name, folder in parts.items():
        save_pretrained(vie.create_model(name).half(), folder)
        rows = torch.nn.functional.normalize(torch.randn(5, 128), dim=1)
        write_tensors(folder / BANK, {"memory_bank": rows.half(), "labels": torch.arange(5)})
    both = package / "checkpoints" / "vie_twopathway_tiny.toys"
    join(*parts.values(), both)
    for folder, made_of in ((parts["vie_single_tiny"], [parts["vie_single_tiny"]]), (both, parts.values())):
        known = [folder / CONFIG, *(part / name for part in made_of for name in (MODEL, BANK))]
        files = {os.path.relpath(path, folder): sha256_of(path) for path in known}
        record = WeightRecord(name=folder.name, files=files, licence="Apache-2.0", provenance="a test")
        monkeypatch.setitem(CATALOG, folder.name, record)
    monkeypatch.setattr(store, "__file__", str(package / "weights" / "store.py"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return package / "checkpoints"


def test_sets_that_come_with_the_package_need_no_network(shipped, tmp_path):
    model = vie.create_model("vie_twopathway_tiny", pretrained=True, cache_dir=tmp_path / "none")
    assert model.weights.name == "vie_twopathway_tiny.toys"
    x = torch.randn(1, 3, 16, 64, 64)
    assert torch.equal(model(x), vie.from_pretrained(shipped / "vie_twopathway_tiny.toys")(x))
    assert vie.load_memory_bank("vie_twopathway_tiny")["memory_bank"].shape == (5, 256)
    assert vie.load_memory_bank("vie_single_tiny.toys")["memory_bank"].dtype == torch.float32
    assert cache_state(CATALOG["vie_single_tiny.toys"]) == f"in {shipped / 'vie_single_tiny.toys'}"
    assert not (tmp_path / "none").exists()


def test_a_damaged_installation_is_named(shipped):
    part = shipped / "vie_slowfast_tiny.toys" / MODEL
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    assert vie.create_model("vie_single_tiny", pretrained=True)
    with pytest.raises(vie.WeightsError, match=r"slowfast_tiny.toys/model.safetensors is not what .* Install vie_models again"):
        vie.create_model("vie_twopathway_tiny", pretrained=True)
    shutil.rmtree(shipped)
    with pytest.raises(vie.WeightsError, match=r"vie_single_tiny.toys comes with vie_models, and .* is not there"):
        vie.create_model("vie_single_tiny", pretrained=True)


def test_the_card_of_fetched_weights_has_the_catalogs_numbers():
    record = CATALOG["vie_3dresnet.k400"]
    card = ModelCard((ROOT / "checkpoints" / record.name / CARD).read_text())
    assert sorted(one.metric_value for one in card.data.eval_results) == sorted(metric.value for metric in record.metrics)
    facts = card.data.to_dict()["vie_models"]
    model = vie.create_model(record.model)
    assert facts["parameters"] == count_parameters(model)
    assert facts["gflops"] == pytest.approx(count_flops(model) / 1e9, rel=0.005)
    assert record.url in card.text
