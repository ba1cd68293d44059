"""Whole runs, on small videos: ranks, kills, damage, full disks, and what becomes of a run."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import REFERENCE
from support.ranks import on_ranks
from support.runs import SMALL, assert_same_end, config, flags, killed_run, losses, newest, settings, start

import vie_models as vie
from vie_models.bank.ranks import World
from vie_models.cli import main
from vie_models.failures import TooManyFailuresError
from vie_models.models import precision
from vie_models.train import RECIPES, NotFiniteError, Run, TrainConfig, export_run, pretrain, read_metrics, recipe
from vie_models.train.checkpoint import DamagedCheckpointError
from vie_models.train.loading import before_training

pytestmark = pytest.mark.filterwarnings("ignore:.*is damaged:UserWarning")


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A run to its end, in one go."""
    return pretrain(config(corpus, tmp_path_factory.mktemp("runs") / "finished", val_list=corpus / "val"), progress=False)


def test_a_run_leaves_what_it_should(finished, corpus):
    lines = read_metrics(finished)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 21))
    assert [line["objective"] for line in lines if "loss" in line] == ["IR"] * 7 + ["LA"] * 13
    assert all(line["clips_per_s"] > 0 and 0 <= line["data_wait"] <= 1 for line in lines if "loss" in line)
    (validation,) = [line for line in lines if "knn_top1" in line]
    assert validation["val_videos"] == 4
    assert validation["val_failed"] == 0
    assert 0 <= validation["knn_top1"] <= 1
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == [f"step-{k:09d}" for k in (10, 15, 20)]
    assert TrainConfig.from_dict(json.loads((finished / "config.json").read_text())) == config(
        corpus, finished, val_list=corpus / "val"
    )
    if importlib.util.find_spec("tensorboard"):
        assert list((finished / "tensorboard").iterdir())


def test_a_finished_run_has_nothing_more_to_do(finished, corpus):
    before = (finished / "metrics.jsonl").read_text()
    pretrain(config(corpus, finished), progress=False)
    assert (finished / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_run_goes_on_to_the_same_bits(finished, corpus, tmp_path, workers):
    out = tmp_path / "run"
    for steps in (3, 8, 13, 20):
        pretrain(config(corpus, out, steps=steps, workers=workers), progress=False)
    assert_same_end(finished, out)
    assert losses(out) == losses(finished)


# --- ranks ---------------------------------------------------------------------------------------------------------------


def losses_on(ranks: World, corpus: Path, out: Path, changes: dict, frozen: bool = False, save: bool = False) -> list[float]:
    """The loss of each step that is left; `frozen`: with batch norms in evaluation mode; `save`: and a checkpoint."""
    run = Run(config(corpus, out, **changes), ranks)
    run.model.train(not frozen)
    batches, found = run.batches(), []
    while run.step < run.config.steps:
        run.train_step(next(batches))
        found.append(run.metrics()["loss"])
    if save:
        run.save()
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_losses_do_not_depend_on_the_number_of_ranks(corpus, tmp_path, size):
    """The same global batch gives the same losses, in IR and in LA with two clusterings, where norms do not see the batch."""
    changes = {"steps": 14, "lr": 1e-4, "clusterings": 2}
    alone = losses_on(World(), corpus, tmp_path, changes, True)
    for several in on_ranks(size, losses_on, corpus, tmp_path, changes, True):
        np.testing.assert_allclose(several, alone, rtol=1e-5)


def test_accumulation_adds_up(corpus, tmp_path):
    """Parts of a batch give the step of the whole, where batch norms do not tell them apart."""

    def step(accumulate):
        run = Run(config(corpus, tmp_path, accumulate=accumulate, steps=3))
        run.model.eval()
        batches = run.batches()
        for _ in range(3):
            run.train_step(next(batches))
        return run.model.state_dict(), run.metrics()["loss"]

    (whole, loss), (parts, other) = step(1), step(2)
    assert other == pytest.approx(loss, rel=1e-5)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)


