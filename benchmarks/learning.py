"""Does training learn? `python benchmarks/learning.py LABELS.csv [--seeds 0 1 2] [--recipe NAME] [flags of vie train]`.

LABELS.csv has the columns path (relative to its folder), label, frames and suggested_split (test, or else for training). For
each seed an encoder is trained on the training videos, without their labels, by `vie train` and the flags given. Then the test
videos are named by their nearest training videos (5 clips a video, 10 neighbours, votes exp(dot / 0.07)): in the memory bank,
as the original validates, and in a bank made anew of the mean embedding of each training video, which the untrained encoder
can have too. Beside them, five nearest neighbours by raw pixels: the middle frame at 16 x 16.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import vie_models as vie
from vie_models.train.checkpoint import CHECKPOINTS, Checkpoints
from vie_models.train.data import VideoList, read_list
from vie_models.train.knn import knn
from vie_models.train.logs import read_metrics
from vie_models.train.memory_bank import MemoryBank
from vie_models.train.recipes import TrainConfig
from vie_models.video.sources import open_video


def write_lists(labels: Path, out: Path) -> None:
    """train.txt and val.txt: `path frames label`."""
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    for split in ("train", "val"):
        lines = [
            f"{row['path']} {row['frames']} {classes.index(row['label'])}\n"
            for row in rows
            if (row["suggested_split"] == "test") == (split == "val")
        ]
        (out / f"{split}.txt").write_text("".join(lines))


def embeddings(model: vie.Encoder, videos: VideoList) -> torch.Tensor:
    """[V, 5, 128]."""
    found = {number: arrays["embedding"] for number, _, arrays in vie.Extractor(model, clips=5).results(list(videos.paths))}
    return torch.from_numpy(np.stack([found[i] for i in range(len(videos))]))


def accuracy(model: vie.Encoder, train: VideoList, val: VideoList) -> float:
    """kNN top-1 with a bank of the training videos' mean embeddings."""
    bank = MemoryBank(len(train))
    bank.rows = F.normalize(embeddings(model, train).mean(1), dim=1)
    return float((knn(embeddings(model, val), bank, train.labels).predictions == val.labels).float().mean())


def raw_pixels(train: VideoList, val: VideoList) -> float:
    """Top-1 of the majority among the five nearest middle frames."""

    def middle(path: Path) -> np.ndarray:
        with open_video(path, 25) as video:
            frame = torch.from_numpy(next(video.read([[video.num_frames // 2]]))).permute(0, 3, 1, 2).float()
        return F.interpolate(frame, (16, 16), mode="area").flatten().numpy()

    ours, theirs = (torch.from_numpy(np.stack([middle(path) for path in videos.paths])) for videos in (val, train))
    near = torch.cdist(ours, theirs).topk(5, largest=False).indices
    guesses = [Counter(train.labels[row].tolist()).most_common(1)[0][0] for row in near]
    return float((torch.tensor(guesses) == val.labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/learning"))
    parser.add_argument("--recipe", default="vie_3dresnet_tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options, flags = parser.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write_lists(options.labels, options.out)
    root = options.labels.parent
    train, val = (read_list(options.out / f"{split}.txt", root) for split in ("train", "val"))
    rows = []
    for seed in options.seeds:
        run = options.out / f"{options.recipe}-{seed}"
        command = [sys.executable, "-m", "vie_models.cli", "train", options.recipe, "--out", str(run), "--seed", str(seed)]
        lists = [
            "--train-list",
            str(options.out / "train.txt"),
            "--val-list",
            str(options.out / "val.txt"),
            "--root",
            str(root),
        ]
        subprocess.run([*command, *lists, *flags], check=True)
        newest = Checkpoints(run / CHECKPOINTS).newest()
        assert newest is not None
        state = newest.state()
        config = TrainConfig.from_dict(state["config"])
        torch.manual_seed(seed)
        model = config.build()
        untrained = accuracy(model, train, val)
        model.load_state_dict(state["model"])
        bank = [line["knn_top1"] for line in read_metrics(run) if "knn_top1" in line][-1]
        rows.append(
            {"seed": seed, "untrained": untrained, "trained": accuracy(model, train, val), "trained, memory bank": bank}
        )
        print(json.dumps(rows[-1]), flush=True)
    print(f"\n{len(train)} training videos, {len(val)} test videos, {int(val.labels.max()) + 1} classes; kNN top-1, %")
    for name in ("untrained", "trained", "trained, memory bank"):
        values = [100 * row[name] for row in rows]
        spread = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        print(f"{name}: {statistics.mean(values):.1f}{spread} ({', '.join(f'{value:.1f}' for value in values)})")
    print(f"raw pixels, 5 nearest: {100 * raw_pixels(train, val):.1f}; chance: {100 / (int(val.labels.max()) + 1):.1f}")


if __name__ == "__main__":
    main()
