"""The weight sets that come with the package are what the catalog and their cards claim, and load by every route."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from support import ROOT
from support.scenes import scene
from support.videos import write_video

import vie_models as vie
from reproduce.footage import outputs
from reproduce.footage_tests import knn_predictions, read_sets, read_splits, score
from vie_models.files import sha256_of
from vie_models.models.cost import count_flops, count_parameters, output_size
from vie_models.weights import cache
from vie_models.weights.cache import cache_state
from vie_models.weights.card import CARD
from vie_models.weights.catalog import CATALOG
from vie_models.weights.folder import BANK, CONFIG, hash_of_weights, read_bank, write_whole
from vie_models.weights.publish import check

CHECKPOINTS = ROOT / "checkpoints"
SHIPPED = [name for name, record in CATALOG.items() if record.files]
INSTANCES = 5505
"""Photographs and videos that they learned from."""

UNPUBLISHED = {"vie_3dresnet_small"}


def test_every_folder_is_in_the_catalog():
    assert {path.name for path in CHECKPOINTS.iterdir()} == set(CATALOG)
    assert {CATALOG[name].model for name in SHIPPED} == {*vie.list_models("*_tiny"), *vie.list_models("*_small")} - UNPUBLISHED


def test_they_are_small():
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*")) < 70e6


@pytest.mark.parametrize("name", SHIPPED)
def test_files_are_the_catalogs(name):
    record, folder = CATALOG[name], CHECKPOINTS / name
    assert {file: sha256_of(folder / file) for file in record.files} == record.files
    assert sum((folder / file).stat().st_size for file in record.files) == record.size
    assert CONFIG in record.files


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_are_of_these_files(name, tmp_path):
    write_whole(CHECKPOINTS / name, tmp_path)
    model = check(tmp_path)
    card = ModelCard((CHECKPOINTS / name / CARD).read_text())
    facts = card.data.to_dict()["vie_models"]
    assert facts["parameters"] == count_parameters(model)
    assert facts["gflops"] == pytest.approx(count_flops(model) / 1e9, rel=0.005)
    assert f"| parameters | {count_parameters(model):,} |" in card.text
    for file, digest in facts["sha256"].items():
        assert f"| {file} | {(tmp_path / file).stat().st_size:,} | {digest} |" in card.text
    assert all(
        f"| {one.dataset_name} | {one.metric_name} | {one.metric_value:g} |" in card.text for one in card.data.eval_results
    )
    measured = {f"{one.metric_name}, {one.dataset_name}": one.metric_value for one in card.data.eval_results}
    assert measured == {metric.name: metric.value for metric in CATALOG[name].metrics}


def test_the_card_of_fetched_weights_has_the_catalogs_numbers():
    record = CATALOG["vie_3dresnet.k400"]
    card = ModelCard((CHECKPOINTS / record.name / CARD).read_text())
    assert sorted(one.metric_value for one in card.data.eval_results) == sorted(metric.value for metric in record.metrics)
    facts, model = card.data.to_dict()["vie_models"], vie.create_model(record.model)
    assert facts["parameters"] == count_parameters(model)
    assert facts["gflops"] == pytest.approx(count_flops(model) / 1e9, rel=0.005)
    assert record.url in card.text


def test_accuracy_is_the_catalogs(labeled_data):
    """A different NumPy or PyTorch may turn a video or two."""
    record = CATALOG["vie_single_tiny.natural"]
    sets = read_sets(labeled_data)
    videos, split = sets["ucf"], read_splits(labeled_data, sets)["ucf"]
    options = argparse.Namespace(data=labeled_data, placement="even", workers=2)
    embeddings = outputs(vie.create_model(record.name), videos, options)["embedding"]
    share, *_ = score(knn_predictions(embeddings, videos, split, standardize=False), videos, split)
    (claimed,) = [metric.value for metric in record.metrics if metric.name.startswith("knn, 20 UCF101 classes")]
    assert 100 * share == pytest.approx(claimed, abs=250 / len(videos.paths))


@pytest.mark.parametrize("name", SHIPPED)
def test_bank_and_embedding_fit(name):
    bank = vie.load_memory_bank(name)
    assert bank["memory_bank"].shape == (INSTANCES, output_size(vie.create_model(name)))
    assert int(bank["labels"].max()) < len((CHECKPOINTS / name / "classes.txt").read_text().splitlines())
    assert set(read_bank(CHECKPOINTS / name)) == {"memory_bank", "labels"}


ROUTES = """
import sys, torch
route, checkpoints, root, *names = sys.argv[1:]
import vie_models as vie
from vie_models.weights.folder import hash_of_weights
for name in names:
    folder, short = f"{checkpoints}/{name}", name.split(".")[0]
    if route == "hub":
        model = torch.hub.load(root, short, source="local", pretrained=True)
    elif route == "timm":
        import timm, vie_models.timm
        model = timm.create_model("local-dir:" + folder, pretrained=True)
    else:
        model = vie.from_pretrained(folder) if route == "folder" else vie.create_model(short, pretrained=True)
    assert not model.training
    print(hash_of_weights(model))
