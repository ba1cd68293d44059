"""The ffmpeg whose frames ours are compared with."""

import os
from pathlib import Path

import pytest

from reproduce.frames import OLDEST, find_ffmpeg


def newest_ffmpeg() -> str:
    """Returns the newest program: on the path, or in imageio-ffmpeg, which the extra `dev` brings."""
    found = find_ffmpeg()
    if found is None:
        pytest.skip(f"there is no ffmpeg {OLDEST} or newer: neither on the path nor in imageio-ffmpeg")
    return found[0]


def path_with_ffmpeg(folder: Path) -> str:
    """Returns a PATH on which programs find it by name. A link to it lies in `folder`."""
    (folder / "ffmpeg").symlink_to(newest_ffmpeg())
    return os.pathsep.join((str(folder), os.environ["PATH"]))
