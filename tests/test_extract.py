import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REFERENCE, grey_levels, write_video

import vie_models as vie
from vie_models import cli
from vie_models.extract import VIDEO_SUFFIXES
from vie_models.video.decode import open_video

CHECKPOINT = REFERENCE / "checkpoint-3.tar"


@pytest.fixture(scope="module")
def model():
    return vie.create_model("vie_3dresnet", checkpoint_path=CHECKPOINT)


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    write_video(folder / "long.mp4", grey_levels(60))
    write_video(folder / "sub" / "short.mp4", grey_levels(6))
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "notes.txt").write_text("not a video either")
    return folder


def test_every_file_is_accounted_for(model, videos, tmp_path):
    out = tmp_path / "out"
    records = {
        r.path.removeprefix(f"{videos}/"): r for r in vie.Extractor(model, layers=["encode_6"], clips=3).extract([videos], out)
    }
    assert {p: r.status for p, r in records.items()} == {
        "long.mp4": "ok",
        "sub/short.mp4": "ok",
        "broken.mp4": "failed",
        "notes.txt": "skipped",
    }
    assert records["sub/short.mp4"].looped == 3
    assert records["long.mp4"].looped == 0
    assert records["long.mp4"].duration == pytest.approx(2.4)
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [r.path for r in records.values()]
    assert all(line["reason"] for line in lines if line["status"] != "ok")
    with np.load(out / "long.mp4.npz") as features:
        assert {k: features[k].shape for k in features} == {
            "embedding": (3, 128),
            "encode_6": (3, 8),
            "start": (3,),
            "end": (3,),
            "looped": (3,),
            "frame_times": (3, 16),
        }
        assert features["start"] == pytest.approx([0, 0.88, 1.76])
        clip = vie.load_clip(videos / "long.mp4", model.clip_spec, start=0.88)
        with torch.inference_mode():
            expected = model(vie.clip_transform(model)(clip)[None])[0]
        np.testing.assert_allclose(features["embedding"][1], expected.numpy(), atol=1e-6)
        np.testing.assert_allclose(features["frame_times"][1], 0.88 + np.arange(16) / 25)
    assert (out / "sub" / "short.mp4.npz").exists()


def test_bad_requests_are_refused_before_work(model, videos, tmp_path):
    with pytest.raises(ValueError, match="has no layer encode_11"):
        vie.Extractor(model, layers=["encode_11"])
    with pytest.raises(ValueError, match="clips must be >= 1"):
        vie.Extractor(model, clips=0)
    with pytest.raises(ValueError, match=r"two videos would be written to long.mp4.npz"):
        vie.Extractor(model).extract([videos, videos / "long.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_line(videos, tmp_path, capsys):
    weights = tmp_path / "weights"
    assert cli.main(["convert", str(CHECKPOINT), str(weights)]) == 0
    assert "width 4: bank.safetensors, config.json, model.safetensors" in capsys.readouterr().out
    arguments = [
        "--model",
        "vie_3dresnet",
        "--checkpoint",
        str(weights),
        "--layers",
        "encode_6",
        "encode_10",
        "-o",
        str(tmp_path / "out"),
    ]
    assert cli.main(["extract", str(videos / "long.mp4"), *arguments]) == 0
    assert cli.main(["extract", str(videos), *arguments]) == cli.EXIT_SOME_FAILED
    captured = capsys.readouterr()
    assert "2 ok, 0 damaged, 1 failed, 1 skipped" in captured.out
    assert f"failed: {videos}/broken.mp4: cannot be opened as a video" in captured.err
    assert cli.main(["extract", str(tmp_path / "nothing"), *arguments]) == cli.EXIT_USAGE
    assert cli.main(["convert", str(videos / "broken.mp4"), str(weights)]) == cli.EXIT_FAILED
    assert cli.main(["extract", str(videos), "--model", "vie_slow", "-o", str(tmp_path)]) == cli.EXIT_FAILED
    assert "nobody has published weights for vie_slow" in capsys.readouterr().err


def test_list_and_info(capsys):
    assert cli.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == vie.list_models()
    assert cli.main(["info", "vie_3dresnet"]) == 0
    page = capsys.readouterr().out
    for fact in (
        "33.27 M",
        "16.67 GFLOP",
        "encode_10           512 x 1 x 4 x 4",
        "not fetched yet",
        "licence   not stated",
        "43.6 %",
    ):
        assert fact in page
    for name in vie.list_models():
        assert cli.main(["info", name]) == 0
    assert "nobody has published any" in capsys.readouterr().out
    assert cli.main(["info", "vie_nothing"]) == cli.EXIT_USAGE


def test_the_console_script_and_its_exit_code(videos):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "vie_models.cli", "info", "vie_nothing"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == cli.EXIT_USAGE
    assert done.stderr.startswith("vie: unknown model 'vie_nothing'")


def test_real_videos(model, clips_folder, tmp_path):
    """Every decodable file gives features; every other one its reason."""
    records = vie.Extractor(model, clips=2).extract([clips_folder], tmp_path)
    assert len(records) == len([p for p in clips_folder.rglob("*") if p.is_file()])
    for record in records:
        if record.status in ("ok", "damaged"):
            with np.load(tmp_path / record.features) as features:
                assert features["embedding"].shape == (2, 128)
                np.testing.assert_allclose(np.linalg.norm(features["embedding"], axis=1), 1, rtol=1e-5)
        elif record.status == "failed":
            with pytest.raises(vie.VideoError), open_video(record.path, 25) as video:
                assert video.num_frames
        else:
            assert Path(record.path).suffix not in VIDEO_SUFFIXES
    status = {Path(r.path).name: r.status for r in records}
    assert status["corrupted.mp4"] == "damaged"
    assert {n for n, s in status.items() if s == "failed"} == {"Mpeg4.mp4", "sample_ac3.mp4"}
    assert {n for n, s in status.items() if s == "skipped"} == {"SOURCES.md", "nasa_13013.mp4.audio.mp3"}
