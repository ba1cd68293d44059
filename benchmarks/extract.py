"""Measures extraction on your videos, and estimates from that the cost of 1,000 hours of them.

For each VIDEO, these jobs take turns: extraction from --copies links to it; extraction from a sixth of the links; the original
release's way (ffmpeg writes JPEG frames at 25 fps with short side 320, Pillow reads the frames of each clip, the model runs on
one clip at a time); decoding alone; and forward passes alone. "over the bound" is wall time divided by (decoding + forward CPU
seconds) / cores, so 1 is perfect overlap. With --device cuda, forward seconds are the GPU's, and the bound is the larger of
decoding CPU seconds / cores and forward seconds. The whole job includes the start of the worker processes. The time of a
further video is (whole job - job of a sixth) / (5/6 of the videos). Needs ffmpeg.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import vie_models as vie
from vie_models.features.extractor import Extractor
from vie_models.video.clips import even_clips
from vie_models.video.decode import VideoFile
from vie_models.video.sampling import ClipRead, read_video
from vie_models.video.transforms import clip_transform

from .forward import plain
from .measure import Table, add_common, medians, report, turns

CORES = len(os.sched_getaffinity(0))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", type=Path, help="video files to extract from")
    add_common(parser, rounds=3)
    parser.add_argument("--models", nargs="+", default=["vie_3dresnet", "vie_slowfast"], help="models to run")
    parser.add_argument("--clips", type=int, default=5, help="clips per video")
    parser.add_argument("--copies", type=int, default=60, help="videos per extraction: links to one file")
    parser.add_argument("--workers", type=int, help="processes that decode (default: one per core)")
    parser.add_argument("--cores", type=int, nargs="*", default=[2, 64], help="core counts for the estimate")


def original_way(model: vie.Encoder, paths: list[Path], clips: int) -> None:
    spec, transform = model.clip_spec, clip_transform(model)
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            scale = "scale='if(gt(iw,ih),-2,320)':'if(gt(iw,ih),320,-2)'"
            command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", f"fps={spec.fps},{scale}", "-q:v", "2"]
            subprocess.run([*command, f"{folder}/%06d.jpg"], check=True)
            frames = sorted(Path(folder).iterdir())
            for clip in even_clips(len(frames), spec, clips):
                images = []
                for k in clip.indices:
                    with Image.open(frames[k]) as image:
                        short = spec.resize / min(image.size)
                        size = (round(image.width * short), round(image.height * short))
                        left, top = (size[0] - spec.crop) // 2, (size[1] - spec.crop) // 2
                        resized = image.resize(size, Image.Resampling.BILINEAR)
                        images.append(np.asarray(resized.crop((left, top, left + spec.crop, top + spec.crop))))
                x = transform.normalize(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
                with torch.inference_mode():
                    model(x[None].to(next(model.parameters()).device))


def our_way(model: vie.Encoder, paths: list[Path], clips: int, workers: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = Extractor(model, clips=clips, workers=workers).extract(paths, folder)
    assert all(record.status == "ok" for record in records)


def decode_cpu(extractor: Extractor, paths: list[Path]) -> float:
    """Returns the CPU seconds to decode and crop on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    for path in paths:
        for _ in read_video(path, extractor.sampling, threads=1):
            pass
    spent = time.process_time() - start
    torch.set_num_threads(threads)
    return spent


def forward_seconds(extractor: Extractor, path: Path, clips: int) -> float:
    """Returns the seconds of the forward passes alone, for `clips` clips: CPU seconds, or those of the GPU."""
    on_gpu = extractor.device.type == "cuda"
    pixels = [message.pixels for message in read_video(path, extractor.sampling) if isinstance(message, ClipRead)]
    batch = (pixels * extractor.batch_size)[: extractor.batch_size]
    extractor.forward(batch)["output"].cpu()
    clock = time.perf_counter if on_gpu else time.process_time
    start = clock()
    for _ in range(-(-clips // extractor.batch_size)):
        extractor.forward(batch)
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    costs = Table(
        f"Extraction, {options.clips} clips per video, {options.copies} videos",
        [
            "model",
            "video",
            "videos/s",
            "decoding CPU s",
            "forward s",
            "whole job over the bound",
            "further videos over the bound",
        ]
        + ["speed-up over the original way", "over the original way with torch.nn"],
    )
    hours = Table(
        f"1,000 hours of such videos, {options.clips} clips each, estimated from the time of further videos",
        ["model", "video", "seconds per video", "CPU core hours", *(f"hours on {cores} cores" for cores in options.cores)],
    )
    for name in options.models:
        model = vie.create_model(name).to(options.device)
        for video in options.videos:
            measured(model, video, options, costs, hours)
            print(costs.rows[-1], flush=True)
    report("extract", options.device, [costs, hours], options.out)


def measured(model: vie.Encoder, video: Path, options: argparse.Namespace, costs: Table, hours: Table) -> None:
    """Adds a row to both tables."""
    clips, extractor = options.clips, Extractor(model, clips=options.clips)
    spent: dict[str, list[float]] = {"decode": [], "forward": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i:04d}{video.suffix}" for i in range(options.copies)]
        for path in paths:
            path.symlink_to(video.resolve())
        few = paths[: max(options.copies // 6, 1)]

        def with_torch_nn() -> None:
            with plain():
                original_way(model, few, clips)

        jobs: dict[str, Any] = {
            "whole": lambda: our_way(model, paths, clips, options.workers),
            "few": lambda: our_way(model, few, clips, options.workers),
            "original": lambda: original_way(model, few, clips),
            "torch.nn": with_torch_nn,
            "decode": lambda: spent["decode"].append(decode_cpu(extractor, few)),
            "forward": lambda: spent["forward"].append(forward_seconds(extractor, video, clips * len(few))),
        }
        wall = medians(turns(jobs, options.rounds, options.device, warmup=0))
    decoding, forward = (value / len(few) for value in medians(spent).values())
    bound = max(decoding / CORES, forward) if options.device == "cuda" else (decoding + forward) / CORES
    whole = wall["whole"] / len(paths)
    further = (wall["whole"] - wall["few"]) / (len(paths) - len(few))
    ways = [wall[way] / len(few) / whole for way in ("original", "torch.nn")]
    costs.rows.append(
        [model.model_name, video.name, 1 / whole, decoding, forward, whole / bound, further / bound, *ways]
    )  # fmt: skip
    with VideoFile(video, 25) as opened:
        seconds = opened.num_frames / 25
    core_hours = further * CORES * 1000 / seconds
    hours.rows.append([model.model_name, video.name, seconds, core_hours, *(core_hours / cores for cores in options.cores)])
