"""Runs the benchmarks and checks what they compare and write, not the times they measure."""

import json
import subprocess
import sys

import pytest
from support import ROOT
from support.ffmpeg import path_with_ffmpeg


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


def test_train_and_kmeans(tmp_path, corpus):
    flags = ("--list", corpus / "train", "--root", corpus, "--workers", 0, 1, "--batch", 4, "--seconds", 0.1)
    table, fed = run(tmp_path, "train", "--recipes", "vie_single_tiny", "--rows", 20_000, *flags)
    assert [row[0] for row in table["rows"]] == ["vie_single_tiny"]
    assert [row[1:3] for row in fed["rows"]] == [[s, w] for s in ("files", "jpeg pack", "raw pack") for w in (0, 1)]
    (table,) = run(tmp_path, "kmeans", "--rows", 2000, "--clusters", 40, "--iterations", 3)
    assert table["rows"][0][0] == "vie_models"


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
