"""What the paper's runs cost, computed from operations, a share of a GPU's peak, and this machine's time to prepare a clip.

For a recipe with F operations per forward pass of a clip, B clips per step and S steps:

    work = 3 F B S                      a backward pass costs two forward passes
    clips/s of a GPU = share x peak / 3 F
    hours = B S / (clips/s of all GPUs) / 3600
    cores = clips/s of all GPUs x CPU seconds per clip
    hours with N cores = the larger of hours and B S x CPU seconds per clip / N / 3600
    disk = videos x frames x pixels of a frame x bytes per pixel

For a bank of N rows of 128 float32: LA's nearest rows take 2 x 128 N operations for each clip, k-means of K clusters
2 x 128 N K for each iteration, both in float32.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from vie_models.clip_spec import ClipSpec
from vie_models.datasets.lists import read_list
from vie_models.datasets.pack import Packing
from vie_models.models import build_model, model_entry
from vie_models.models.cost import count_flops
from vie_models.train import RECIPES
from vie_models.train.loading import ClipDataset
from vie_models.train.settings import TrainConfig
from vie_models.video.packed import PackHeader
from vie_models.video.transforms import short_sides

from .measure import Table, report

PAPER = ["vie_single", "vie_trn", "vie_3dresnet", "vie_slow", "vie_slowfast"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", action="store_true", help="print what the paper's runs would cost, and measure no GPU")
    parser.add_argument(
        "--peak", type=float, default=989, help="paper: TFLOP/s of a GPU in bfloat16 (an H200's data sheet: 989)"
    )
    parser.add_argument("--peak-float32", type=float, default=67, help="paper: the same in float32 (an H200's data sheet: 67)")
    parser.add_argument("--share", type=float, default=0.2, help="paper: share of the peak that training reaches")
    parser.add_argument("--scaling", type=float, default=0.8, help="paper: clips/s of 8 GPUs, over 8 times those of one")
    parser.add_argument("--cores", type=int, default=16, help="paper: CPU cores for each GPU")
    parser.add_argument("--videos", type=int, default=240_000, help="paper: training videos")
    parser.add_argument("--seconds-per-video", type=float, default=10, help="paper: length of a video")
    parser.add_argument("--bytes-per-pixel", type=float, default=0.3, help="paper: bytes of a JPEG pack per pixel")


def cpu_seconds(spec: ClipSpec, pack: Path, color: bool, clips: int = 4) -> float:
    """Returns the CPU time that a worker needs for a clip from a JPEG pack, without or with its change of colors."""
    dataset = ClipDataset(read_list(pack), spec, color=color)
    dataset.__getitems__([(0, 0)])
    began = time.process_time()
    dataset.__getitems__([(epoch, 0) for epoch in range(1, 1 + clips)])
    return (time.process_time() - began) / clips


def packed_video(folder: Path, side: int) -> Path:
    """Returns a JPEG pack of one video: 64 frames of smooth noise, as wide as 16:9."""
    from torchvision.io import write_jpeg

    frames = folder / f"frames-{side}"
    frames.mkdir()
    generator = torch.Generator().manual_seed(0)
    large = 255 * F.interpolate(torch.rand(1, 3, 24, 42, generator=generator), (side, side * 16 // 9), mode="bicubic")[0]
    large += 8 * torch.randn(large.shape, generator=generator)
    for frame in range(64):
        write_jpeg(torch.roll(large, 2 * frame, 2).clamp(0, 255).byte(), str(frames / f"{frame + 1:06d}.jpg"))
    listing, pack = folder / f"list-{side}", folder / f"pack-{side}"
    listing.write_text(f"{frames.name}\n")
    Packing(listing, pack, root=folder, header=PackHeader("jpeg", side, 90)).write(workers=0)
    return pack


def banks(options: argparse.Namespace) -> Table:
    """Returns what grows with the number of videos: for the given one, Kinetics-700's and 10^8."""
    table = Table(
        f"Computed: what grows with the number of videos, 3DResNet's recipe, at {options.peak_float32:g} TFLOP/s in float32",
        [
            "videos",
            "JPEG pack, GB",
            "memory bank, GB",
            "on each of 8 ranks, GB",
            "clusters on each rank, GB",
            "steps of an epoch",
        ]
        + ["nearest rows, ms a step, 1 GPU", "8 GPUs", "k-means, s, 1 GPU", "8 GPUs"],
    )
    recipe, spec = RECIPES["vie_3dresnet"], model_entry("vie_3dresnet").clip_spec
    peak, size = options.peak_float32 * 1e12, TrainConfig.batch_size
    for videos in (options.videos, 650_000, 100_000_000):
        nearest = 1000 * size * 2 * 128 * videos / peak
        clustering = TrainConfig.kmeans_iterations * recipe["clusters"] * 2 * 128 * videos / peak
        bank, clusters = videos * 128 * 4 / 1e9, videos * 4 / 1e9
        row = [f"{videos:,}", pack_gigabytes(spec, videos, options), bank, bank / 8, clusters, f"{videos // size:,}"]
        table.rows.append([*row, nearest, nearest / 8, clustering, clustering / 8])
    return table


