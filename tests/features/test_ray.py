"""Extraction on a local Ray cluster of two workers, one of which is killed midway."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from support.videos import gray_levels, write_video

import vie_models as vie
from vie_models.failures import TooManyFailuresError

ray = pytest.importorskip("ray", reason="Ray is not installed")


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


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the workers in /proc")
def test_the_folder_is_that_of_one_process_also_when_a_worker_is_killed(cluster, videos, model, tmp_path):
    killed, out = [], tmp_path / "out"

    def kill_one():
        began = time.monotonic()
        while not killed and time.monotonic() - began < 120:
            ours = actors()
            if len(ours) == 2 and list(out.glob("*.npz")):
                os.kill(ours[0], signal.SIGKILL)
                killed.append(ours[0])
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one)
    killer.start()
    records = vie.extract_ray(videos, out, model, videos_per_task=2, layers=["encode_6"], clips=3)
    killer.join()
    assert killed, "the job was over before a worker could be killed"
    assert [record.status for record in records] == ["ok"] * 23 + ["failed"]
    vie.Extractor(model, layers=["encode_6"], clips=3, workers=0).extract(videos, tmp_path / "one")
    for file in (tmp_path / "one").iterdir():
        if file.suffix in (".npz", ".jsonl"):
            assert (out / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(TooManyFailuresError, match=r"none of the 1 .*23.mp4"):
        vie.extract_ray(videos[-1:], out, model, layers=["encode_6"], clips=3, concurrency=1)
    assert len(vie.load_features(out)) == 69


def test_bad_requests_are_refused_before_work(cluster, videos, model, tmp_path):
    for wrong, message in ((dict(clips=0), "clips must be >= 1"), (dict(max_failed=2), "got 2")):
        with pytest.raises(ValueError, match=message):
            vie.extract_ray(videos, tmp_path / "out", model, **wrong)
    with pytest.raises(ValueError, match="pooled layers only"):
        vie.extract_ray(videos, tmp_path / "out", model, pool=None, layers=["encode_6"], format="parquet")
    assert not (tmp_path / "out").exists()
