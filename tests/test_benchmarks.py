"""Runs the benchmarks and checks what they compare and write, not the times they measure."""

import argparse
import contextlib
import json
import os
import subprocess
import sys

import pytest
import torch
from support import ROOT
from support.fake_cuda import fake_cuda
from support.ffmpeg import path_with_ffmpeg

from benchmarks.__main__ import main
from benchmarks.train import clips_in_memory, make_run


def run(tmp_path, name, *arguments):
    command = [sys.executable, "-m", "benchmarks", name, *map(str, arguments), "--device", "cpu", "--rounds", "1"]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{name}.md").read_text() in done.stdout
    return json.loads((tmp_path / f"{name}.json").read_text())["tables"]


def test_forward(tmp_path):
    (table,) = run(tmp_path, "forward", "--models", "vie_3dresnet_tiny", "--variants", "eager", "fused", "bf16")
    ways = [row[3] for row in table["rows"]]
    assert ways[:4] == ["eager", "fused", "bf16", "convolutions"]
    assert {"r3d_18", "mc3_18", "r2plus1d_18", "matmul", "best convolution"} <= set(ways)
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    assert row["GFLOP/s"] == pytest.approx(row["GFLOP"] / row["s/clip"])
    assert (tmp_path / "forward.png").exists()


def test_forward_of_programs(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    (table,) = run(tmp_path, "forward", "--models", "vie_single_tiny", "--variants", "eager", "onnxruntime")
    assert [row[3] for row in table["rows"]][:2] == ["eager", "onnxruntime"]
    assert all(row[4] > 0 for row in table["rows"][:2])


def test_forward_with_channels_last(tmp_path):
    flags = ("--models", "vie_single_tiny", "vie_twopathway_tiny", "--variants", "eager", "--no-peers", "--channels-last")
    (table,) = run(tmp_path, "forward", *flags)
    assert [row[0] for row in table["rows"] if row[3] == "eager"] == ["vie_single_tiny", "vie_twopathway_tiny"]


def test_gpu_without_av_and_tyro(tmp_path, monkeypatch):
    for package in ("av", "tyro", "pytest"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise ModuleNotFoundError('No module named {package}')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    *tables, wrong = run(tmp_path, "gpu", "--dry", "--minutes", "60")
    assert wrong["rows"] == []
    assert len(tables) == 14
    (one_run,) = (dict(table["rows"]) for table in tables if table["title"].startswith("A run from a JPEG pack"))
    assert one_run["losses in one go"] == one_run["losses of a run that was killed"]
    assert one_run["killed before its end"] == "yes"


def here(tmp_path, monkeypatch, *arguments):
    """Runs a benchmark in this process."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments, "--out", str(tmp_path)])
    main()


def test_gpu_on_a_cuda_device_that_is_not_there(tmp_path, monkeypatch):
    """No tensors of two devices mix, and the results are the CPU's. The device knows no autocast and no inference tensors."""
    monkeypatch.setattr(torch, "inference_mode", lambda on=True: torch.no_grad() if on else contextlib.nullcontext())
    parts = ("forward", "reference", "bank", "train", "augment", "fed", "extract")
    with fake_cuda():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))  # no bfloat16
        here(tmp_path, monkeypatch, "gpu", "--device", "cuda", "--dry", "--minutes", "60", "--parts", *parts)
    *_, wrong = json.loads((tmp_path / "gpu.json").read_text())["tables"]
    assert wrong["rows"] == []


def test_training_steps_run_on_the_gpu_that_is_asked_for(tmp_path):
    options = argparse.Namespace(device="cuda", rows=5000, batch=2, dtype="float32", channels_last=False, compile=False)
    with fake_cuda():
        run = make_run("vie_single_tiny", tmp_path, options)
        assert {parameter.device.type for parameter in run.model.parameters()} == {"cuda"}
        assert clips_in_memory(run).frames.is_pinned()


