"""Compares frames of videos that ffmpeg makes with `ffmpeg -vf fps=25`, and clips by seeking with those of a full decode.

`python -m reproduce.frames` prints how many were compared, and what differs. Words after it pick videos by name.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np

from vie_models.video.decode import VideoFile
from vie_models.video.frames import LengthError, VideoError

from .frames_made import CannotMakeError, Made, make, videos

OLDEST = 7
"""Of ffmpeg's releases. Older ones lack options that make the videos."""
SIDE = 8  # of the blocks in which frames are compared
TOLERANCE = 16  # gray levels, mean over a block; a wrong frame differs by 200, fields' colors by 8
MAX_FRAMES = 2000  # frames that are read of one video
KNOWN = {
    "codec: avif": "ffmpeg shows the still picture of an animated AVIF, we show the animation",
    "joined: .*, another size": "ffmpeg builds its filters anew where the size changes, and loses one or two frames",
    "cut: mpeg4 avi, 3 kB are zeros": "AVI counts frames: seeking past the damage does not see that some are gone",
    "cut: dv, 3 kB are zeros": "damage changes the size, and ffmpeg builds its filters anew",
    "cut: dv, a packet lost": "colors of a broken frame are noise, which PyAV scales up field by field, ffmpeg as one picture",
}
"""Differences that are left: a pattern of the video's name, and the reason."""


@dataclasses.dataclass
class Comparison:
    """What comparing one video found."""

    made: Made
    frames: int = 0
    """Grid frames compared with ffmpeg's."""
    equal: int = 0
    """Those that are the same to the last bit."""
    clips: int = 0
    """Clips compared between seeking and full decoding."""
    recounted: bool = False
    """Whether reading by seeking found that it had to decode all, and said so."""
    fault: str | None = None
    """What differs first, or None."""
    damage: str | None = None
    """What the reader says about the file."""

    @property
    def axis(self) -> str:
        return self.made.name.partition(":")[0]

    @property
    def known(self) -> str | None:
        """Why a difference is expected, or None."""
        return next((why for pattern, why in KNOWN.items() if re.search(pattern, self.made.name)), None)


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
    command = [
        ffmpeg,
        "-v",
        "error",
        "-threads",
        "1",
        "-i",
        str(path),
        "-an",
        "-sn",
        "-dn",
        "-vf",
        "fps=25",
        "-fps_mode",
        "passthrough",
    ]
    command += ["-frames:v", str(MAX_FRAMES), "-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "-"]
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
            found.fault = f"nothing is read of {len(theirs)} frames: {error.reason}" if theirs else None
        except Exception as error:  # the sweep goes on, and counts it
            found.fault = f"{type(error).__name__}: {error}"
        else:
            found.equal = sum(map(np.array_equal, ours, theirs))
            found.fault = _differ(ours, theirs) or _seek(path, found, ours)
    return found


def _whole(path: Path, found: Comparison) -> np.ndarray:
    """All frames [T, H, W, 3], by full decoding."""
    with VideoFile(path, 25, threads=1) as video:
        video.recount()
        frames = next(video.read([range(min(video.num_frames, MAX_FRAMES))]))
        found.damage = video.damage
    found.frames = len(frames)
    return frames


def _differ(ours: np.ndarray, theirs: list[np.ndarray]) -> str | None:
    """What differs first between frames [T, H, W, 3] and ffmpeg's."""
    if theirs and ours.shape[1:] != theirs[0].shape:
        return f"frames are {ours.shape[1]} x {ours.shape[2]}, ffmpeg's {theirs[0].shape[0]} x {theirs[0].shape[1]}"
    wrong = [k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if not alike(a, b)]
    length = f"{len(ours)} frames, ffmpeg has {len(theirs)}" if len(ours) != len(theirs) else ""
    if not wrong:
        return length or None
    shown = [k for k, other in enumerate(theirs) if alike(ours[wrong[0]], other)][:3]
    return f"{len(wrong)} frames differ, the first is {wrong[0]}, in ffmpeg {shown or 'nowhere'}{length and '; ' + length}"


def _seek(path: Path, found: Comparison, whole: np.ndarray) -> str | None:
    """Reads clips, each in a pass of its own, as a caller does who never decodes all. Returns what differs first."""
    with VideoFile(path, 25, threads=1) as video:

        def clip(share: float) -> range:
            first = int(share * max(video.num_frames - 8, 0))
            return range(first, min(first + 8, video.num_frames))

        for share in (1, 0.5, 0.2, 0, 0.75):
            try:
                frames = next(video.read([clip(share)]))
            except LengthError:
                found.recounted = True
                video.recount()
                frames = next(video.read([clip(share)]))
            wanted = clip(share)
            found.clips += 1
            if wanted.stop > len(whole) or not np.array_equal(frames, whole[wanted]):
                return f"by seeking, frames {wanted.start} to {wanted.stop - 1} are others; full decoding finds {len(whole)}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of the names of the videos to compare (default: all)")
    names = parser.parse_args().names
    found = find_ffmpeg()
    if not found:
        raise SystemExit(f"ffmpeg {OLDEST} or newer is needed: pip install imageio-ffmpeg")
    ffmpeg, version = found
    missing: Counter[str] = Counter()

    def attempt(made: Made) -> Comparison | None:
        try:
            return compare(made, ffmpeg)
        except CannotMakeError as error:
            missing[str(error)] += 1
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        chosen = [made for made in videos() if all(name in made.name for name in names)]
        results = [result for result in pool.map(attempt, chosen) if result]
    print(f"ffmpeg {version}, PyAV {av.__version__} with libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}\n")
    print(
        "| varied | videos | that differ | frames | equal to the bit | clips by seeking | videos that had to be decoded whole |"
    )
    print("|---|---|---|---|---|---|---|")
    for axis in [*dict.fromkeys(result.axis for result in results), "all"]:
        rows = [result for result in results if axis in (result.axis, "all")]
        counts = [(1, bool(row.fault), row.frames, row.equal, row.clips, row.recounted) for row in rows]
        print("|", axis, "|", " | ".join(f"{sum(column):,}" for column in zip(*counts, strict=True)), "|")
    for result in results:
        if result.fault:
            print(f"\n{result.made.name}\n  {result.fault}\n  reader: {result.damage}\n  known: {result.known or 'no'}")
    if missing:
        print("\nencoders that this ffmpeg lacks:", ", ".join(f"{name} ({count} videos)" for name, count in missing.items()))


if __name__ == "__main__":
    main()