"""


@pytest.mark.parametrize("route", ["name", "hub", "folder", "timm"])
def test_every_route_loads_the_same_without_a_network(route):
    """`name` is what a wheel does; the caches of torch.hub and of the Hub, and the network, are out of reach."""
    if route == "timm":
        pytest.importorskip("timm", minversion="1.0.9")
    env = {"TORCH_HOME": "/nowhere", "HF_HOME": "/nowhere", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "-c", ROUTES, route, str(CHECKPOINTS), str(ROOT), *SHIPPED]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-len(SHIPPED) :] == [hash_of_weights(vie.create_model(name)) for name in SHIPPED]


def test_what_is_used_is_known(tmp_path):
    model = vie.create_model("vie_twopathway_tiny", pretrained=True, cache_dir=tmp_path / "none")
    assert model.weights.name == "vie_twopathway_tiny.natural"
    assert cache_state(CATALOG["vie_single_tiny.natural"]) == f"in {CHECKPOINTS / 'vie_single_tiny.natural'}"
    assert vie.load_memory_bank("vie_single_tiny.natural")["memory_bank"].dtype == torch.float32
    assert not (tmp_path / "none").exists()


def test_a_damaged_installation_is_named(monkeypatch, tmp_path):
    shutil.copytree(CHECKPOINTS, tmp_path / "checkpoints")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "vie_models" / "weights" / "cache.py"))
    assert vie.create_model("vie_single_tiny", pretrained=True).weights.name == "vie_single_tiny.natural"
    bank = tmp_path / "checkpoints" / "vie_single_tiny.natural" / BANK
    bank.write_bytes(bank.read_bytes()[:-1] + b"?")
    with pytest.raises(vie.WeightsError, match=r"bank.safetensors is not what it should be: .* Install vie_models again"):
        vie.load_memory_bank("vie_twopathway_tiny")
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(vie.WeightsError, match=r"vie_single_tiny.natural comes with vie_models, but .* is missing"):
        vie.create_model("vie_single_tiny", pretrained=True)


def test_names_come_with_the_weights(capsys, tmp_path):
    from vie_models.cli import main

    write_video(tmp_path / "a.mp4", scene(0))
    assert main(["predict", str(tmp_path / "a.mp4"), "--model", "vie_twopathway_tiny", "--json"]) == 0
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = (CHECKPOINTS / "vie_twopathway_tiny.natural" / "classes.txt").read_text().splitlines()
    assert {name for name, _ in found["names"]} <= set(names)
    assert torch.tensor([share for _, share in found["names"]]).sum() <= 1.001


def test_a_published_set_is_of_one_model():
    from vie_models.weights.store import load_weights

    assert load_weights("vie_single_tiny", Path("vie_single_tiny.natural")).model_name == "vie_single_tiny"
    with pytest.raises(ValueError, match=r"vie_single_tiny.natural holds vie_single_tiny, not vie_3dresnet_tiny"):
        load_weights("vie_3dresnet_tiny", Path("vie_single_tiny.natural"))
