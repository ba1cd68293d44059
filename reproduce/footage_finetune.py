"""Fine-tunes on real video and photographs, from weights and from scratch: `python -m reproduce.footage_finetune DATA WEIGHTS`.

WEIGHTS is a weight folder or the name of a published set. Splits are those of reproduce.footage; of the fights, the videos that
the weights never saw are the test. One setting serves all tests, and none was tuned. Prints the table of `vie report`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vie_models.evaluate.report import report
from vie_models.evaluate.results import RESULTS
from vie_models.video.packed import open_pack

from .commands import done
from .footage import load
from .footage_tests import Videos, read_sets
from .footage_world import MAX_PER_CLASS, caltech

EPOCHS = {"ucf": 100, "fights": 60, "tank": 30, "caltech": 15}
SETTINGS = ["--batch-size", "32", "--lr", "0.03", "--weight-decay", "1e-4", "--augmentation", "color_jitter"]


def write_lists(name: str, videos: Videos, learned: np.ndarray, options: argparse.Namespace) -> Path:
    """Writes train.txt and val.txt of a test, of packed frames if they are videos; returns their folder."""
    folder = options.out / "lists" / name
    folder.mkdir(parents=True, exist_ok=True)
    root = options.data
    entries = [(root / path).resolve() for path in videos.paths]
    if videos.clips > 1:
        (folder / "videos.txt").write_text("".join(f"{path}\n" for path in videos.paths))
        size = ["--short-side", "91", "--root", str(root), "--workers", options.workers]
        done(["data", "pack", str(folder / "videos.txt"), str(folder / "pack"), *size])
        pack = open_pack((folder / "pack").resolve())
        entries = [pack.entry(row) for row in range(len(pack.rows))]
    for file, which in (("train", learned), ("val", ~learned)):
        lines = [f"{entries[i]} {videos.labels[i]}\n" for i in np.flatnonzero(which)]
        (folder / f"{file}.txt").write_text("".join(lines))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of photographs and videos")
    parser.add_argument("weights", nargs="+", help="weight folders, or names of published sets")
    parser.add_argument("--out", type=Path, default=Path("runs/footage-finetune"), help="folder for everything")
    parser.add_argument("--tests", nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--placement", default="even", help="where the test's clips lie: even or paper")
    parser.add_argument("--workers", default="1", help="processes that read")
    options = parser.parse_args()
    sets = read_sets(options.data)
    learned = {
        "ucf": sets["ucf"].seen,
        "fights": sets["fights"].seen,
        "tank": sets["tank"].groups == 1,
        "caltech": np.array([place < MAX_PER_CLASS for *_, place in caltech(options.data)]),
    }
    for test in options.tests:
        folder = write_lists(test, sets[test], learned[test], options)
        lists = ["--train-list", str(folder / "train.txt"), "--val-list", str(folder / "val.txt")]
        common = [
            *lists,
            "--val-placement",
            options.placement,
            "--workers",
            options.workers,
            "--epochs",
            str(EPOCHS[test]),
            *SETTINGS,
        ]
        for weights in options.weights:
            model = load(weights).model_name
            for start, begin in (("scratch", []), (Path(weights).name, ["--weights", weights])):
                out = options.out / test / f"{model}-{start}"
                if not (out / RESULTS).exists():
                    done(["finetune", model, *common, *begin, "-o", str(out)])
    print(report([options.out], options.out / "report.md"))


if __name__ == "__main__":
    main()
