"""Measures decoding on one core: whole videos with several decoders.

It repeats each VIDEO up to --seconds and decodes it whole on one thread with vie_models (frames on a 25 fps grid), with
`ffmpeg -f null`, and with torchcodec and decord if they are installed. Needs ffmpeg.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vie_models.video.decode import VideoFile

from .measure import Table, add_common, medians, ratio, report, turns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", type=Path, help="video files to decode")
    add_common(parser, rounds=5)
    parser.add_argument("--seconds", type=float, default=60, help="repeat each video up to this length")


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    whole = Table("Every frame, one thread", ["video", "decoder", "frames/s", "time over ffmpeg's"])
    for video in options.videos:
        with tempfile.TemporaryDirectory() as folder:
            whole.rows += every_frame(video, options, Path(folder))
    report("decode", "cpu", [whole], options.out)


def long_file(path: Path, seconds: float, folder: Path) -> tuple[Path, int]:
    """Returns a file that repeats the video without re-encoding, long enough to hide startup, and its frames at 25 fps."""
    with VideoFile(path, 25) as video:
        times = int(seconds * 25 // video.num_frames)
    target = folder / f"long{path.suffix}"
    command = ["ffmpeg", "-v", "error", "-stream_loop", str(times), "-i", str(path), "-map", "0:v:0", "-c", "copy", str(target)]
    subprocess.run(command, check=True)
    with VideoFile(target, 25) as video:
        return target, video.num_frames


def ours(path: Path) -> None:
    with VideoFile(path, 25, threads=1) as video:
        video.recount()


def peers(path: Path) -> dict[str, Callable[[], Any]]:
    """Returns one job per other decoder that is installed."""
    found: dict[str, Callable[[], Any]] = {}
    try:
        from torchcodec.decoders import VideoDecoder

        def torchcodec() -> None:
            decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")
            for first in range(0, len(decoder), 64):
                decoder.get_frames_in_range(first, min(first + 64, len(decoder)))

        torchcodec()
        found["torchcodec"] = torchcodec
    except (ImportError, RuntimeError, OSError) as error:
        print(f"torchcodec is not available ({str(error).splitlines()[0]})")
    try:
        import decord

        def decord_reader() -> None:
            reader = decord.VideoReader(str(path), num_threads=1)
            for _ in range(len(reader)):
                reader.next()

        decord_reader()
        found["decord"] = decord_reader
    except (ImportError, RuntimeError, OSError) as error:
        print(f"decord is not available ({str(error).splitlines()[0]})")
    return found


def every_frame(video: Path, options: argparse.Namespace, folder: Path) -> list[list[Any]]:
    path, frames = long_file(video, options.seconds, folder)
    null = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(path), "-map", "0:v:0", "-f", "null", "-"]
    jobs = {"vie_models": lambda: ours(path), "ffmpeg -f null": lambda: subprocess.run(null, check=True), **peers(path)}
    seconds = turns(jobs, options.rounds, warmup=1)
    return [
        [video.name, name, frames / median, ratio(seconds, name, "ffmpeg -f null")] for name, median in medians(seconds).items()
    ]
