import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import transfer_config
from support.videos import write_video

from vie_models.train import export_run, pretrain


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Keeps tests away from the caches of the person who runs them."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clips_folder():
    """A folder of real videos, good and broken, that we may not distribute."""
    folder = os.environ.get("VIE_TEST_DATA")
    if not folder:
        pytest.skip("VIE_TEST_DATA is not set; set it to a folder with real videos in clips/")
    return Path(folder) / "clips"


@pytest.fixture(scope="session")
def labeled_data(clips_folder):
    """A folder of labeled videos and photographs, that we may not distribute either."""
    folder = clips_folder.parent / "data"
    if not (folder / "ucf101_subset20").exists():
        pytest.skip(f"{folder} has no ucf101_subset20/, photos/ and so on")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """24 short videos of colored noise, listed as 20 for training and 4 for validation; the label is the color."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    for i in range(24):
        frames = generator.integers(0, 128, (18 + i, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
        frames[..., i % 3] += 100
        write_video(folder / f"{i}.mp4", frames)
    lines = [f"{i}.mp4 {18 + i} {i % 3}\n" for i in range(24)]
    (folder / "train").write_text("".join(lines[:20]))
    (folder / "val").write_text("".join(lines[20:]))
    return folder


@pytest.fixture(scope="session")
def pretrained(corpus, tmp_path_factory):
    """The weight folder, with class names, of a run of vie_single_tiny."""
    folder = tmp_path_factory.mktemp("pretrained")
    shutil.copy(corpus / "train", folder / "train")
    (folder / "classes.txt").write_text("red things\ngreen things\nblue things\n")
    pretrain(transfer_config(corpus, folder / "run", objective="vie", train_list=folder / "train"), progress=False)
    export_run(folder / "run", folder / "weights")
    return folder / "weights"
