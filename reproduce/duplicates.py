"""Measures how well near-duplicates are found: `python -m reproduce.duplicates DATA [--seed N] [--settings ...]`.

DATA is the folder of videos. Plants 50 copies among its videos, each of another recording: cropped, re-encoded at low quality,
slowed by 10 %, mirrored, or cut, 10 of each. Extracts features of all (`vie extract`), builds an index (`vie index`) and looks
for near-duplicates at many thresholds and ratios. A peer does the same with perceptual hashes (pHash, 64 bits, `pip install
imagehash`) of the middle frame of each clip: its rows are the bits, so that pairs are formed and aligned in the same way.

Pairs of videos of one source (a UCF101 group; one of the repositories that the other videos come from) are neither right nor
wrong: many are true near-duplicates, of one camera within minutes, so they are counted apart. Prints a table, and writes it and
the pairs that were wrong to OUT. `--seed 1` plants copies of other videos; `--settings` scores settings that were chosen on the
first ones.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vie_models.datasets.encode import write_mp4
from vie_models.features.folder import FeatureFolder, load_video_features, records_with_features
from vie_models.search import Duplicate, Index, build_index, find_duplicates
from vie_models.search.duplicates import RATIO, THRESHOLD
from vie_models.video.frames import GRID_FPS
from vie_models.video.sources import open_video

from .commands import done
from .footage_world import read_table

SETS = ("footage", "ucf101_subset20", "tank_state4")
KINDS = ("cropped", "re-encoded", "slowed", "mirrored", "cut")
EACH, SHORTEST = 10, 4.0
"""Copies of each kind, and seconds that their sources last at least."""
KEPT = 0.8
"""Part of each side that a crop keeps."""
SAME = {
    "footage/pet-action-recognition/4026d9088d0c_000.mp4",
    "ucf101_subset20/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4",
}
"""Of two sources, but one recording, as looking at what was found showed."""
STRIDE = 0.5
SPEED = 0.9
THRESHOLDS, RATIOS = (0.5, 0.6, 0.7, 0.85, 0.95, 0.98, 0.99), (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 1.0)
"""Of cosine similarity, and of distances: see `find_duplicates`."""


@dataclasses.dataclass(frozen=True)
class Copy:
    """A planted copy."""

    name: str
    kind: str
    source: str
    """Path of the video in DATA."""
    start: float
    """Seconds of the source at which the copy begins."""
    speed: float
    """Seconds of the source for a second of the copy."""


def recordings(data: Path) -> dict[str, str]:
    """The recording of each video, by its path in DATA."""
    found = {f"footage/{row['path']}": f"footage {row['video']}" for row in read_table(data / "footage" / "footage.csv")}
    for row in read_table(data / "ucf101_subset20" / "labels.csv"):
        found[f"ucf101_subset20/{row['path']}"] = f"ucf {row['label']} {row['group']}"
    for row in read_table(data / "tank_state4" / "labels.csv"):
        found[f"tank_state4/{row['path']}"] = f"tank {row['group']}"
    return found


def source_of(path: str) -> str:
    """Where a video comes from: a UCF101 class and group; else its repository, many of whose videos show one room or street."""
    name = Path(path).name.split("_")
    return f"ucf {name[1]} {name[2]}" if path.startswith("ucf101") else "/".join(path.split("/")[: 2 if path[0] == "f" else 1])


def plant(data: Path, out: Path, seed: int = 0) -> list[Copy]:
    """Writes the copies and copies.csv, unless they are there. Returns the copies."""
    table = out / "copies.csv"
    if table.exists():
        return [
            Copy(row["name"], row["kind"], row["source"], float(row["start"]), float(row["speed"])) for row in read_table(table)
        ]
    (out / "copies").mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(seed)
    recording = recordings(data)
    used: set[str] = set()
    copies: list[Copy] = []
    for path in draws.permutation(sorted(recording)).tolist():
        if len(copies) == EACH * len(KINDS):
            break
        with open_video(data / path, GRID_FPS) as video:
            long_enough = video.num_frames >= SHORTEST * GRID_FPS
        if recording[path] in used or not long_enough:
            continue
        used.add(recording[path])
        copies.append(_write(data, path, out, KINDS[len(copies) % len(KINDS)], len(copies), draws))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Copy)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(copy) for copy in copies)
    return copies


def _write(data: Path, path: str, out: Path, kind: str, number: int, draws: np.random.Generator) -> Copy:
    with open_video(data / path, GRID_FPS) as video:
        frames = [window[0] for _, window in video.read_windows(itertools.count(), [0], 1)]
    height, width = frames[0].shape[:2]
    first, speed, crf = 0, 1.0, 23
    if kind == "cropped":
        tall, wide = (round(KEPT * side) // 2 * 2 for side in (height, width))
        top, left = int(draws.integers(height - tall + 1)), int(draws.integers(width - wide + 1))
        frames = [frame[top : top + tall, left : left + wide] for frame in frames]
    elif kind == "re-encoded":
        size = (round(0.6 * width) // 2 * 2, round(0.6 * height) // 2 * 2)
        frames, crf = [np.asarray(Image.fromarray(frame).resize(size)) for frame in frames], 38
    elif kind == "slowed":
        frames, speed = [frames[int(i * SPEED)] for i in range(int(len(frames) / SPEED))], SPEED
    elif kind == "mirrored":
        frames = [frame[:, ::-1] for frame in frames]
    else:
        first = int(0.3 * len(frames))
        frames = frames[first : first + max(len(frames) // 2, round(2.8 * GRID_FPS))]
    name = f"{number:02d}-{kind}.mp4"
    even = (np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]) for frame in frames)
    write_mp4(out / "copies" / name, even, int(GRID_FPS), crf=crf)
    return Copy(name, kind, path, first / GRID_FPS, speed)


def extract(data: Path, out: Path, weights: str, layers: Iterable[str]) -> Path:
    """Extracts features of all videos and copies, and returns their folder."""
    features = out / f"features-{Path(weights).name}"
    together = out / "videos"
    together.mkdir(exist_ok=True)
    for name, target in [*((name, data / name) for name in SETS), ("copies", out / "copies")]:
        if not (together / name).exists():
            (together / name).symlink_to(target.resolve())
    flags = ["--stride", str(STRIDE), "--workers", "2", "--layers", *layers, "-o", str(features)]
    done(["extract", weights, *SETS, "copies", "--root", str(together), *flags])
    return features


def hashed(features: Path, out: Path) -> Path:
    """Writes hashes of the middle frame of each clip, as rows of +-1, in a folder of features of its own."""
    import imagehash

    hashes = out / "features-phash"
    records = records_with_features(features)
    with FeatureFolder(hashes, {"model": "phash", "stride": STRIDE}) as folder:
        for name, record in records.items():
            if folder.finished(name, Path(record.path)):
                continue
            own = load_video_features(features, record, [])
            middles = ((own["start"] + own["end"]) / 2 * GRID_FPS).astype(int)
            with open_video(record.path, GRID_FPS) as video:
                frames = video.read([[min(k, video.num_frames - 1)] for k in middles.tolist()])
                bits = np.stack([imagehash.phash(Image.fromarray(frame[0])).hash.ravel() for frame in frames])
            record.settings = folder.settings
            folder.write(record, {"embedding": np.where(bits, 1, -1).astype(np.float32), **own})
    return hashes


@dataclasses.dataclass
class Score:
    """What was found with a threshold and a ratio."""

    threshold: float
    ratio: float
    found: dict[str, int]
    """Copies that were found, of each kind."""
    right: int
    kin: int
    """Pairs of one source, but for the planted ones."""
    wrong: int
    error: float
    """Median error of the times, in seconds."""
    mistakes: list[tuple[str, str, float]]

    @property
    def precision(self) -> float:
        return self.right / max(self.right + self.wrong, 1)

    @property
    def recall(self) -> float:
        return self.right / (EACH * len(KINDS))

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


def scored(pairs: list[Duplicate], copies: list[Copy], threshold: float, ratio: float) -> Score:
    """Counts the pairs. A copy is found if it is paired with its source."""
    by_name = {f"copies/{copy.name}": copy for copy in copies}

    def kin(*names: str) -> bool:
        one, two = (by_name[name].source if name in by_name else name for name in names)
        return source_of(one) == source_of(two) or {one, two} == SAME

    score = Score(threshold, ratio, dict.fromkeys(KINDS, 0), 0, 0, 0, 0.0, [])
    errors = []
    for pair in pairs:
        one, two = (pair.first, pair.second) if pair.first.name in by_name else (pair.second, pair.first)
        copy = by_name.get(one.name)
        if copy and copy.source == two.name:
            score.found[copy.kind] += 1
            score.right += 1
            errors.append(abs(copy.start + copy.speed * one.start - two.start))
        elif kin(one.name, two.name):
            score.kin += 1
        else:
            score.wrong += 1
            score.mistakes.append((one.name, two.name, round(pair.similarity, 4)))
    score.error = float(np.median(errors)) if errors else float("nan")
    return score


def sweep(index: Index, copies: list[Copy]) -> Iterator[Score]:
    """Yields the score of each threshold and ratio; of a threshold, until more pairs are wrong than copies were planted."""
    for threshold in THRESHOLDS:
        for ratio in RATIOS:
            yield (score := score_of(index, copies, threshold, ratio))
            if score.wrong > EACH * len(KINDS):
                break


def score_of(index: Index, copies: list[Copy], threshold: float, ratio: float) -> Score:
    return scored(find_duplicates(index, threshold, ratio=ratio), copies, threshold, ratio)


def best_of(scores: list[Score]) -> Iterator[tuple[str, Score]]:
    """Yields the scores that say most about a grid of settings, each with its name."""
    yield "best F1", max(scores, key=lambda score: score.f1)
    if clean := [score for score in scores if score.precision >= 0.95]:
        yield "precision 0.95", max(clean, key=lambda score: score.right)
    if absolute := [score for score in scores if score.ratio == 1]:
        yield "threshold alone", max(absolute, key=lambda score: score.f1)
    yield from (("default", score) for score in scores if (score.threshold, score.ratio) == (THRESHOLD, RATIO))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of videos")
    parser.add_argument("--out", type=Path, help="folder for everything (default: runs/duplicates-SEED)")
    parser.add_argument(
        "--weights", nargs="+", default=["vie_twopathway_tiny", "vie_twopathway_small"], help="weight sets or models"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the copies: other videos, and other crops")
    parser.add_argument(
        "--settings", nargs="*", metavar="THRESHOLD,RATIO", default=[], help="score these, chosen on other copies, not a grid"
    )
    parser.add_argument("--layers", nargs="*", default=[], help="layers to try besides the embedding, where a model has them")
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True, help="compare with perceptual hashes")
    options = parser.parse_args()
    options.out = options.out or Path(f"runs/duplicates-{options.seed}")
    options.out.mkdir(parents=True, exist_ok=True)
    copies = plant(options.data, options.out, options.seed)
    folders = [(weights, extract(options.data, options.out, weights, options.layers)) for weights in options.weights]
    ways = [(weights, array, folder) for weights, folder in folders for array in ("embedding", *options.layers)]
    if options.peer:
        ways.append(("pHash, 64 bits", "embedding", hashed(folders[0][1], options.out)))
    lines, details = [], {}
    for weights, array, folder in ways:
        index = build_index(folder, array)
        if options.settings:
            shown = [("given", score_of(index, copies, *map(float, word.split(",")))) for word in options.settings]
            scores = [score for _, score in shown]
        else:
            scores = list(sweep(index, copies))
            shown = list(best_of(scores))
        details[f"{weights} {array}"] = [dataclasses.asdict(score) for score in scores]
        for what, score in shown:
            kinds = " | ".join(str(score.found[kind]) for kind in KINDS)
            lines.append(
                f"| {weights} {array} | {what}: {score.threshold:g}, {score.ratio:g} | {kinds} | {score.precision:.2f} "
                f"| {score.recall:.2f} | {score.wrong} | {score.kin} | {score.error:.2f} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    columns = [
        "rows",
        "threshold, ratio",
        *KINDS,
        "precision",
        "recall",
        "wrong pairs",
        "pairs of one source",
        "error of times, s",
    ]
    text = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n" + "\n".join(lines)
    print(text)
    (options.out / "duplicates.md").write_text(text + "\n")
    (options.out / "duplicates.json").write_text(json.dumps(details, indent=1) + "\n")


if __name__ == "__main__":
    main()
