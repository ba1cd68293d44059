"""Compares the frames of videos that ffmpeg makes with `ffmpeg -vf fps=25`, and clips after seeking with clips of a full decode.

`python -m reproduce.frames` prints how many videos and frames were compared, and what differs. Words after it pick videos by name.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vie_models.video.decode import VideoFile
from vie_models.video.frames import LengthError, VideoError

from .frames_made import CannotMakeError, Made, make, videos

OLDEST = 7
"""Of ffmpeg's releases. Older ones lack options that make the videos."""
SIDE = 8  # of the blocks in which frames are compared
TOLERANCE = 24  # grey levels, mean over a block: colours are scaled up in more than one way. A wrong frame differs by 200
MOST = 2000  # frames that are read of one video


@dataclasses.dataclass
class Comparison:
    """What comparing one video found."""

    made: Made
    frames: int = 0
    """Grid frames compared with ffmpeg's."""
    clips: int = 0
    """Clips compared between seeking and full decoding."""
    fault: str | None = None
    """What differs first."""
    damage: str | None = None


@functools.lru_cache
def find_ffmpeg() -> tuple[str, str] | None:
    """Returns the path and the version of the newest ffmpeg: on the path, or in imageio-ffmpeg. None if it is too old."""
    found = [path] if (path := shutil.which("ffmpeg")) else []
    try:
        import imageio_ffmpeg

        found.append(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # without a binary for this machine
        pass
    versions = {}
    for path in found:
        says = subprocess.run([path, "-version"], capture_output=True, text=True, check=True).stdout
        if number := re.match(r"ffmpeg version n?(\d+)\.(\d+)(?:\.(\d+))?", says):
            versions[path] = tuple(int(part or 0) for part in number.groups())
    path = max(versions, key=lambda path: versions[path], default=None)
    if path is None or versions[path][0] < OLDEST:
        return None
    return path, ".".join(map(str, versions[path]))


def ffmpeg_shows(path: Path, ffmpeg: str) -> list[np.ndarray]:
    """Returns the frames of `ffmpeg -vf fps=25`, uint8 [H, W, 3]."""
    command = [ffmpeg, "-v", "error", "-i", str(path), "-an", "-sn", "-dn", "-vf", "fps=25", "-fps_mode", "passthrough"]
    command += ["-frames:v", str(MOST), "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "-"]
    content = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout
    frames, at = [], 0
    while header := re.compile(rb"P6\s(\d+)\s(\d+)\s255\s").match(content, at):
        width, height = map(int, header.groups())
        at = header.end() + width * height * 3
        frames.append(np.frombuffer(content[header.end() : at], np.uint8).reshape(height, width, 3))
    return frames


def alike(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two frames show the same."""
    if ours.shape != theirs.shape:
        return False
    apart = np.abs(ours.astype(np.int16) - theirs)
    height, width = (side // SIDE * SIDE for side in ours.shape[:2])
    blocks = apart[:height, :width].reshape(height // SIDE, SIDE, width // SIDE, SIDE, 3)
    return blocks.mean((1, 3, 4)).max() < TOLERANCE


def compare(made: Made, ffmpeg: str) -> Comparison:
    """Makes a video and compares. CannotMakeError if this ffmpeg lacks the encoder."""
    found = Comparison(made)
    with tempfile.TemporaryDirectory() as folder:
        path = make(made, Path(folder), ffmpeg)
        theirs = ffmpeg_shows(path, ffmpeg)
        try:
            ours = _whole(path, found)
        except VideoError as error:
            if theirs:
                found.fault = f"nothing is read ({error.reason}) of {len(theirs)} frames"
            return found
        found.fault = _differ(ours, theirs) or _seek(path, found, ours)
    return found


def _whole(path: Path, found: Comparison) -> np.ndarray:
    """All frames, by full decoding."""
    with VideoFile(path, 25, threads=1) as video:
        video.recount()
        ours = next(video.read([range(min(video.num_frames, MOST))]))
        found.damage = video.damage
    found.frames = len(ours)
    return ours


def _differ(ours: np.ndarray, theirs: list[np.ndarray]) -> str | None:
    if not theirs:
        return f"ffmpeg shows nothing, {len(ours)} frames are read"
    for k, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a.shape != b.shape:
            return f"frame {k} has shape {a.shape}, ffmpeg's {b.shape}"
        if not alike(a, b):
            shown = [i for i, other in enumerate(theirs) if alike(a, other)]
            wrong = sum(not alike(a, b) for a, b in zip(ours, theirs, strict=False))
            return f"frame {k} is ffmpeg's {shown[:3] or 'none'}, {wrong} of {len(ours)} differ, ffmpeg has {len(theirs)}"
    if len(ours) != len(theirs):
        return f"{len(ours)} frames, ffmpeg has {len(theirs)}"
    return None


def _seek(path: Path, found: Comparison, whole: np.ndarray) -> str | None:
    """Reads clips by seeking, each in a pass of its own."""
    with VideoFile(path, 25, threads=1) as video:
        if video.num_frames != len(whole) < MOST:
            return f"{video.num_frames} frames by packets, {len(whole)} by decoding"
        last = len(whole) - 1
        for first in (last - 7, last // 2, last // 5, 0, last * 3 // 4):
            clip = [min(max(first + k, 0), last) for k in range(8)]
            try:
                frames = next(video.read([clip]))
            except LengthError as error:
                return f"clip from {clip[0]}: {error.reason}"
            found.clips += 1
            if not np.array_equal(frames, whole[clip]):
                wrong = [k for k, frame in zip(clip, frames, strict=True) if not np.array_equal(frame, whole[k])]
                return f"by seeking, frames {wrong} differ"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of the videos to compare (default: all)")
    names = parser.parse_args().names
    found = find_ffmpeg()
    if not found:
        raise SystemExit(f"ffmpeg {OLDEST} or newer is needed: pip install imageio-ffmpeg")
    chosen = [made for made in videos() if all(name in made.name for name in names)]
    missing: Counter[str] = Counter()
    results = []

    def one(made):
        try:
            return compare(made, found[0])
        except CannotMakeError as error:
            missing[str(error)] += 1
        except Exception as error:
            print("ERROR", made.name, type(error), str(error)[-1200:])

    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(one, chosen):
            if result:
                results.append(result)
                if result.fault:
                    print(f"{result.made.name}: {result.fault}; {result.damage}", flush=True)
    print(len(results), sum(r.frames for r in results), sum(r.clips for r in results), sum(r.fault is not None for r in results), missing)


if __name__ == "__main__":
    main()
