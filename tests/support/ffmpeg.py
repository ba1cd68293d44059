"""Finds ffmpeg, whose frames ours are compared with."""

import os
import shutil
from pathlib import Path

import pytest


def ffmpeg() -> str:
    """Returns the program on the path, or the one in imageio-ffmpeg, which the extra `dev` brings."""
    found = shutil.which("ffmpeg")
    if found is None:
        imageio = pytest.importorskip("imageio_ffmpeg", reason="there is neither ffmpeg on the path nor imageio-ffmpeg")
        found = imageio.get_ffmpeg_exe()
    return found


def newest_ffmpeg() -> str:
    """Returns the program in imageio-ffmpeg, which is as new as PyAV's libraries, or else the one on the path."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        return ffmpeg()


def path_with_ffmpeg(folder: Path) -> str:
    """Returns a PATH on which programs find it by name. A link to it lies in `folder`."""
    (folder / "ffmpeg").symlink_to(ffmpeg())
    return os.pathsep.join((str(folder), os.environ["PATH"]))