def test_ways_to_compute_change_little(corpus, tmp_path):
    def first_losses(**changes):
        return losses_on(World(), corpus, tmp_path, {"steps": 3, "lr": 1e-4, **changes})

    plain = first_losses()
    np.testing.assert_allclose(first_losses(channels_last=True), plain, rtol=1e-3)
    np.testing.assert_allclose(first_losses(grad_checkpointing=True), plain, rtol=1e-5)
    single = {"model": "vie_single_tiny"}
    np.testing.assert_allclose(first_losses(dtype="bfloat16", **single), first_losses(**single), rtol=0.1)


def test_wrong_convolutions_are_found(corpus, tmp_path, monkeypatch):
    """What oneDNN 3.13 does on some CPUs: a weight gradient of uninitialized memory."""

    def wrong(conv, inputs, dtype, gradients):
        found = results(conv, inputs, dtype, gradients)
        if dtype == torch.bfloat16 and conv.stride == (2, 2):
            found["weight's gradient"] = torch.zeros_like(found["weight's gradient"])
        return found

    results = precision._results
    monkeypatch.setattr(precision, "_results", wrong)
    with pytest.raises(precision.WrongArithmeticError, match=r"wrong weight's gradient of stem.conv, .* error 1. Use float32"):
        Run(config(corpus, tmp_path, model="vie_single_tiny", dtype="bfloat16"))


@pytest.mark.parametrize("times", [0.5, 3.0])
def test_slow_half_precision_is_said(corpus, tmp_path, monkeypatch, capsys, times):
    """On a clock of its own: in bfloat16, each convolution takes `times` as long as in float32."""

    def timed(conv, inputs, dtype, gradients):
        clock["now"] += times if dtype == torch.bfloat16 else 1.0
        return results(conv, inputs, dtype, gradients)

    results, clock = precision._results, {"now": 0.0}
    monkeypatch.setattr(precision, "_results", timed)
    monkeypatch.setattr(precision, "time", SimpleNamespace(process_time=lambda: clock["now"]))
    Run(config(corpus, tmp_path, model="vie_single_tiny", dtype="bfloat16"))
    said = capsys.readouterr().err
    assert ("3.0 times" in said and "--dtype float32" in said) == (times > 1)


@pytest.mark.slow
def test_compiled_training_changes_little(corpus, tmp_path):
    plain = losses_on(World(), corpus, tmp_path, {"steps": 3, "lr": 1e-4})
    np.testing.assert_allclose(
        losses_on(World(), corpus, tmp_path, {"steps": 3, "lr": 1e-4, "compile": True}), plain, rtol=1e-3
    )


@pytest.mark.parametrize("size", [1, 4])
def test_a_run_of_two_ranks_goes_on_with_others(corpus, tmp_path, size):
    """The bank is where it was, and the losses go on as those of an uninterrupted run."""
    alone = losses_on(World(), corpus, tmp_path / "alone", {"steps": 12, "lr": 1e-4}, True)
    on_ranks(2, losses_on, corpus, tmp_path / "run", {"steps": 8, "lr": 1e-4}, True, True)
    for several in on_ranks(size, losses_on, corpus, tmp_path / "run", {"steps": 12, "lr": 1e-4}, True):
        np.testing.assert_allclose(several, alone[8:], rtol=1e-4)


# --- what may happen to a run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kills", "ranks", "workers"),
    [(1, 2, 1), pytest.param(10, 1, 2, marks=pytest.mark.slow), pytest.param(10, 2, 0, marks=pytest.mark.slow)],
)
def test_a_killed_run_goes_on_to_the_same_bits(corpus, tmp_path, kills, ranks, workers):
    changes = {"workers": workers, "steps": 20 * kills, "save_every": 4}
    process = start(flags(corpus, tmp_path / "whole", **changes), ranks)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    killed_run(flags(corpus, tmp_path / "killed", **changes), tmp_path / "killed", kills, ranks, 20 * kills)
    assert_same_end(tmp_path / "whole", tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.parametrize(("ranks", "workers", "everyone"), [(1, 0, False), (1, 2, True), (2, 2, False)])
def test_a_signal_saves_where_the_run_is(corpus, tmp_path, ranks, workers, everyone):
    """`everyone`: as a job scheduler sends it, to workers and their server too; torchrun hands it on to its ranks' groups."""
    out = tmp_path / "run"
    process = start(flags(corpus, out, steps=100_000, save_every=100_000, workers=workers), ranks)
    while len(losses(out)) < 5 and process.poll() is None:
        time.sleep(0.02)
    if everyone:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=100)[1]
    assert newest(out)[0]["step"] == len(losses(out)) >= 5, errors
    if ranks == 1:
        assert process.returncode == 130, errors
        assert "the same command continues" in errors