def test_gpu_says_what_it_had_no_time_for(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="1"):
        here(tmp_path, monkeypatch, "gpu", "--device", "cpu", "--dry", "--minutes", "0", "--parts", "bank")
    (wrong,) = json.loads((tmp_path / "gpu.json").read_text())["tables"]
    assert [row[0] for row in wrong["rows"]] == ["bank"]


def test_what_the_papers_runs_would_cost(tmp_path, monkeypatch):
    here(tmp_path, monkeypatch, "gpu", "--paper", "--share", "0.5", "--peak", "1000", "--cores", "16")
    tables = json.loads((tmp_path / "paper.json").read_text())["tables"]
    costs, reading, _ = ([dict(zip(table["columns"], row, strict=True)) for row in table["rows"]] for table in tables)
    hours = {}
    for row in costs:
        clips = row["clips a step"] * int(row["steps"].replace(",", ""))
        seconds = clips * 3 * row["GFLOP per clip, forward"] * 1e9 / (0.5 * 1000e12)
        assert row["hours, 1 GPU"] == pytest.approx(seconds / 3600)
        hours[row["recipe"]] = seconds / 3600, clips
    for row in reading:
        alone, clips = hours[row["recipe"]]
        reads = clips * row["CPU ms per clip"] / 1000 / 16 / 3600
        assert row["hours, 1 GPU and 16 cores"] == pytest.approx(max(alone, reads))


def test_train_and_kmeans(tmp_path, corpus):
    flags = ("--list", corpus / "train", "--root", corpus, "--workers", 0, 1, "--batch", 4, "--seconds", 0.1)
    table, fed = run(tmp_path, "train", "--recipes", "vie_single_tiny", "--rows", 20_000, *flags)
    assert [row[0] for row in table["rows"]] == ["vie_single_tiny"]
    assert [row[1:3] for row in fed["rows"]] == [[s, w] for s in ("files", "jpeg pack", "raw pack") for w in (0, 1)]
    (table,) = run(tmp_path, "kmeans", "--rows", 2000, "--clusters", 40, "--iterations", 3)
    assert table["rows"][0][0] == "vie_models"


@pytest.mark.slow
def test_encoders(tmp_path, corpus):
    pytest.importorskip("transformers", reason="transformers is not installed")
    flags = ("--copies", 2, "--clips", 1, "--workers", 1, "--models", "timm:test_vit,untrained,frames=2", "hf:videomae")
    (table,) = run(tmp_path, "encoders", corpus / "0.mp4", *flags)
    assert [len(row) for row in table["rows"]] == [4, 4]
    assert all(row[3] > 0 for row in table["rows"])


def test_search(tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed")
    speed, size = run(tmp_path, "search", "--rows", 3000, "--kinds", "exact", "ivf")
    rows = {row[1]: row for row in speed["rows"]}
    assert list(rows) == ["exact", "faiss IndexFlatIP", "ivf, 8 probes"]
    assert rows["faiss IndexFlatIP"][2] == pytest.approx(1, abs=0.01)
    assert rows["ivf, 8 probes"][2] > 0.5
    assert [row[1] for row in size["rows"]] == ["exact", "ivf"]


def test_decode_load_and_extract(tmp_path, corpus, monkeypatch):
    monkeypatch.setenv("PATH", path_with_ffmpeg(tmp_path))
    (whole,) = run(tmp_path, "decode", corpus / "0.mp4", "--seconds", 2)
    assert [row[1] for row in whole["rows"]][:2] == ["vie_models", "ffmpeg -f null"]
    clips, cores = run(tmp_path, "load", corpus / "0.mp4", "--models", "vie_single_tiny", "--clips", 2)
    sources = ["file", "copy, short side 320", "JPEG frames", "JPEG pack", "raw pack", "file, torchvision's transforms"]
    assert [row[3] for row in clips["rows"]][:6] == sources
    assert len(cores["rows"]) == len(clips["rows"])
    flags = ("--models", "vie_single_tiny", "--copies", 6, "--clips", 2)
    costs, hours = run(tmp_path, "extract", corpus / "0.mp4", *flags)
    assert len(costs["rows"]) == len(hours["rows"]) == 1
