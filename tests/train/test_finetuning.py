"""Fine-tuning with its defaults on few videos: the batch, the rates, what it logs, and the probe beside it."""

import pytest
import torch
from support.runs import transfer_config

from vie_models.cli import main
from vie_models.train import Run
from vie_models.train.logs import read_metrics
from vie_models.train.optimizer import parameter_groups
from vie_models.train.recipes import FINETUNE
from vie_models.train.settings import TrainConfig


def test_a_batch_is_no_larger_than_the_list(corpus, tmp_path):
    """And the rate is lowered in proportion. A number of steps leaves both as they are."""
    config = TrainConfig(model="vie_single_tiny", out=tmp_path, train_list=corpus / "train", **FINETUNE)
    few = config.of_videos(20)
    assert (few.batch_size, few.steps) == (20, 30)
    assert few.lr == pytest.approx(config.lr * 20 / config.batch_size)
    assert (few.validate_every, few.save_every, few.log_every) == (1, 1, 1)
    many = config.of_videos(100)
    assert (many.batch_size, many.lr, many.steps, many.validate_every) == (config.batch_size, config.lr, 90, 3)
    assert few.of_videos(20) == few
    parts = TrainConfig(
        model="vie_single_tiny", out=tmp_path, train_list=corpus / "train", **{**FINETUNE, "batch_size": 32, "accumulate": 8}
    )
    assert parts.of_videos(20).batch_size == 16


def test_the_head_learns_at_a_rate_of_its_own(corpus, tmp_path):
    """Each parameter is in one group; a step moves the head at ten times the rate."""
    run = Run(transfer_config(corpus, tmp_path, head_rate=10.0))
    groups = parameter_groups(run.model, run.config)
    rates = {id(p): group["rate"] for group in groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(run.model.parameters()))
    for name, parameter in run.model.named_parameters():
        assert rates[id(parameter)] == (10 if name.startswith("head.") else 1), name
    before = {group["name"]: group["weight_decay"] for group in run.model.parameter_groups(1e-4, 1e-4)}
    for group in run.optimizer.param_groups:
        assert group["weight_decay"] == before[group["name"].removeprefix("head ")]


def test_a_step_moves_the_head_ten_times_as_far(corpus, tmp_path):
    moved = {}
    for rate in (1.0, 10.0):
        run = Run(transfer_config(corpus, tmp_path / str(rate), head_rate=rate, weight_decay=0.0))
        before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
        run.train_step(next(run.batches()))
        moved[rate] = {name: p.detach() - before[name] for name, p in run.model.named_parameters()}
    for name, by_one in moved[1.0].items():
        factor = 10 if name.startswith("head.") else 1
        torch.testing.assert_close(moved[10.0][name], factor * by_one, rtol=1e-3, atol=1e-6)


def test_the_last_line_says_which_is_better(corpus, tmp_path, capsys, pretrained):
    """A probe of colors is right always. Loss and accuracy are logged at each epoch."""
    pytest.importorskip("sklearn")
    words = ["finetune", "vie_single_tiny", "--weights", str(pretrained), "--train-list", str(corpus / "train")]
    words += ["--val-list", str(corpus / "val"), "--root", str(corpus), "-o", str(tmp_path / "run"), "--epochs", "2"]
    assert main([*words, "--workers", "0", "--device", "cpu", "--val-clips", "1"]) == 0
    said = capsys.readouterr()
    assert "`vie probe vie_single_tiny" in said.err
    assert "100.0 % by a probe" in said.out.strip().splitlines()[-1]
    assert (tmp_path / "run" / "probe" / "probe.json").exists()
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "loss" in line] == [line["step"] for line in lines if "top1" in line] == [1, 2]
