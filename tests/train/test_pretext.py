"""The pretext tasks: rotation and order."""

import json
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.encoders import small
from support.runs import transfer_config

import vie_models as vie
from vie_models.bank.ranks import World
from vie_models.train import Run, export_run, pretrain
from vie_models.train.objectives.pretext import ORDERS, OrderClassifier, OrderObjective, RotationObjective


def test_rotation():
    """All frames of a clip turn counter-clockwise, by as many quarter turns as its label says."""
    objective = RotationObjective(0, World())
    frames = torch.arange(4 * 2 * 3 * 5 * 5, dtype=torch.uint8).view(4, 2, 3, 5, 5)
    objective.begin_step(3, 4)
    turned = objective.views(frames, slice(0, 4))
    labels = objective._drawn
    for clip in range(4):
        for t in range(2):
            expected = frames[clip, t].permute(1, 2, 0).numpy()
            for _ in range(int(labels[clip])):
                height, width, _ = expected.shape
                expected = np.array([[expected[i, width - 1 - j] for i in range(height)] for j in range(width)])
            np.testing.assert_array_equal(turned[clip, t].permute(1, 2, 0).numpy(), expected)
    logits = torch.randn(4, 4)
    naive = [-np.log(np.exp(row[k]) / np.exp(row).sum()) for row, k in zip(logits.numpy(), labels.tolist(), strict=True)]
    ours = objective.losses(3, logits, torch.arange(4), slice(0, 4))
    np.testing.assert_allclose(ours.numpy(), naive, rtol=1e-5)
    assert not torch.equal(objective.views(frames, slice(0, 4)), frames)


def test_order():
    """Frames come in the order drawn; an order and its reverse have one label, and there are 12."""
    classes: dict[tuple, int] = {}
    objective = OrderObjective(0, World())
    frames = torch.zeros(24, 4, 3, 2, 2, dtype=torch.uint8)
    frames += torch.arange(4, dtype=torch.uint8)[None, :, None, None, None]
    shown = objective.view(frames, torch.arange(24))[:, :, 0, 0, 0].tolist()
    labels = objective.classes(torch.arange(24)).tolist()
    assert sorted(map(tuple, shown)) == sorted(permutations(range(4)))
    for order, label in zip(map(tuple, shown), labels, strict=True):
        assert classes.setdefault(order, label) == label
        assert classes.setdefault(order[::-1], label) == label
    assert sorted(set(labels)) == list(range(12))
    assert len(ORDERS) == 24
    objective.begin_step(0, 8)
    logits = torch.randn(8, 12)
    naive = []
    for row, drawn in zip(logits.numpy(), objective._drawn.tolist(), strict=True):
        naive.append(-np.log(np.exp(row[classes[ORDERS[drawn]]]) / np.exp(row).sum()))
    np.testing.assert_allclose(objective.losses(0, logits, torch.arange(8), slice(0, 8)).numpy(), naive, rtol=1e-5)


def test_the_order_network_sees_pairs():
    """Logits are of all six pairs of frames' features, in order."""
    network = OrderClassifier(small("vie_single_tiny", num_classes=0)).eval()
    x = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        features = [network.encoder(x[:, :, t]) for t in range(4)]
        features = [f - torch.stack(features).mean(0) for f in features]
        pairs = [torch.cat([features[i], features[j]], 1) @ network.pairs.weight.T for i, j in combinations(range(4), 2)]
        norm = network.norm
        pairs = [(x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias for x in pairs]
        pairs = [F.relu(x) for x in pairs]
        torch.testing.assert_close(network(x), network.head(torch.cat(pairs, 1)))
    network.train()(x).logsumexp(1).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_order_of_frames_needs_single_frames(corpus, tmp_path):
    with pytest.raises(ValueError, match="needs a model of single frames: choose vie_single"):
        Run(transfer_config(corpus, tmp_path, model="vie_3dresnet_tiny", objective="order"))


@pytest.mark.parametrize(("objective", "model"), [("rotation", "vie_3dresnet_tiny"), ("order", "vie_single_tiny")])
def test_pretext_runs(corpus, tmp_path, objective, model):
    out = pretrain(transfer_config(corpus, tmp_path / "run", objective=objective, model=model, steps=4), progress=False)
    results = json.loads((out / "results.json").read_text())
    assert [video["label"] for video in results["videos"]] == [0, 1, 2, 3]
    export_run(out, tmp_path / "weights")
    weights = vie.from_pretrained(tmp_path / "weights")
    assert weights.num_classes == (4 if objective == "rotation" else 0)
    Run(transfer_config(corpus, tmp_path / "linear", objective="readout", model=model, weights=tmp_path / "weights"))
