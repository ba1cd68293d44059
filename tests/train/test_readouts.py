"""Linear readouts and fine-tuning, and the commands that evaluate."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.encoders import NAMES, reference_clip, small, small_clip
from support.reference import seeded_variables
from support.runs import SMALL, assert_same_end, flags, killed_run, losses, start, transfer_config

import vie_models as vie
from vie_models.cli import main
from vie_models.evaluate.report import report
from vie_models.models.blocks import NormAct
from vie_models.models.registry import MODELS, build_model
from vie_models.train import Run, pretrain
from vie_models.train.objectives.supervised import LinearReadouts, default_layers, readout_features
from vie_models.weights.tensorflow.names import tf_to_state_dict

# --- linear readouts -----------------------------------------------------------------------------------------------------


def naive_readout(maps: np.ndarray) -> np.ndarray:
    """REFERENCE: averaged over time, flattened; average-pooled 2x2, then 4x4, if still over 200,000 values. [C, T, H, W]"""
    x = maps.astype(np.float64).mean(1)
    for size in (2, 4):
        if x.size > 200_000:
            channels, height, width = x.shape
            pooled = np.zeros((channels, height // size, width // size))
            for i in range(height // size):
                for j in range(width // size):
                    pooled[:, i, j] = x[:, i * size : (i + 1) * size, j * size : (j + 1) * size].mean((1, 2))
            x = pooled
    return x.ravel()


def test_readouts_of_the_reference_activations():
    """What `test_activations_equal_the_reference` checks against the original's, read out."""
    model = build_model("vie_3dresnet").eval()
    model.load_state_dict(tf_to_state_dict(seeded_variables(MODELS["vie_3dresnet"].reference), model))
    x = reference_clip(model.clip_spec, 0)
    with torch.inference_mode():
        maps = model.forward_layers(x, default_layers(model))
    for layer in ("encode_6", "encode_8", "encode_10"):
        ours = readout_features(maps[layer]).numpy()
        for clip in range(2):
            np.testing.assert_allclose(ours[clip], naive_readout(maps[layer][clip].numpy()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "values"),
    [((200, 2, 32, 31), 200 * 32 * 31), ((64, 2, 60, 56), 64 * 30 * 28), ((300, 1, 64, 64), 300 * 8 * 8)],
)
def test_large_maps_are_pooled(shape, values):
    maps = torch.randn(2, *shape)
    ours = readout_features(maps)
    assert ours.shape == (2, values)
    np.testing.assert_allclose(ours[1].numpy(), naive_readout(maps[1].numpy()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_readouts_leave_the_encoder_alone(name):
    """No gradient reaches it, and its statistics do not move, whatever mode the readouts are in; all readouts learn."""
    encoder = small(name)
    readouts = LinearReadouts(encoder, default_layers(encoder), 3)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    spec = encoder.clip_spec
    x = torch.randn(2, 3, spec.num_frames, spec.crop, spec.crop)
    logits = readouts.train()(x)
    assert logits.shape == (2, 3, 3)
    optimizer = torch.optim.SGD(readouts.parameter_groups(1e-4, 1e-4), lr=1.0)
    logits.sum(1).logsumexp(1).sum().backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(head.weight.grad.abs().sum() > 0 and head.bias.grad.abs().sum() > 0 for head in readouts.heads)
    assert not any(module.training for module in encoder.modules())
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, msg=key)


def test_a_readout_step_equals_a_naive_one(corpus, tmp_path):
    """Softmax cross-entropy of each layer by itself, the losses added, momentum and decay of the readouts, in NumPy."""
    config = transfer_config(corpus, tmp_path, objective="readout", lr=1e-3, weight_decay=0.1, momentum=0.9)
    run = Run(config)
    batches = run.batches()
    weights = [head.weight.detach().double().numpy().copy() for head in run.model.heads]
    biases = [head.bias.detach().double().numpy().copy() for head in run.model.heads]
    velocities = [[np.zeros_like(w), np.zeros_like(b)] for w, b in zip(weights, biases, strict=True)]
    for _ in range(2):
        batch = next(batches)
        labels = run.videos.labels[batch.indices].numpy()
        features = [f.double().numpy() for f in run.model.features(run.normalize(batch.frames))]
        expected = 0.0
        for k, x in enumerate(features):
            logits = x @ weights[k].T + biases[k]
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            expected += -np.log(p[np.arange(4), labels]).mean()
            error = (p - np.eye(3)[labels]) / 4
            gradients = error.T @ x + 0.1 * weights[k], error.sum(0) + 0.1 * biases[k]
            for velocity, gradient in zip(velocities[k], gradients, strict=True):
                velocity[:] = 0.9 * velocity + gradient
            weights[k] -= 1e-3 * velocities[k][0]
            biases[k] -= 1e-3 * velocities[k][1]
        run.train_step(batch)
        assert run.metrics()["loss"] == pytest.approx(expected, rel=1e-4)
    for head, weight, bias in zip(run.model.heads, weights, biases, strict=True):
        np.testing.assert_allclose(head.weight.detach(), weight, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(head.bias.detach(), bias, rtol=1e-3, atol=1e-5)


def test_layers_can_be_read_out_together():
    encoder = small("vie_twopathway_tiny")
    assert default_layers(encoder)[0] == "static.encode_6+dynamic.encode_6"
    readouts = LinearReadouts(encoder, ["static.encode_8", "dynamic.encode_8", "static.encode_8+dynamic.encode_8"], 2)
    spec = encoder.clip_spec
    static, dynamic, both = readouts.features(torch.randn(1, 3, spec.num_frames, spec.crop, spec.crop))
    torch.testing.assert_close(both, torch.cat([static, dynamic], dim=1))


def test_unknown_layers(corpus, tmp_path):
    with pytest.raises(ValueError, match="vie_single_tiny has no layer 'encode_99'; it has encode_1"):
        Run(transfer_config(corpus, tmp_path, objective="readout", layers=("encode_99",)))


# --- fine-tuning ---------------------------------------------------------------------------------------------------------


def test_a_fine_tuning_step_equals_a_plain_one(corpus, tmp_path, pretrained):
    """Written out with nothing of ours but the encoder: weights, statistics of batch norms, everything."""
    config = transfer_config(corpus, tmp_path, weights=pretrained, width=None, lr=0.1, weight_decay=0.01, norm_momentum=0.1)
    run = Run(config)
    plain = vie.from_pretrained(pretrained)
    plain.reset_classifier(3)
    plain.head.load_state_dict(run.model.head.state_dict())
    plain.train()
    for module in plain.modules():
        if isinstance(module, NormAct):
            module.momentum = 0.1
    trained = dict(plain.named_parameters())
    velocity = {name: torch.zeros_like(p) for name, p in trained.items()}
    batches = run.batches()
    for _ in range(2):
        batch = next(batches)
        x = vie.clip_transform(plain).normalize(batch.frames)
        loss = F.cross_entropy(plain(x), run.videos.labels[batch.indices])
        gradients = torch.autograd.grad(loss, list(trained.values()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
                decay = 0.0 if "norm" in name else 0.01
                velocity[name] = 0.9 * velocity[name] + gradient + decay * parameter
                parameter -= 0.1 * velocity[name]
        run.train_step(batch)
        assert run.metrics()["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(run.model.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_move_in_training_alone(name):
    model = small(name, num_classes=3)
    x = small_clip(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()(x).sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.train()(x)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {key for key in before if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}


def test_weights_bring_their_width(corpus, tmp_path, pretrained):
    """Whoever fine-tunes need not know it."""
    run = Run(transfer_config(corpus, tmp_path, weights=pretrained, width=None))
    assert run.config.width == SMALL["width"]
    source = vie.from_pretrained(pretrained).state_dict()
    for name, value in run.model.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, source[name])


@pytest.mark.parametrize("objective", ["supervised", "readout", "order"])
def test_a_run_goes_on_from_another(corpus, tmp_path, objective):
    """With other settings: weights, heads and momentum are what they were."""
    first = transfer_config(corpus, tmp_path / "first", objective=objective, steps=3, val_list=None)
    pretrain(first, progress=False)
    run = Run(transfer_config(corpus, tmp_path / "second", objective=objective, lr=1e-5, resume=tmp_path / "first"))
    before = Run(first)
    assert run.step == before.step == 3
    for name, value in before.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], value), name
    ours, theirs = (r.optimizer.state_dict()["state"] for r in (run, before))
    assert ours.keys() == theirs.keys() != set()
    assert all(torch.equal(ours[k]["momentum_buffer"], theirs[k]["momentum_buffer"]) for k in ours)


def test_epochs_make_steps(corpus, tmp_path):
    run = Run(transfer_config(corpus, tmp_path, steps=0, epochs=2.5, schedule="cosine", lr=1.0))
    assert run.config.steps == 12  # 5 steps an epoch
    assert [round(run.config.lr_at(step), 3) for step in (0, 6, 11)] == [1.0, 0.5, 0.017]
    with pytest.raises(ValueError, match="give either steps or epochs, got steps=3 and epochs=2"):
        transfer_config(corpus, tmp_path, steps=3, epochs=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "changes"),
    [
        (1, {"objective": "readout", "workers": 2}),
        (2, {"objective": "order", "workers": 0}),
        (4, {"objective": "supervised", "workers": 2}),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(corpus, tmp_path, pretrained, kills, changes):
    changes = {"model": "vie_single_tiny", "weights": pretrained, "steps": 20 * kills, "save_every": 4, **changes}
    process = start(flags(corpus, tmp_path / "whole", **changes))
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    killed_run(flags(corpus, tmp_path / "killed", **changes), tmp_path / "killed", kills, 1, 20 * kills)
    assert_same_end(tmp_path / "whole", tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_the_commands(corpus, tmp_path, pretrained, capsys):
    lists = ["--train-list", str(corpus / "train"), "--val-list", str(corpus / "val"), "--root", str(corpus)]
    common = [*lists, "--weights", str(pretrained), "--workers", "0"]
    short = ["--batch-size", "4", "--epochs", "1"]
    assert main(["finetune", "vie_single_tiny", *common, *short, "-o", str(tmp_path / "finetuned")]) == 0
    assert main(["eval", "linear", "vie_single_tiny", *common, *short, "-o", str(tmp_path / "linear")]) == 0
    assert main(["eval", "knn", "vie_single_tiny", *common, "-o", str(tmp_path / "knn")]) == 0
    assert main(["eval", "knn", "vie_single_tiny", *common, "--bank", "-o", str(tmp_path / "bank")]) == 0
    assert main(["eval", "logistic", "vie_single_tiny", *common, "-o", str(tmp_path / "logistic")]) == 0
    out = capsys.readouterr().out
    assert "supervised: top-1" in out
    assert "encode_8: top-1" in out
    assert "4 videos, 0 of them could not be read" in out
    names = ("finetuned", "linear", "knn", "logistic")
    settings_of = {name: json.loads((tmp_path / name / "results.json").read_text()) for name in names}
    assert settings_of["logistic"]["weights"] == settings_of["knn"]["weights"]
    assert settings_of["finetuned"]["settings"]["lr"] == 0.005
    assert settings_of["linear"]["settings"]["lr"] == 0.01
    assert set(settings_of["linear"]["protocols"]) == {"encode_6", "encode_8", "encode_10"}
    assert (tmp_path / "linear" / "confusion-encode_6.png").stat().st_size > 1000
    assert main(["export", str(tmp_path / "finetuned"), str(tmp_path / "exported")]) == 0
    assert vie.from_pretrained(tmp_path / "exported").num_classes == 3
    assert "not measured" not in report([tmp_path], tmp_path / "report.md")
    table = report([tmp_path], tmp_path / "report.md", published=True)
    assert re.search(r"\| fine-tuned \| vie_single_tiny \(width 4\) \| weights \| [\d.]+ \([^|]*\) \| not known \|", table)
    assert "| the authors' | not measured | 43.6 (log of the original release) |" in table
    assert (tmp_path / "report.png").exists()


def test_a_batch_of_unreadable_videos_does_not_stop_a_validation(corpus, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(corpus, folder)
    (folder / "20.mp4").write_bytes(b"no video")
    config = transfer_config(folder, tmp_path / "run", objective="rotation", batch_size=1, steps=2)
    results = json.loads((pretrain(config, progress=False) / "results.json").read_text())
    assert results["unread"] == 1


def test_readouts_depend_on_the_seed_alone(corpus, tmp_path):
    from vie_models.models import conv

    conv._packing_works.cache_clear()
    first, second = (Run(transfer_config(corpus, tmp_path, objective="readout")).model.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_finished_run_is_not_another(corpus, tmp_path, pretrained):
    """What was evaluated stands in results.json: other weights or videos need another folder."""
    config = {"objective": "readout", "steps": 2, "weights": pretrained, "width": None}
    pretrain(transfer_config(corpus, tmp_path / "run", **config), progress=False)
    other = tmp_path / "other"
    shutil.copytree(pretrained, other)
    with pytest.raises(ValueError, match=r"started with other settings .*weights was"):
        Run(transfer_config(corpus, tmp_path / "run", **{**config, "weights": other}))
    with pytest.raises(ValueError, match="is finished, and its validation had another val_clips"):
        Run(transfer_config(corpus, tmp_path / "run", **config, val_clips=3))
    with pytest.raises(ValueError, match="is finished, and its validation had another val_placement"):
        Run(transfer_config(corpus, tmp_path / "run", **config, val_placement="paper"))


def test_a_trn_begins_with_a_trn_or_a_single(corpus, tmp_path, pretrained):
    torch.manual_seed(1)
    vie.save_pretrained(vie.create_model("vie_trn", width=4), tmp_path / "trn")
    trn = {"model": "vie_trn", "width": None}
    run = Run(transfer_config(corpus, tmp_path / "a", weights=tmp_path / "trn", **trn))
    source = vie.from_pretrained(tmp_path / "trn").state_dict()
    assert torch.equal(run.model.state_dict()["stem.conv.weight"], source["stem.conv.weight"])
    torch.manual_seed(2)
    vie.save_pretrained(vie.create_model("vie_single", width=4), tmp_path / "single")
    run = Run(transfer_config(corpus, tmp_path / "b", weights=tmp_path / "single", **trn))
    source = vie.from_pretrained(tmp_path / "single").state_dict()
    assert torch.equal(run.model.state_dict()["stem.conv.weight"], source["stem.conv.weight"])
    with pytest.raises(ValueError, match="holds vie_single_tiny, not vie_trn"):
        Run(transfer_config(corpus, tmp_path / "c", weights=pretrained, **trn))
