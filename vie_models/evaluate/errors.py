"""The videos that an evaluation got wrong: a table (CSV) of all, and a sheet of pictures of some."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import replacing
from ..video.frames import GRID_FPS, VideoError
from ..video.sources import PathOrURL, decoding, open_video, path_or_url
from .figure import new_figure

SHOWN, COLUMNS = 40, 5
"""Pictures on a sheet, and in a row of it."""


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A video that was classified wrong."""

    path: str
    label: str
    """Its class."""
    answer: str | None
    """The class that it was given. None: it could not be read."""
    score: float
    """Score of the answer."""


def write_errors(folder: Path, protocol: str, wrong: Sequence[Wrong], num_videos: int) -> None:
    """Writes errors-<protocol>.csv and errors-<protocol>.png, those with the highest scores first. Without errors, no picture.

    Args:
        folder: an existing folder.
        protocol: name of the protocol.
        wrong: the videos that were classified wrong.
        num_videos: number of all videos.

    Raises:
        ImportError: matplotlib is not installed. The table is written in any case.
    """
    wrong = sorted(wrong, key=lambda one: -one.score)
    picture = folder / f"errors-{protocol}.png"
    with replacing(folder / f"errors-{protocol}.csv") as path, path.open("w", newline="", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "answer", "score"])
        writer.writerows([one.path, one.label, one.answer, f"{one.score:.4g}"] for one in wrong)
    shown = [one for one in wrong if one.answer is not None][:SHOWN]
    if not shown:
        picture.unlink(missing_ok=True)  # of an earlier evaluation
        return
    rows = -(-len(shown) // COLUMNS)
    figure = new_figure((2.6 * COLUMNS, 2.4 * rows + 0.5))
    more = f", {len(shown)} of them shown" if len(shown) < len(wrong) else ""
    title = f"{protocol}: {len(wrong)} of {num_videos} videos are wrong{more}. Black: the label; red: the answer"
    figure.suptitle(title, fontsize="medium")
    for place, one in enumerate(shown):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        axes.axis("off")
        if (frame := middle_frame(path_or_url(one.path))) is not None:
            axes.imshow(frame)
        axes.set_title(_short(one.label), fontsize="small", loc="left", pad=14)
        axes.text(0, 1.02, _short(one.answer or ""), color="tab:red", fontsize="small", transform=axes.transAxes, va="bottom")
        axes.text(0, -0.02, _short(Path(one.path).name), color="gray", fontsize="x-small", transform=axes.transAxes, va="top")
    with replacing(picture) as path:
        figure.savefig(path, dpi=80, format="png")


def middle_frame(path: PathOrURL) -> np.ndarray | None:
    """Returns the frame in the middle of a video, uint8 [H, W, 3]; None if it cannot be read."""
    try:
        with decoding(path), open_video(path, GRID_FPS, threads=1) as video:
            return video.retrying(lambda: next(iter(video.read([[video.num_frames // 2]])))[0])
    except (OSError, VideoError):
        return None


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
