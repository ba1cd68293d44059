"""What is made on the host is made on the CPU, whatever `torch.set_default_device` says."""

import ast

import numpy as np
import pytest
import torch
from support import ROOT
from support.runs import config, transfer_config

import vie_models as vie
from vie_models.evaluate.protocols import Evaluation, evaluate_knn
from vie_models.search import build_index, cluster
from vie_models.train import pretrain
from vie_models.video.transforms import train_transform

CONSTRUCTORS = set("tensor empty zeros ones full arange rand randn randint randperm linspace logspace eye".split())  # noqa: SIM905
CONSTRUCTORS |= {"sparse_coo_tensor", "scalar_tensor", "as_tensor", "asarray"}


def test_every_tensor_names_its_device():
    """Modules follow the default device, as torch's do; every other tensor says where it is made."""
    names = {f"torch.{name}" for name in CONSTRUCTORS}
    unnamed = [
        f"{file}:{node.lineno}"
        for file in sorted((ROOT / "vie_models").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names
        if not any(keyword.arg in ("device", None) for keyword in node.keywords)
    ]
    assert not unnamed


@pytest.fixture
def meta():
    """Any tensor on the meta device has no values, so that a computation with it fails."""
    before = torch.get_default_device() if hasattr(torch, "get_default_device") else "cpu"
    torch.set_default_device("meta")
    yield
    torch.set_default_device(before)


def test_clips_and_features(corpus, tmp_path, request):
    model = vie.create_model("vie_single_tiny", pretrained=True)
    expected = vie.Extractor(model, workers=0).features(corpus / "3.mp4")[0]
    clip = vie.load_clip(corpus / "3.mp4", model.clip_spec)
    with torch.no_grad():
        output = model(vie.clip_transform(model)(clip)[None])
    draws = torch.Generator().manual_seed(1)
    view = train_transform(model.clip_spec)(clip, draws)
    request.getfixturevalue("meta")
    assert torch.equal(vie.load_clip(corpus / "3.mp4", model.clip_spec), clip)
    with torch.no_grad():
        assert torch.equal(model(vie.clip_transform(model)(clip.numpy())[None]), output)
    assert torch.equal(train_transform(model.clip_spec)(clip, draws.manual_seed(1)), view)
    extractor = vie.Extractor(model, workers=1)
    records = extractor.extract([corpus / "3.mp4", corpus / "4.mp4"], tmp_path / "out")
    assert [record.status for record in records] == ["ok", "ok"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "3.mp4.npz")["embedding"], expected["embedding"])
    index = build_index(tmp_path / "out")
    assert index.nearest(expected["embedding"][0], 1)[0].name == "3.mp4"
    assert sum(cluster(index, 2).sizes) == len(index)


@pytest.mark.parametrize("objective", ["vie", "supervised", "rotation"])
def test_training(corpus, tmp_path, objective, request):
    """The same numbers as without it, and a validation."""
    values = {"steps": 3, "validate_every": 3, "save_every": 3, "val_clips": 1, "ir_steps": 2, "objective": objective}
    make = config if objective == "vie" else transfer_config
    values |= {"val_list": corpus / "val"}
    before = pretrain(make(corpus, tmp_path / "before", **values), progress=False)
    request.getfixturevalue("meta")
    after = pretrain(make(corpus, tmp_path / "after", **values), progress=False)

    def losses(run):
        return [
            line.split('"loss": ')[1].split(",")[0]
            for line in (run / "metrics.jsonl").read_text().splitlines()
            if "loss" in line
        ]

    assert losses(before) == losses(after)
    assert (after / "results.json").exists()


def test_evaluation(corpus, tmp_path, meta):
    settings = {"train_list": corpus / "train", "val_list": corpus / "val", "root": corpus, "workers": 0, "clips": 1}
    found = evaluate_knn(Evaluation(model="vie_single_tiny", out=tmp_path, device="cpu", **settings))
    assert found.top["knn"].device.type == "cpu"
