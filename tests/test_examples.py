"""Runs the examples on videos rendered here."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from support import ROOT
from support.videos import gray_levels, write_video

import vie_models as vie


def run(example: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "examples" / example), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A folder of features from extract_features.py, and the output of that script."""
    folder = tmp_path_factory.mktemp("examples")
    torch.manual_seed(0)
    vie.save_pretrained(vie.create_model("vie_3dresnet_tiny"), folder / "weights")
    (folder / "videos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (3, 1, 48, 64, 3), np.uint8)
    for name, pattern in zip("abc", noise, strict=True):
        write_video(folder / "videos" / f"{name}.mp4", gray_levels(60) // 2 + pattern // 3)
    (folder / "videos" / "broken.mp4").write_bytes(b"")
    weights = ["--model", "vie_3dresnet_tiny", "--weights", folder / "weights"]
    return folder / "out", run("extract_features.py", folder / "out", folder / "videos", *weights, "--layers", "encode_3")


def test_extract_features(features):
    _, printed = features
    assert "3 ok, 1 failed" in printed
    assert "broken.mp4: cannot be opened as a video" in printed
    assert "encode_3: [15, 16] float32" in printed
    assert "mean cosine of two clips of one video" in printed


def test_nearest_neighbors(features, tmp_path):
    from PIL import Image

    folder, _ = features
    printed = run("nearest_neighbors.py", folder, "b.mp4", tmp_path / "sheet.png", "--clip", 2).splitlines()
    assert printed[0].startswith("cosine 1.000: b.mp4, from 0.88 s")
    assert {line.split()[2] for line in printed[1:]} == {"a.mp4,", "c.mp4,"}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * 112, 3 * (112 + 14))


def test_demo_looks_through_your_video(tmp_path):
    video = write_video(tmp_path / "mine.mp4", gray_levels(150))
    printed = run("demo.py", "--video", video, "--out", tmp_path / "out")
    assert printed.startswith("mine.mp4 lasts 0:06: ")
    assert printed.endswith(f" app {video}\n")
    assert len(printed.splitlines()) == 5
    assert (tmp_path / "out" / "moments.png").stat().st_size > 1000


@pytest.fixture
def colors(tmp_path):
    """Two class folders with videos of red and of blue noise."""
    generator = np.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for i in range(6):
            frames = generator.integers(0, 128, (20, 48, 64, 3), np.uint8)
            frames[..., channel] += 120
            write_video(tmp_path / "videos" / name / f"{name} {i}.mp4", frames)
    return tmp_path / "videos"


def test_finetune(colors, tmp_path):
    torch.manual_seed(0)
    vie.save_pretrained(vie.create_model("vie_single_tiny"), tmp_path / "weights")
    weights = ["--model", "vie_single_tiny", "--weights", tmp_path / "weights"]
    settings = ["--epochs", 15, "--batch-size", 4, "--lr", 0.02, "--workers", 0]
    lines = run("finetune.py", colors, tmp_path / "out", *weights, *settings).splitlines()
    assert len(lines) == 15
    assert int(lines[-1].split("; ")[1].split()[0]) >= 3, lines  # of 4
    assert vie.from_pretrained(tmp_path / "out").num_classes == 2


def test_linear_probe(colors, tmp_path):
    pytest.importorskip("sklearn")
    torch.manual_seed(0)
    model = vie.create_model("vie_single_tiny").eval()
    vie.Extractor(model, layers=["encode_4"], workers=0).extract([colors], tmp_path / "features")
    paths = sorted(path.relative_to(colors) for path in colors.rglob("*.mp4"))
    lines = [f"{path},{path.parent},{'test' if i % 3 == 0 else 'train'}" for i, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text("path,label,split\n" + "\n".join(lines))
    printed = run("linear_probe.py", tmp_path / "features", tmp_path / "labels.csv", "--layers", "encode_4", "embedding")
    assert printed.splitlines()[0] == "8 videos to train on, 4 to test, 2 classes"
    assert printed.splitlines()[1] == "encode_4: 100.0 % test accuracy"


def test_ridge_regression(tmp_path):
    for package in ("sklearn", "matplotlib", "xarray", "netCDF4"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from vie_models.neuro import stimulus_features

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (60, 1, 6, 8, 3), np.uint8).repeat(5, 0).reshape(300, 1, 6, 8, 3)
    for name, part in (("a", scenes[:150]), ("b", scenes[150:])):
        write_video(tmp_path / f"{name}.mp4", part[:, 0].repeat(8, 1).repeat(8, 2))
    (tmp_path / "table.csv").write_text("stimulus\na.mp4\nb.mp4\n")
    layers = ["encode_2", "encode_6", "embedding"]
    settings = {"layers": layers, "pool": "avg", "stride": 0.2, "workers": 0}
    model = vie.create_model("vie_single_tiny", pretrained=True)
    stimulus_features(tmp_path / "table.csv", model, tmp_path / "f.nc", **settings)
    lines = run("ridge_regression.py", tmp_path / "f.nc", "--layer", "encode_6", "--picture", tmp_path / "p.png").splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == layers
    assert lines[-1] == "best: encode_6; true: encode_6"
    medians = [float(line.split()[3]) for line in lines[:3]]
    assert 0.2 < medians[1] < 0.75, "half of the variance is noise: r cannot be above about 0.71"
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_examples_are_short():
    for example in ("extract_features.py", "nearest_neighbors.py", "linear_probe.py"):
        assert len((ROOT / "examples" / example).read_text().splitlines()) < 60
    assert len((ROOT / "examples" / "finetune.py").read_text().splitlines()) < 80
