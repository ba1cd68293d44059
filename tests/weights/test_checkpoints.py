"""The weight sets that come with the package are what the catalog and their cards claim, and load by every route."""

import argparse
import json
import re
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
from vie_models.models.cost import count_flops, count_parameters, output_size
from vie_models.models.weight_folder import BANK, CONFIG, hash_of_weights, read_bank
from vie_models.weights import catalog
from vie_models.weights.cache import cache_state
from vie_models.weights.catalog import CARD, CATALOG
from vie_models.weights.joined import write_published
from vie_models.weights.publish import check

CHECKPOINTS = ROOT / "checkpoints"
SHIPPED = [name for name, record in CATALOG.items() if not record.url]
INSTANCES = 5505
"""Photographs and videos that they learned from."""

UNPUBLISHED = {"vie_3dresnet_small"}


def test_every_folder_is_in_the_catalog():
    assert {path.name for path in CHECKPOINTS.iterdir()} == set(CATALOG)
    assert {CATALOG[name].model for name in SHIPPED} == {*vie.list_models("*_tiny"), *vie.list_models("*_small")} - UNPUBLISHED


def test_they_are_small():
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*")) < 70e6


@pytest.mark.parametrize("name", CATALOG)
def test_a_card_is_of_its_files(name, tmp_path):
    """Its YAML block, of which the catalog is made, and its text say the same, and are right."""
    record, folder = CATALOG[name], CHECKPOINTS / name
    card = ModelCard((folder / CARD).read_text())
    of_card = card.data.to_dict()["vie_models"]
    if record.url:
        model = vie.create_model(record.model)
        assert record.url in card.text
    else:
        write_published(folder, tmp_path)
        model = check(tmp_path)
        for file, digest in record.files.items():
            assert f"| {file} | {(tmp_path / file).stat().st_size:,} | {digest} |" in card.text
    assert of_card["parameters"] == count_parameters(model)
    assert of_card["gflops"] == pytest.approx(count_flops(model) / 1e9, rel=0.005)
    assert f"| parameters | {count_parameters(model):,} |" in card.text
    assert record.metrics
    for metric in record.metrics:
        protocol = metric.name.removesuffix(f", {metric.dataset}")
        assert f"| {metric.dataset} | {protocol} | {metric.value:g} |" in card.text


def test_the_readme_has_the_numbers_of_the_cards():
    readme = (ROOT / "README.md").read_text()
    rows = {name: cells.split(" | ") for name, cells in re.findall(r"^\| `(vie_\w+\.\w+)` \| (.*) \|$", readme, re.M)}
    assert set(rows) == set(SHIPPED)
    tests = ("20 UCF101 classes, groups left out", "Caltech-101, 30 to learn from")
    for name, cells in rows.items():
        known = {metric.name: f"{metric.value:g}" for metric in CATALOG[name].metrics}
        assert cells == [known[f"{protocol}, {test}"] for test in tests for protocol in ("knn", "logistic")]
    (published,) = set(CATALOG) - set(SHIPPED)
    known = {metric.name: f"{metric.value:g}" for metric in CATALOG[published].metrics}
    assert f"`{published}`" in readme
    assert f"kNN is {known['kNN top-1, best LA step, Kinetics-400']} %" in readme


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
import sys, timm, torch
checkpoints, root, *names = sys.argv[1:]
import vie_models as vie, vie_models.timm
for name in names:
    folder, short = f"{checkpoints}/{name}", name.split(".")[0]
    models = [
        vie.create_model(short, pretrained=True),
        torch.hub.load(root, short, source="local", pretrained=True),
        vie.from_pretrained(folder),
        timm.create_model("local-dir:" + folder, pretrained=True),
    ]
    assert not any(model.training for model in models)
    print(*[vie_models.weights.hash_of_weights(model) for model in models])
"""


def test_every_route_loads_the_same_without_a_network():
    """The caches of torch.hub and of the Hub, and the network, are out of reach."""
    pytest.importorskip("timm", minversion="1.0.9")
    env = {"TORCH_HOME": "/nowhere", "HF_HOME": "/nowhere", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "-c", ROUTES, str(CHECKPOINTS), str(ROOT), *SHIPPED]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()[-len(SHIPPED) :]]
    assert found == [4 * [hash_of_weights(vie.create_model(name))] for name in SHIPPED]


def test_what_is_used_is_known(tmp_path):
    model = vie.create_model("vie_twopathway_tiny", pretrained=True, cache_dir=tmp_path / "none")
    assert model.weights.name == "vie_twopathway_tiny.natural"
    assert cache_state(CATALOG["vie_single_tiny.natural"]) == f"in {CHECKPOINTS / 'vie_single_tiny.natural'}"
    assert vie.load_memory_bank("vie_single_tiny.natural")["memory_bank"].dtype == torch.float32
    assert not (tmp_path / "none").exists()


def test_a_damaged_installation_is_named(monkeypatch, tmp_path):
    shutil.copytree(CHECKPOINTS, tmp_path / "checkpoints")
    monkeypatch.setattr(catalog, "CHECKPOINTS", tmp_path / "checkpoints")
    config = tmp_path / "checkpoints" / "vie_twopathway_tiny.natural" / CONFIG
    config.write_text(config.read_text().replace('"crop": 64', '"crop": 48'))
    with pytest.raises(vie.WeightsError, match=r"config.json .* Install vie_models again"):
        vie.create_model("vie_twopathway_tiny", pretrained=True)
    shutil.copy(CHECKPOINTS / config.parent.name / CONFIG, config)
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
    assert main(["predict", str(tmp_path / "a.mp4"), "--weights", "vie_twopathway_tiny", "--json"]) == 0
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = (CHECKPOINTS / "vie_twopathway_tiny.natural" / "classes.txt").read_text().splitlines()
    assert {name for name, _ in found["names"]} <= set(names)
    assert torch.tensor([share for _, share in found["names"]]).sum() <= 1.001


def test_a_published_set_is_of_one_model():
    from vie_models.weights.store import load_weights

    assert load_weights("vie_single_tiny", Path("vie_single_tiny.natural")).model_name == "vie_single_tiny"
    with pytest.raises(ValueError, match=r"vie_single_tiny.natural holds vie_single_tiny, not vie_3dresnet_tiny"):
        load_weights("vie_3dresnet_tiny", Path("vie_single_tiny.natural"))
