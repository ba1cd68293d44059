"""Measures what one core delivers for training: random clips, resized, cropped, mirrored and colored, by where they lie.

It reads clips of each VIDEO from the file, from a copy with short side 320 (as `vie data --encode` makes), from a folder of
JPEG frames, and from packs (`vie data pack`) of JPEG and of raw frames at the short side that the crop asks for. Beside them
stand torchvision's own transforms on the same clips, and plain datasets on decord and on torchcodec with torchvision's
transforms, if they are installed. A second table says how many cores feed a GPU. Needs ffmpeg.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms import v2

from vie_models.clip_spec import ClipSpec
from vie_models.datasets.encode import encode_video
from vie_models.datasets.lists import read_list
from vie_models.datasets.pack import Packing
from vie_models.models.registry import model_entry
from vie_models.train.loading import ClipDataset
from vie_models.video.clips import train_clip
from vie_models.video.frames import GRID_FPS
from vie_models.video.packed import PackHeader
from vie_models.video.sources import open_video, random_clip
from vie_models.video.transforms import short_sides

from .measure import Table, add_common, medians, ratio, report, turns

MODELS = ["vie_3dresnet_tiny", "vie_single_tiny", "vie_3dresnet", "vie_slowfast", "vie_single"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", type=Path, help="video files to read clips from")
    add_common(parser, rounds=5)
    parser.add_argument("--models", nargs="+", default=MODELS, help="models whose clips are read")
    parser.add_argument("--clips", type=int, default=16, help="clips per round")
    parser.add_argument("--augmentation", default="color_jitter", help="what happens to the clips")


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    columns = ["video", "model", "frames x crop", "read from", "ms per clip", "clips/s", "time over the file's", "MB"]
    table = Table(f"Training clips ({options.augmentation}), one core", columns)
    for video in options.videos:
        for model in options.models:
            with tempfile.TemporaryDirectory() as folder:
                table.rows += rows(video, model, options, Path(folder))
    rates = [100, 300, 1000, 3000]
    cores = Table("Cores that feed a GPU", ["video", "model", "read from", *(f"of {rate} clips/s" for rate in rates)])
    cores.rows = [[row[0], row[1], row[3], *(rate / row[5] for rate in rates)] for row in table.rows]
    report("load", "cpu", [table, cores], options.out)


def rows(video: Path, model: str, options: argparse.Namespace, folder: Path) -> list[list[Any]]:
    spec = model_entry(model).clip_spec
    sources = stored(video, spec, folder)
    jobs: dict[str, Callable[[], Any]] = {}
    for name, path in sources.items():
        dataset = ClipDataset(read_list(path), spec, recipe=options.augmentation)
        jobs[name] = lambda dataset=dataset: dataset.__getitems__([(epoch, 0) for epoch in range(options.clips)])
    transform = torchvision_transform(spec)
    if options.augmentation == "color_jitter":
        for name, clip in {"file, torchvision's transforms": ours, **peers(video)}.items():
            jobs[name] = lambda clip=clip: [
                transform(clip(video, spec).permute(0, 3, 1, 2)) for _ in range(options.clips)
            ]  # fmt: skip
    seconds = turns(jobs, options.rounds, warmup=1)
    found = []
    for name, median in medians(seconds).items():
        size = megabytes(sources[name]) if name in sources else None
        per_clip = median / options.clips
        shape = f"{spec.num_frames} x {spec.crop}"
        found.append([video.name, model, shape, name, 1000 * per_clip, 1 / per_clip, ratio(seconds, name, "file"), size])
    return found


def stored(video: Path, spec: ClipSpec, folder: Path) -> dict[str, Path]:
    """Returns lists and packs of one video, by how its frames are stored."""
    small, frames = folder / "small.mp4", folder / "frames"
    encode_video(video, small)
    frames.mkdir()
    scale = "scale='if(gt(iw,ih),-2,320)':'if(gt(iw,ih),320,-2)'"
    command = ["ffmpeg", "-v", "error", "-i", str(video), "-vf", f"fps=25,{scale}", "-q:v", "2", str(frames / "%06d.jpg")]
    subprocess.run(command, check=True)
    found = {}
    for name, path in {"file": video.absolute(), "copy, short side 320": small, "JPEG frames": frames}.items():
        found[name] = folder / f"{name}.list"
        found[name].write_text(f"{path}\n")
    for name, header in {
        "JPEG pack": PackHeader("jpeg", short_sides(spec)[1], 90),
        "raw pack": PackHeader("raw", short_sides(spec)[1]),
    }.items():
        found[name] = folder / name
        Packing(found["file"], found[name], header=header).write(workers=0)
    return found


def megabytes(path: Path) -> float:
    if path.is_file():
        path = Path(path.read_text().strip())
    files = path.glob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) / 1e6


def torchvision_transform(spec: ClipSpec) -> v2.Compose:
    """The recipe "color_jitter" as torchvision's own transforms."""
    shortest, longest = short_sides(spec)
    return v2.Compose(
        [
            v2.RandomShortestSize(list(range(shortest, longest + 1)), antialias=True),
            v2.RandomCrop(spec.crop),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.4),
            v2.RandomGrayscale(0.3),
            v2.RandomHorizontalFlip(),
        ]
    )


def ours(video: Path, spec: ClipSpec) -> torch.Tensor:
    return random_clip(video, spec)


def peers(video: Path) -> dict[str, Callable[[Path, ClipSpec], torch.Tensor]]:
    """Returns how other decoders that are installed read a random clip, [T, H, W, 3]. They count the file's own frames."""
    found: dict[str, Callable[[Path, ClipSpec], torch.Tensor]] = {}
    with open_video(video, GRID_FPS) as opened:
        step = max(round(float(opened.metadata["fps"]) / GRID_FPS), 1)

    def indices(frames: int, spec: ClipSpec) -> list[int]:
        return [step * k for k in train_clip(max(frames // step, 1), spec, torch.Generator().manual_seed(0)).indices]

    try:
        import decord

        def with_decord(path: Path, spec: ClipSpec) -> torch.Tensor:
            reader = decord.VideoReader(str(path), num_threads=1)
            return torch.from_numpy(reader.get_batch(indices(len(reader), spec)).asnumpy())

        found["decord, torchvision's transforms"] = with_decord
    except ImportError as error:
        print(f"decord is not available ({error})")
    try:
        from torchcodec.decoders import VideoDecoder

        def with_torchcodec(path: Path, spec: ClipSpec) -> torch.Tensor:
            decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")
            return decoder.get_frames_at(indices(len(decoder), spec)).data.permute(0, 2, 3, 1)

        found["torchcodec, torchvision's transforms"] = with_torchcodec
    except (ImportError, RuntimeError, OSError) as error:
        print(f"torchcodec is not available ({str(error).splitlines()[0]})")
    return found