def pack_gigabytes(spec: ClipSpec, videos: int, options: argparse.Namespace) -> float:
    """Returns the size of a JPEG pack of 16:9 videos."""
    side = short_sides(spec)[1]
    frames = videos * options.seconds_per_video * spec.fps
    return frames * side * (side * 16 // 9) * options.bytes_per_pixel / 1e9


def run(options: argparse.Namespace) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    costs = Table(
        f"Computed: {options.peak:g} TFLOP/s, of which training reaches {options.share:.0%}; 8 GPUs do "
        f"{8 * options.scaling:g} times as much as one",
        ["recipe", "clips a step", "steps", "GFLOP per clip, forward", "work, EFLOP", "clips/s, 1 GPU", "hours, 1 GPU"]
        + ["clips/s, 8 GPUs", "hours, 8 GPUs"],
    )
    reading = Table(
        f"Reading a JPEG pack of {options.videos:,} videos of {options.seconds_per_video:g} s: CPU time measured, the rest "
        "computed",
        ["recipe", "frames", "colors changed by", "CPU ms per clip", "cores, 1 GPU", "cores, 8 GPUs"]
        + [f"hours, 1 GPU and {options.cores} cores", f"hours, 8 GPUs and {8 * options.cores} cores", "GB"],
    )
    with tempfile.TemporaryDirectory() as folder:
        packs: dict[int, Path] = {}
        for name in PAPER:
            model, values = build_model(name), RECIPES[name]
            spec = model.clip_spec
            size = values.get("batch_size", TrainConfig.batch_size)
            steps = values["steps"] - (RECIPES["vie_single"]["steps"] if name == "vie_trn" else 0)  # it continues that run
            work = 3 * count_flops(model)
            one = options.share * options.peak * 1e12 / work
            eight = 8 * options.scaling * one
            hours = [size * steps / rate / 3600 for rate in (one, eight)]
            row = [name, size, f"{steps:,}", work / 3e9, work * size * steps / 1e18]
            costs.rows.append([*row, one, hours[0], eight, hours[1]])
            side = short_sides(spec)[1]
            width = side * 16 // 9
            if side not in packs:
                packs[side] = packed_video(Path(folder), side)
            gigabytes = pack_gigabytes(spec, options.videos, options)
            for color in (False, True):
                each = cpu_seconds(spec, packs[side], color)
                cores = [rate * each for rate in (one, eight)]
                reads = [size * steps * each / number / 3600 for number in (options.cores, 8 * options.cores)]
                fed = [max(both) for both in zip(hours, reads, strict=True)]
                where = "the workers" if color else "the GPU"
                reading.rows.append([name, f"{width} x {side}", where, 1000 * each, *cores, *fed, gigabytes])
    torch.set_num_threads(threads)
    report("paper", "cpu", [costs, reading, banks(options)], options.out)
