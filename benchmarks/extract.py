"""What extraction costs, on videos of yours: `python benchmarks/extract.py VIDEO... [--model vie_3dresnet]`.

For each video, a job of --copies links to it is run in turns with the way of the original (ffmpeg writes JPEG frames at 25 fps
with short side 320, Pillow reads those that are needed, each clip goes through the model by itself), and medians are printed:

    (a) videos a second, and the ratio to the original's way, with our convolutions (models/conv.py) and with torch.nn's;
    (b) wall time over (decoding CPU + forward CPU) / cores, each measured alone: 1 is perfect overlap. First for the whole job,
        with the start of the worker processes, then for each further video: (job - job of a sixth) / (5/6 of the videos);
    (c) time to decode every frame over that of `ffmpeg -f null`, one thread each, on a file of at least --decode-seconds.

Everything takes turns in one run. Needs ffmpeg.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vie_models as vie
from vie_models.extract import Extractor
from vie_models.models import conv as conv_module
from vie_models.video.clips import test_clips
from vie_models.video.decode import VideoFile
from vie_models.video.sampling import ClipRead, read_video
from vie_models.video.transforms import clip_transform

CORES = len(os.sched_getaffinity(0))


def original_way(model: vie.Encoder, paths: list[Path], clips: int, plain: bool) -> None:
    """JPEG frames on disk, then clip by clip; `plain`: with torch.nn's convolutions."""
    can_pack = conv_module._can_pack
    if plain:
        conv_module._can_pack = lambda conv, x: False
    try:
        _original_way(model, paths, clips)
    finally:
        conv_module._can_pack = can_pack


def _original_way(model: vie.Encoder, paths: list[Path], clips: int) -> None:
    spec, transform = model.clip_spec, clip_transform(model)
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            scale = "scale='if(gt(iw,ih),-2,320)':'if(gt(iw,ih),320,-2)'"
            command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", f"fps={spec.fps},{scale}", "-q:v", "2"]
            subprocess.run([*command, f"{folder}/%06d.jpg"], check=True)
            frames = sorted(Path(folder).iterdir())
            for clip in test_clips(len(frames), spec, clips):
                images = []
                for k in clip.indices:
                    with Image.open(frames[k]) as image:
                        short = spec.resize / min(image.size)
                        size = (round(image.width * short), round(image.height * short))
                        left, top = (size[0] - spec.crop) // 2, (size[1] - spec.crop) // 2
                        resized = image.resize(size, Image.Resampling.BILINEAR)
                        images.append(np.asarray(resized.crop((left, top, left + spec.crop, top + spec.crop))))
                x = transform.normalise(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
                with torch.inference_mode():
                    model(x[None])


def our_way(model: vie.Encoder, paths: list[Path], clips: int, workers: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = Extractor(model, clips=clips, workers=workers).extract(paths, folder)
    assert all(record.status == "ok" for record in records)


def decode_cpu(extractor: Extractor, paths: list[Path]) -> float:
    """CPU seconds to decode and crop, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    for path in paths:
        for _ in read_video(path, extractor.sampling, threads=1):
            pass
    spent = time.process_time() - start
    torch.set_num_threads(threads)
    return spent


def forward_cpu(extractor: Extractor, path: Path, clips: int) -> float:
    """CPU seconds of the forwards alone, of `clips` clips."""
    pixels = [message.pixels for message in read_video(path, extractor.sampling) if isinstance(message, ClipRead)]
    batch = (pixels * extractor.batch_size)[: extractor.batch_size]
    extractor._forward(batch)
    start = time.process_time()
    for _ in range(-(-clips // extractor.batch_size)):
        extractor._forward(batch)
    return time.process_time() - start


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of each measure, taking turns."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            values[name].append(measure())
    return {name: statistics.median(found) for name, found in values.items()}


def long_file(path: Path, at_least: float, folder: Path) -> Path:
    """The video repeated, without re-encoding, until it is long enough for a process's start not to matter."""
    with VideoFile(path, 25) as video:
        times = int(at_least * 25 // video.num_frames)
    target = folder / f"long{path.suffix}"
    command = ["ffmpeg", "-v", "error", "-stream_loop", str(times), "-i", str(path), "-map", "0:v:0", "-c", "copy", str(target)]
    subprocess.run(command, check=True)
    return target


def decode_all(path: Path) -> None:
    with VideoFile(path, 25, threads=1) as video:
        video.recount()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--model", default="vie_3dresnet")
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--copies", type=int, default=60)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--decode-seconds", type=float, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    model = vie.create_model(args.model).to(args.device)
    print(f"{args.model}, {args.clips} clips a video, {args.copies} videos, {CORES} cores, torch {torch.__version__}\n")
    print("| video | videos/s | (a) original | torch.nn | decode CPU s | forward CPU s | (b) whole | further | (c) decode |")
    print("|---|---|---|---|---|---|---|---|---|")
    for video in args.videos:
        print(row(video, model, args), flush=True)


def row(video: Path, model: vie.Encoder, args: argparse.Namespace) -> str:
    """A line of the table."""
    clips, extractor = args.clips, Extractor(model, clips=args.clips)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i:04d}{video.suffix}" for i in range(args.copies)]
        for path in paths:
            path.symlink_to(video.resolve())
        few = paths[: max(args.copies // 6, 1)]
        long = long_file(video, args.decode_seconds, folder)
        null = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(long), "-map", "0:v:0", "-f", "null", "-"]
        found = medians(
            {
                "whole": lambda: seconds(lambda: our_way(model, paths, clips, args.workers)),
                "few": lambda: seconds(lambda: our_way(model, few, clips, args.workers)),
                "original": lambda: seconds(lambda: original_way(model, few, clips, plain=False)),
                "torch.nn": lambda: seconds(lambda: original_way(model, few, clips, plain=True)),
                "decode CPU": lambda: decode_cpu(extractor, few),
                "forward CPU": lambda: forward_cpu(extractor, video, clips * len(few)),
                "decode": lambda: seconds(lambda: decode_all(long)),
                "ffmpeg": lambda: seconds(lambda: subprocess.run(null, check=True)),
            },
            args.rounds,
        )
    bound = (found["decode CPU"] + found["forward CPU"]) / CORES / len(few)  # a video
    whole = found["whole"] / len(paths)
    further = (found["whole"] - found["few"]) / (len(paths) - len(few))
    columns = [
        f"{1 / whole:.2f}",
        *(f"{found[way] / len(few) / whole:.2f}" for way in ("original", "torch.nn")),
        *(f"{found[part] / len(few):.3f}" for part in ("decode CPU", "forward CPU")),
        f"{whole / bound:.3f}",
        f"{further / bound:.3f}",
        f"{found['decode'] / found['ffmpeg']:.3f}",
    ]
    return f"| {video.name} | {' | '.join(columns)} |"


if __name__ == "__main__":
    main()
