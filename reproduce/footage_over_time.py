"""Measures how long a moment is remembered: `python -m reproduce.footage_over_time DATA --weights NAME_OR_FOLDER ...`.

Prints the mean cosine of the embeddings of two clips of one video, by the time between them; and of clips of different videos:
of one group, of one class, and of different classes. The videos are the test part of UCF101, groups 1 to 7, which the weights
never saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vie_models.features.extractor import Extractor

from .footage import EMBEDDING, load
from .footage_tests import read_sets

STRIDE = 0.2
TIMES = (0.2, 0.4, 0.8, 1.6, 3.2, 4.8)
"""Seconds; multiples of STRIDE."""


def cosines(embeddings: list[np.ndarray], labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Mean cosines of pairs of clips, by what the pair has in common.

    Args:
        embeddings: of each of V videos, unit vectors [W, D]: a clip every STRIDE seconds.
        labels: int64 [V], the class of each video.
        groups: int64 [V], its recording.
    """
    found = {}
    for seconds in TIMES:
        apart = round(seconds / STRIDE)
        of_videos = [(own[:-apart] * own[apart:]).sum(1).mean() for own in embeddings if len(own) > apart]
        found[f"{seconds:g} s"] = float(np.mean(of_videos))
    means = np.stack([own.mean(0) for own in embeddings])
    every = means @ means.T  # the mean over all pairs of clips of two videos
    other = ~np.eye(len(means), dtype=bool)
    same_group, same_class = groups[:, None] == groups, labels[:, None] == labels
    found["another video, same group"] = float(every[other & same_group].mean())
    found["another group, same class"] = float(every[~same_group & same_class].mean())
    found["another class"] = float(every[~same_class].mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photographs and videos")
    parser.add_argument("--weights", nargs="+", required=True, help="weight folders, or names of published sets")
    parser.add_argument("--workers", type=int, default=2, help="processes that read videos")
    options = parser.parse_args()
    ucf = read_sets(options.data)["ucf"]
    asked = np.flatnonzero(~ucf.seen)
    rows = []
    for weights in options.weights:
        extractor = Extractor(load(weights), stride=STRIDE, workers=options.workers)
        found: dict[int, np.ndarray] = {}
        for number, record, arrays in extractor.results([options.data / ucf.paths[i] for i in asked]):
            if arrays is None:
                raise SystemExit(f"{ucf.paths[asked[number]]} cannot be read: {record}")
            found[number] = arrays[EMBEDDING]
        row = cosines([found[i] for i in range(len(asked))], ucf.labels[asked], ucf.groups[asked])
        rows.append((Path(weights).name, row))
    columns = list(rows[0][1])
    print(f"| cosine | {' | '.join(columns)} |\n|---|" + "---|" * len(columns))
    for name, row in rows:
        print(f"| {name} | {' | '.join(f'{row[column]:.2f}' for column in columns)} |")


if __name__ == "__main__":
    main()