def test_what_is_no_number_is_not_saved(corpus, tmp_path):
    """Also where the loss, which is of before the step, still is one."""
    run = Run(config(corpus, tmp_path))
    batches = run.batches()
    run.train_step(next(batches))
    run.save()
    with torch.no_grad():
        run.model.stem.conv.weight[0] = torch.inf
    run.step += 1
    with pytest.raises(NotFiniteError, match=r"memory bank .* step 2"):
        run.save()
    assert newest(tmp_path)[0]["step"] == 1


def test_a_bank_stays_with_its_list(corpus, tmp_path):
    """Row i of another run's bank is video i: of the same list."""
    pretrain(config(corpus, tmp_path / "first", steps=3), progress=False)
    lines = (corpus / "train").read_text().splitlines(keepends=True)
    (tmp_path / "reversed").write_text("".join(reversed(lines)))
    with pytest.raises(ValueError, match="another train_list"):
        Run(config(corpus, tmp_path / "second", resume=tmp_path / "first", train_list=tmp_path / "reversed"))
    assert Run(config(corpus, tmp_path / "third", resume=tmp_path / "first")).step == 3


def test_ranks_validate_what_is_saved(corpus, tmp_path):
    """Running statistics differ between ranks after a step; those of rank 0 are in the checkpoint, and count."""
    first, second = on_ranks(2, statistics_after_validation, corpus, tmp_path)
    assert len(first) > 10
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def statistics_after_validation(ranks: World, corpus: Path, out: Path) -> list[torch.Tensor]:
    run = Run(config(corpus, out, val_list=corpus / "val"), ranks)
    run.train_step(next(run.batches()))
    run.validate()
    return [buffer.clone() for buffer in run.model.buffers()]


def test_a_bank_can_begin_with_embeddings(corpus, tmp_path):
    """The rows are unit vectors that the untrained encoder gives, and nothing but the bank has changed."""
    run = Run(config(corpus, tmp_path / "run", bank_start="embeddings", noise=0))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    random = run.objective.bank.rows.clone()
    run.fill_bank(run.objective.bank)
    rows = run.objective.bank.rows
    assert run.objective.bank.momentum == 0.5
    assert (rows != random).any(1).all()
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    assert rows.std(0).mean() < random.std(0).mean()  # an untrained encoder gives all videos about the same
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_the_bank_begins_with_views_of_its_own():
    views = [view for batch in before_training(10, 4, World()) for view in batch]
    assert [index for _, index in views] == [*range(10), 0, 1]
    assert {epoch for epoch, _ in views}.isdisjoint(range(10**6))


def test_small_clips_train_the_same_encoder(corpus, tmp_path):
    small = pretrain(config(corpus, tmp_path / "small", crop=32, steps=4), progress=False)
    model = export_run(small, tmp_path / "weights")
    assert (model.clip_spec.crop, model.clip_spec.resize) == (32, 36)
    whole = Run(config(corpus, tmp_path / "whole", weights=tmp_path / "weights"))
    assert whole.model.clip_spec.crop == 64
    assert torch.equal(whole.model.state_dict()["stem.conv.weight"], model.state_dict()["stem.conv.weight"])


