"""Commands take the names of other packages' encoders, and an index finds its encoder again by its name."""

import json

import numpy as np
import pytest
from support.scenes import scene
from support.videos import write_list, write_video

from vie_models.cli import main

timm = pytest.importorskip("timm", minversion="1.0.16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight videos of two classes, and a small timm model with its weights, as timm saves it."""
    folder = tmp_path_factory.mktemp("commands")
    for seed in range(8):
        write_video(folder / f"{seed}.mp4", scene(1000 * (seed % 2), frames=30, shift=1 + seed))
    for name, seeds in (("train", range(4)), ("val", range(4, 8))):
        write_list(folder / f"{name}.txt", [f"{seed}.mp4 {seed % 2}" for seed in seeds])
    save(folder / "model", 0)
    return folder


def save(folder, seed):
    import torch

    torch.manual_seed(seed)
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=7), folder, safe_serialization=True)


@pytest.fixture
def name(folder):
    return f"timm:local-dir:{folder / 'model'},frames=2,fps=5"


def test_extract_index_search_and_segment(folder, name, tmp_path, capsys):
    videos, out = [str(folder / f"{seed}.mp4") for seed in range(4)], str(tmp_path / "features")
    extract = ["extract", name, *videos, "-o", out, "--workers", "0", "--layers", "layer2", "--clips", "2"]
    assert main([*extract, "--dry-run"]) == 0
    assert "about 8 clips" in capsys.readouterr().out
    assert main(extract) == 0
    line = json.loads((tmp_path / "features" / "manifest.jsonl").read_text().splitlines()[0])
    assert line["versions"]["timm"] == timm.__version__
    assert (line["settings"]["model"], line["settings"]["clip_spec"]["num_frames"]) == (name, 2)
    assert main(["index", out]) == 0
    capsys.readouterr()
    assert main(["search", out, videos[3], "--json", "-k", "1", "--keep-own", "--percentile", "0"]) == 0
    hit = json.loads(capsys.readouterr().out)
    assert hit["name"] == "3.mp4"
    assert hit["similarity"] == pytest.approx(1, abs=1e-3)
    picture = str(tmp_path / "segments.png")
    assert main(["segment", name, videos[0], "--out", picture]) == 0
    save(folder / "model", 1)
    try:
        assert main([*extract]) != 0
        assert "weights" in capsys.readouterr().err
    finally:
        save(folder / "model", 0)


def test_compare(folder, name, tmp_path, capsys):
    pytest.importorskip("sklearn")
    words = ["eval", "compare", name, "pixels", "--layers", "layer2", "--clips", "2", "--workers", "0", "--root", str(folder)]
    lists = ["--train-list", str(folder / "train.txt"), "--val-list", str(folder / "val.txt")]
    assert main([*words, *lists, "-o", str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    assert table == (tmp_path / "out" / "report.md").read_text() + "\n"
    assert (tmp_path / "out" / "report.png").is_file()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:] if line]
    assert sorted((row[1], row[2]) for row in rows) == sorted(
        (protocol, model) for protocol in ("knn", "logistic") for model in (name, name, "pixels")
    )
    assert len(list((tmp_path / "out").glob("**/layer2/*/results.json"))) == 2
    assert main([*words[:3], "--layers", "no", *words[6:], *lists, "-o", str(tmp_path / "none")]) != 0


def test_a_probe_loads_its_encoder_again(folder, name, tmp_path, capsys):
    """By its name. Another package's weights are not copied, so they are compared."""
    pytest.importorskip("sklearn")
    probe, lists = str(tmp_path / "probe"), [str(folder / "train.txt"), "--val-list", str(folder / "val.txt")]
    words = ["probe", name, "--train-list", *lists, "--root", str(folder), "--clips", "1", "--workers", "0", "-o", probe]
    assert main(words) == 0
    assert main(["predict", str(folder / "5.mp4"), "--weights", probe, "--threshold", "0", "--json", "--workers", "0"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sum(line["probabilities"].values()) == pytest.approx(1)
    save(folder / "model", 1)
    try:
        assert main(["predict", str(folder / "5.mp4"), "--weights", probe]) != 0
        assert "make the probe again" in capsys.readouterr().err
    finally:
        save(folder / "model", 0)


def test_info_and_stimuli(folder, name, tmp_path, capsys):
    assert main(["info", name]) == 0
    assert "layer2" in capsys.readouterr().out
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    write_list(tmp_path / "table.csv", ["stimulus", str(folder / "0.mp4")])
    out = tmp_path / "features.nc"
    words = ["neuro", "features", name, str(tmp_path / "table.csv"), "--out", str(out)]
    assert main([*words, "--layers", "layer2", "embedding", "--workers", "0"]) == 0
    with xarray.open_dataset(out) as found:
        assert np.isfinite(next(iter(found.data_vars.values())).to_numpy().astype(float)).any()


def test_what_is_not_there_is_named(capsys):
    for name, remedy in (
        ("timm:resnet1888", "resnet1888"),
        ("torchvision:r3d_88", "r3d_18"),
        ("torchvision:r3d_18.NONE", "KINETICS400_V1"),
        ("none.pt2", "vie program"),
    ):
        assert main(["extract", name, __file__, "-o", "nowhere"]) != 0
        assert remedy in capsys.readouterr().err
