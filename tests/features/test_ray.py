"""Extraction on a local Ray cluster of two workers, one of which is killed midway."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.videos import gray_levels, write_video

import vie_models as vie

ray = pytest.importorskip("ray", reason="Ray is not installed")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture
def videos(tmp_path):
    paths = [write_video(tmp_path / f"{i:02d}.mp4", gray_levels(30 + i)) for i in range(23)]
    broken = tmp_path / "23.mp4"
    broken.write_bytes(b"not a video")
    return [*paths, broken]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return vie.create_model("vie_3dresnet_tiny")


def actors() -> list[int]:
    """Process numbers of the workers that hold a model."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::MapWorker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def rows(folder):
    table = parquet.read_table(folder).to_pylist()
    return sorted(table, key=lambda row: (row["name"], row["clip"] if row["clip"] is not None else -1))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the workers in /proc")
def test_rows_are_those_of_one_process_also_when_a_worker_is_killed(cluster, videos, model, tmp_path):
    killed = []

    def kill_one():
        began = time.monotonic()
        while not killed and time.monotonic() - began < 120:
            ours = actors()
            if len(ours) == 2 and list((tmp_path / "out").glob("*.parquet")):
                os.kill(ours[0], signal.SIGKILL)
                killed.append(ours[0])
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one)
    killer.start()
    vie.extract_ray(videos, tmp_path / "out", model, videos_per_task=2, layers=["encode_6"], clips=3)
    killer.join()
    assert killed, "the job was over before a worker could be killed"
    found = rows(tmp_path / "out")

    extractor = vie.Extractor(model, layers=["encode_6"], clips=3, workers=0)
    expected = [(path.name, extractor.features(path)[0]) for path in videos[:-1]]
    assert [(row["name"], row["clip"]) for row in found] == [
        *((name, clip) for name, _ in expected for clip in range(3)),
        ("23.mp4", None),
    ]
    for column in ("embedding", "encode_6", "start", "frame_times"):
        ours = np.array([row[column] for row in found[:-1]])
        np.testing.assert_allclose(ours, np.concatenate([arrays[column] for _, arrays in expected]), atol=1e-6)
    assert found[-1]["status"] == "failed"
    assert found[-1]["reason"].startswith("cannot be opened as a video")
    assert found[-1]["embedding"] is None


def test_bad_requests_are_refused_before_work(cluster, videos, model, tmp_path):
    with pytest.raises(ValueError, match="clips must be >= 1"):
        vie.extract_ray(videos, tmp_path / "out", model, clips=0)
    with pytest.raises(ValueError, match="pooled layers only"):
        vie.extract_ray(videos, tmp_path / "out", model, pool=None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_settings.json").write_text("{}")
    with pytest.raises(FileExistsError, match="already has features"):
        vie.extract_ray(videos, tmp_path / "out", model)