def test_the_learning_rate_warms_up(corpus, tmp_path):
    warm = config(corpus, tmp_path, warmup_steps=4, lr=0.4)
    assert [round(warm.lr_at(step), 6) for step in range(6)] == [0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    cosine = config(corpus, tmp_path, warmup_steps=4, lr=0.4, schedule="cosine")
    assert cosine.lr_at(1) == pytest.approx(0.2, rel=0.05)
    assert cosine.lr_at(19) < 0.01


def test_two_runs_do_not_share_a_folder(corpus, finished):
    from filelock import FileLock

    with FileLock(finished / ".lock"):
        with pytest.raises(BlockingIOError, match=r"another process .*: wait"):
            pretrain(config(corpus, finished), progress=False)


def test_a_damaged_checkpoint_is_put_aside(corpus, finished, tmp_path):
    out = tmp_path / "run"
    pretrain(config(corpus, out, steps=15), progress=False)
    path = out / "checkpoints" / "step-000000015" / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"step-000000015 is damaged \(state.pt differs from what was written\)"):
        pretrain(config(corpus, out), progress=False)
    assert_same_end(finished, out)
    assert (out / "checkpoints" / "step-000000015.damaged").is_dir()

    for checkpoint in (out / "checkpoints").glob("step-*"):
        (checkpoint / "hashes.json").unlink()
    with pytest.raises(DamagedCheckpointError, match="every checkpoint in"):
        pretrain(config(corpus, out, steps=30), progress=False)


def test_a_full_disk_leaves_the_checkpoint_before(corpus, tmp_path):
    out = tmp_path / "run"
    script = f"""
import resource, signal, sys
from vie_models.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
arguments = {flags(corpus, out)!r}
main(["train", *arguments, "--steps", "10"])
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
sys.exit(main(["train", *arguments]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "vie: the checkpoint of step 15 could not be written to" in done.stderr
    assert "make room, and start the same command again" in done.stderr
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-000000005", "step-000000010"]
    pretrain(config(corpus, out), progress=False)
    assert newest(out)[0]["step"] == 20


def test_unreadable_videos_are_left_out_up_to_a_share(corpus, tmp_path):
    listing = (corpus / "train").read_text()
    (tmp_path / "list").write_text("missing.mp4 30 0\nbroken.mp4 30 1\n" + listing)
    (corpus / "broken.mp4").write_bytes(b"no video")
    out = pretrain(config(corpus, tmp_path / "run", train_list=tmp_path / "list"), progress=False)
    lines = [json.loads(line) for line in (out / "failed_videos.jsonl").read_text().splitlines()]
    assert sorted(Path(line["path"]).name for line in lines) == ["broken.mp4", "missing.mp4"]
    assert read_metrics(out)[-1]["failed_videos"] == 2
    assert np.isfinite(losses(out)).all()
    bank = newest(out)[1][0]["rows"]
    untouched = Run(config(corpus, tmp_path / "new", train_list=tmp_path / "list")).objective.bank.rows
    assert torch.equal(bank[:2], untouched[:2])  # their rows were never written
    assert not (bank[2:] == untouched[2:]).all(dim=1).any()
    with pytest.raises(TooManyFailuresError, match=r"2 of the .*list.* 0\.05 .*failed_videos\.jsonl"):
        pretrain(config(corpus, tmp_path / "run2", train_list=tmp_path / "list", max_failed=0.05), progress=False)
    assert not (tmp_path / "run2" / "checkpoints").exists()


def test_settings_of_earlier_versions_are_read(corpus, tmp_path):
    fields = config(corpus, tmp_path).to_dict()
    assert TrainConfig.from_dict({**fields, "max_failures": 100}) == TrainConfig.from_dict(fields)


def test_a_loss_that_is_no_number_ends_the_run(corpus, tmp_path):
    with pytest.raises(NotFiniteError, match=r"try a smaller lr \(it is 1e\+30\)"):
        pretrain(config(corpus, tmp_path, lr=1e30, steps=20), progress=False)


# --- settings ------------------------------------------------------------------------------------------------------------


def test_recipes_are_the_papers():
    """REFERENCE, section 3."""
    made = {name: recipe(name, out="x", train_list="y") for name in RECIPES}
    assert {name: made[name].batch_size for name in RECIPES if not name.endswith(("_tiny", "_small"))} == {
        **{"vie_single": 128, "vie_slow": 64, "vie_slowfast": 64, "vie_3dresnet": 64, "vie_trn": 64}
    }
    ours = made["vie_3dresnet"]
    assert (ours.ir_steps, ours.noise, ours.clusters, ours.background, ours.steps) == (50_000, 4096, 10_000, 4096, 1_450_000)
    assert (made["vie_single"].clusters, made["vie_single"].background) == (8000, 512)
    rates = [ours.lr_at(step) for step in (0, 974_946, 974_947, 1_304_998, 1_304_999)]
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.003, 0.0003])
    assert (ours.momentum, ours.weight_decay, ours.temperature, ours.bank_momentum) == (0.9, 1e-4, 0.07, 0.5)
    with pytest.raises(ValueError, match="'vie_slwo', perhaps vie_slow"):
        recipe("vie_slwo", out="x", train_list="y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size .* 1, got 0"),
        ({"temperature": 0.0}, "temperature .* 0.002 .* got 0.0"),
        ({"objective": "simclr"}, "objective .* supervised, .* got 'simclr'"),
        ({"lr_boundaries": (5, 3)}, r"lr_boundaries .* ascending .* got \(5, 3\)"),
        ({"batch_size": 6, "accumulate": 4}, r"multiple of accumulate \(4\), got 6"),
        ({"model": "vie_twopathway"}, "vie_twopathway .* objective='supervised'"),
        ({"model": "vie_slo"}, "unknown model 'vie_slo'"),
        ({"part": 0.0}, r"part .*\(0, 1\], got 0.0"),
        ({"clusters": 100}, "20 videos .* --clusters 3 --background 8"),
        ({"batch_size": 64}, "batch_size .* 20 videos"),
        ({"device": "cuda"}, "sees no GPU"),
    ],
)
def test_wrong_settings(corpus, tmp_path, change, message):
    if change.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=message):
        pretrain(config(corpus, tmp_path, **change), progress=False)


def test_a_run_keeps_its_settings_and_its_list(corpus, finished, tmp_path):
    with pytest.raises(ValueError, match=r"temperature was 0.07, is 0.1\): choose another folder"):
        pretrain(config(corpus, finished, temperature=0.1), progress=False)
    lines = (corpus / "train").read_text().splitlines(keepends=True)
    (tmp_path / "list").write_text("".join(reversed(lines)))
    with pytest.raises(ValueError, match="is not the list that the run in"):
        pretrain(config(corpus, finished, train_list=tmp_path / "list"), progress=False)


# --- what becomes of a run -----------------------------------------------------------------------------------------------


def test_export_gives_weights_that_load(finished, tmp_path, capsys):
    out = tmp_path / "weights"
    assert main(["export", str(finished), str(out)]) == 0
    assert (
        "vie_3dresnet_tiny of width 4: bank.safetensors, config.json, model.safetensors, training.json"
        in capsys.readouterr().out
    )
    model = vie.from_pretrained(out)
    state, parts = newest(finished)
    assert all(torch.equal(value, state["model"][name]) for name, value in model.state_dict().items())
    from vie_models.models.weight_folder import read_tensors

    bank = read_tensors(out / "bank.safetensors")
    assert torch.equal(bank["memory_bank"], parts[0]["rows"])
    assert bank["labels"].tolist() == [i % 3 for i in range(20)]
    training = json.loads((out / "training.json").read_text())
    assert training["step"] == 20
    assert training["validation"]["val_videos"] == 4
    assert main(["export", str(tmp_path), str(out)]) == 2
    assert "no checkpoint in" in capsys.readouterr().err


def test_plot_draws_curves(finished, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from PIL import Image

    assert main(["plot", str(finished), "-o", str(tmp_path / "curves.png")]) == 0
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 500
    assert main(["plot", str(tmp_path)]) == 2
    assert "is not the folder of a `vie train` run" in capsys.readouterr().err


def test_the_published_curve_is_drawn_for_the_published_recipe():
    pytest.importorskip("matplotlib")
    from matplotlib.axes import Axes

    from vie_models.train import plot

    ours = recipe("vie_3dresnet", out="x", train_list="y")
    assert plot._is_published(ours)
    assert not plot._is_published(recipe("vie_3dresnet", out="x", train_list="y", noise=100))
    assert not plot._is_published(recipe("vie_slow", out="x", train_list="y"))
    drawn = []
    plot._published(
        type("Panel", (Axes,), {"__init__": lambda self: None, "plot": lambda self, *a, **k: drawn.append((a, k))})()
    )
    (steps, values), _ = drawn[0]
    assert steps[0] == 5000
    assert len(steps) == len(values) == 294
    assert max(values[:10]) < 0.1 < max(values) == pytest.approx(0.323, abs=1e-3)  # ten of IR, then LA


def test_supervised_training_is_the_same_loop(corpus, tmp_path):
    changes = {
        "objective": "supervised",
        "augmentation": "multi_scale_crop",  # the other one changes colors
        "steps": 30,
        "lr": 0.01,
        "val_list": corpus / "val",
        "batch_size": 10,
        "log_every": 10,
    }
    out = pretrain(config(corpus, tmp_path / "run", **changes), progress=False)
    assert losses(out)[-1] < losses(out)[0]
    assert read_metrics(out)[-1]["top1"] >= 0.5  # colors are easy
    assert main(["export", str(out), str(tmp_path / "weights")]) == 0
    assert vie.from_pretrained(tmp_path / "weights").num_classes == 3
    (tmp_path / "list").write_text("".join(f"{i}.mp4\n" for i in range(20)))
    with pytest.raises(ValueError, match="no labels, but objective='supervised'"):
        pretrain(
            config(corpus, tmp_path / "other", **{**changes, "val_list": None, "train_list": tmp_path / "list"}), progress=False
        )


def test_lists_without_labels_are_enough(corpus, tmp_path):
    (tmp_path / "list").write_text("".join(f"{i}.mp4\n" for i in range(20)))
    pretrain(config(corpus, tmp_path / "run", steps=2, train_list=tmp_path / "list"), progress=False)
    with pytest.raises(ValueError, match=r"labels in .*val"):
        pretrain(
            config(corpus, tmp_path / "run2", steps=2, train_list=tmp_path / "list", val_list=corpus / "val"), progress=False
        )


def test_a_run_begins_with_weights(corpus, finished, tmp_path):
    main(["export", str(finished), str(tmp_path / "weights")])
    run = Run(config(corpus, tmp_path / "run", weights=tmp_path / "weights"))
    assert run.step == 0
    assert all(torch.equal(value, newest(finished)[0]["model"][name]) for name, value in run.model.state_dict().items())
    with pytest.raises(ValueError, match="not both"):
        config(corpus, tmp_path / "run", weights=tmp_path / "weights", resume=finished)


def test_a_run_goes_on_from_another(corpus, finished, tmp_path):
    run = Run(config(corpus, tmp_path / "run", resume=finished, lr=0.01))
    state, parts = newest(finished)
    assert run.step == 20
    assert torch.equal(run.objective.bank.rows, parts[0]["rows"])
    assert torch.equal(run.objective.clusters, state["objective"]["clusters"])
    momenta, expected = run.optimizer.state_dict()["state"], state["optimizer"]["state"]
    assert momenta.keys() == expected.keys()
    assert all(torch.equal(momenta[k]["momentum_buffer"], expected[k]["momentum_buffer"]) for k in expected)
    with pytest.raises(ValueError, match="objective='vie', not 'supervised': start from its weights"):
        Run(config(corpus, tmp_path / "run", resume=finished, objective="supervised"))
    with pytest.raises(ValueError, match="vie_3dresnet_tiny, which vie_slow cannot"):
        Run(config(corpus, tmp_path / "run", resume=finished, model="vie_slow"))


def test_a_run_goes_on_from_a_checkpoint_of_another(corpus, finished, tmp_path):
    """The one that is named, and not the newest; what is made of it is what was made."""
    before = sorted((finished / "checkpoints").glob("step-*"))[-2]
    run = Run(config(corpus, tmp_path / "run", resume=before))
    assert run.step == int(before.name.removeprefix("step-")) < 20
    pretrain(config(corpus, tmp_path / "run", resume=before), progress=False)
    assert_same_end(finished, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*step-000000001; its folder has: .*step-000000020"):
        Run(config(corpus, tmp_path / "other", resume=before.with_name("step-000000001")))
    shutil.copytree(finished, tmp_path / "damaged")
    (tmp_path / "damaged" / "checkpoints" / before.name / "state.pt").write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match=r"is damaged .* another checkpoint"):
        Run(config(corpus, tmp_path / "third", resume=tmp_path / "damaged" / "checkpoints" / before.name))


def test_trn_goes_on_from_single(corpus, tmp_path):
    """As in the paper: everything but the head, which sees four frames now."""
    spec = {"steps": 4, "ir_steps": 4, "width": 4, "batch_size": 2}
    single = pretrain(recipe("vie_single", **settings(corpus, tmp_path / "single", **spec)), progress=False)
    run = Run(recipe("vie_trn", **settings(corpus, tmp_path / "trn", **{**spec, "steps": 6}, resume=single)))
    state, parts = newest(single)
    assert run.step == 4
    mine = run.model.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in state["model"].items() if not name.startswith("head."))
    assert mine["head.weight"].shape == (128, 4 * state["model"]["head.weight"].shape[1])
    assert torch.equal(run.objective.bank.rows, parts[0]["rows"])
    assert run.model.head.weight not in run.optimizer.state
    run.train_step(next(run.batches()))


def test_a_tensorflow_checkpoint_goes_on(tmp_path):
    """checkpoint-3.tar: weights, momentum, memory bank, clusters and step of the original's own run."""
    variables = vie.read_checkpoint(REFERENCE / "checkpoint-3.tar")
    rows = len(variables["instance/memory_bank"])
    (tmp_path / "list").write_text("".join(f"{i}.mp4 {label}\n" for i, label in enumerate(variables["instance/all_labels"])))
    values = {**SMALL, "train_list": tmp_path / "list", "out": tmp_path / "run", "resume": REFERENCE / "checkpoint-3.tar"}
    run = Run(recipe("vie_3dresnet", **{**values, "ir_steps": 0}))
    assert run.step == 3
    np.testing.assert_array_equal(run.objective.bank.rows, variables["instance/memory_bank"])
    np.testing.assert_array_equal(run.objective.clusters, variables["instance/cluster_labels"])
    momentum = run.optimizer.state[run.model.stem.conv.weight]["momentum_buffer"]
    np.testing.assert_array_equal(momentum, variables["resnet_model/conv3d/kernel/Momentum"].transpose(4, 3, 0, 1, 2))
    assert len(run.optimizer.state) == len(list(run.model.parameters()))
    assert run.sampler.first_step == 3
    (tmp_path / "list").write_text("".join(f"{i}.mp4 0\n" for i in range(rows - 1)))
    with pytest.raises(ValueError, match=rf"bank of {rows - 1} rows .* from one of {rows} rows"):
        Run(recipe("vie_3dresnet", **{**values, "ir_steps": 0}))


def test_command_line(corpus, tmp_path, capsys):
    assert main(["train", *flags(corpus, tmp_path / "run", steps=3)]) == 0
    assert "all steps are done" in capsys.readouterr().out
    assert main(["train", "vie_3dresnet_tny", "--out", "x", "--train-list", "y"]) == 2
    assert "perhaps vie_3dresnet_tiny" in capsys.readouterr().err
    assert main(["train", *flags(corpus, tmp_path / "run2", train_list=tmp_path / "nothing")]) == 2
    with pytest.raises(SystemExit):
        main(["train", "vie_slow"])
    assert "--train-list" in "".join(capsys.readouterr())
