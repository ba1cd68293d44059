"""Measures the names that memory banks give, and from which agreement on they are right:

    python -m reproduce.names DATA [--weights NAME_OR_FOLDER ...] [--out OUT] [--write]

A bank is asked about videos that it does not hold. Of known classes: groups 1 to 7 of UCF101, the fights that were kept out of
training, and baseball pitches from television. Of unknown classes: states of a loading bay, and footage of other sources (pets,
exercises, signs, falls, football); and the known ones again, each asked of the bank without the rows of its class. Half of the
questions have a known class; each class, and each kind of unknown videos, counts the same.

The agreement of a video is the largest share of the votes that one name has (`vie predict`). The least agreement is the lowest
from which on at least 80 % of the given names are right. Prints a table: as chosen, and as a check with that of each fifth of
the recordings chosen on the others. --write puts the least agreement in the cards, where `vie predict` finds it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard

from vie_models.evaluate.predict import CLIPS, Predictor, load_predictor
from vie_models.features.extractor import Extractor
from vie_models.files import replacing
from vie_models.weights.card import CARD
from vie_models.weights.catalog import CATALOG

from .footage_tests import read_sets
from .footage_world import read_table

HERE = Path(__file__).parent.parent / "checkpoints"
PRECISION = 0.8
"""Share of the given names that should be right."""
LEAST = 10
"""Fewer given names than these are not enough to choose by."""
MOST = 30
"""Videos of a kind of unknown ones."""
FOLDS = 5
PITCHES = {"baseball_pitch": "BaseballPitch"}
UNKNOWN = ("pets", "exercise", "hand_gesture", "sign", "adl", "fall", "football", "highway", "mouse")
"""Kinds of footage that no name of a bank says and no published set was trained on."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """A video to be named."""

    path: str
    name: str
    """Its class, or what kind of unknown video it is."""
    group: str
    """Of videos that are alike."""
    is_known: bool


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a bank said, a row for each question. Q questions."""

    agreement: np.ndarray
    """float64 [Q]."""
    right: np.ndarray
    """bool [Q]: whether the name with most votes is right."""
    weights: np.ndarray
    """float64 [Q]: how much a question counts; 1 together, and half of it for known classes."""
    folds: np.ndarray
    """int64 [Q]: the fifth that a question is in, with all questions about its group."""
    known: np.ndarray
    """bool [Q]: whether the bank has the class."""


def questions(data: Path) -> list[Asked]:
    """The videos to be named."""
    sets = read_sets(data)
    found = []
    for name, table in (("ucf", "ucf101_subset20/labels.csv"), ("fights", "footage/footage.csv")):
        rows = [row for row in read_table(data / table) if row["label"]]
        videos = sets[name]
        for row, path, group, seen in zip(rows, videos.paths, videos.groups, videos.seen, strict=True):
            if not seen:
                found.append(Asked(path, row["label"], f"ucf {row['group']}" if name == "ucf" else f"fight {group}", True))
    kinds = {row["path"]: row["kind"] for row in read_table(data / "footage" / "kinds.csv")}
    others = []
    for row in read_table(data / "footage" / "footage.csv"):
        kind = kinds.get(row["path"], "")
        if kind in PITCHES or kind in UNKNOWN:
            others.append(Asked(f"footage/{row['path']}", PITCHES.get(kind, kind), row["video"], kind in PITCHES))
    others += [
        Asked(f"tank_state4/{row['path']}", row["label"], f"tank {row['path']}", False)
        for row in read_table(data / "tank_state4" / "labels.csv")
    ]
    taken: Counter[str] = Counter()
    for one in others:
        taken[one.name] += 1
        if taken[one.name] <= MOST:
            found.append(one)
    return found


def embeddings(predictor: Predictor, asked: list[Asked], data: Path, file: Path, workers: int) -> torch.Tensor:
    """Embeddings of the videos' clips, float32 [V, C, D], kept in `file`."""
    if not file.exists():
        extractor = Extractor(predictor.model, clips=CLIPS, workers=workers, batch_size=8)
        found = {}
        for number, record, arrays in extractor.results([data / one.path for one in asked]):
            if arrays is None:
                raise SystemExit(f"{asked[number].path} cannot be read: {record}")
            found[number] = arrays["embedding"]
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as path, path.open("wb") as stream:
            np.savez(stream, paths=[one.path for one in asked], values=np.stack([found[i] for i in range(len(asked))]))
    with np.load(file) as stored:
        places = {path: i for i, path in enumerate(stored["paths"].tolist())}
        return torch.from_numpy(stored["values"][[places[one.path] for one in asked]])


def answers(predictor: Predictor, asked: list[Asked], values: torch.Tensor) -> Answers:
    """Asks a bank about every video, and about those of known classes again without the rows of their class."""
    number = {name: label for label, name in enumerate(predictor.names)}
    labels = np.array([number[one.name] if one.is_known else -1 for one in asked])
    agreement, names = _best(predictor, values)
    known = labels >= 0
    again = np.flatnonzero(known)
    without = np.zeros(len(again))
    for label in np.unique(labels[known]):
        kept, which = predictor.labels != label, labels[again] == label
        reduced = dataclasses.replace(predictor, rows=predictor.rows[kept], labels=predictor.labels[kept])
        without[which] = _best(reduced, values[again[which]])[0]
    kinds = Counter(one.name for one in asked)
    of_known, of_unknown = (len({one.name for one in asked if one.is_known is side}) for side in (True, False))
    share = np.array([1 / kinds[one.name] / (of_known if one.is_known else of_unknown) for one in asked])
    folds = _folds([one.group for one in asked])
    return Answers(
        np.concatenate([agreement, without]),
        np.concatenate([names == labels, np.zeros(len(again), bool)]),
        np.concatenate([np.where(known, share / 2, share / 4), share[again] / 4]),
        np.concatenate([folds, folds[again]]),
        np.concatenate([known, np.zeros(len(again), bool)]),
    )


def _best(predictor: Predictor, values: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Agreement and label of the name with most votes."""
    best = predictor.shares(values)[0].max(1)
    return best.values.numpy(), best.indices.numpy()


def _folds(groups: list[str]) -> np.ndarray:
    numbers = np.unique(groups, return_inverse=True)[1]
    return (np.random.default_rng(0).permutation(numbers.max() + 1) % FOLDS)[numbers]


def least_agreement(found: Answers, which: np.ndarray) -> float | None:
    """The lowest agreement from which on PRECISION of the names are right, by the questions `which`; None if there is none."""
    order = np.flatnonzero(which)[np.argsort(-found.agreement[which], kind="stable")]
    given = np.cumsum(found.weights[order])
    right = np.cumsum((found.weights * found.right)[order])
    values = found.agreement[order]
    ends = np.append(values[1:] < values[:-1], True)  # of questions with the same agreement
    enough = np.flatnonzero((right >= PRECISION * given) & ends & (np.arange(1, len(order) + 1) >= LEAST))
    return float(np.floor(values[enough[-1]] * 1e4) / 1e4) if len(enough) else None


def rates(found: Answers, least: np.ndarray) -> dict[str, float]:
    """In percent: how many names are right, of those given; and how many videos get a right, a wrong and no name.

    Args:
        found: the answers.
        least: least agreement for each question; infinite for none.
    """
    given, weights = found.agreement >= least, found.weights
    right, named = (weights * (given & found.right)).sum(), (weights * given).sum()
    of_known = (weights * (given & found.right)).sum() / weights[found.known].sum()
    numbers = {"precision": right / named if named else np.nan, "right": right, "wrong": named - right, "none": 1 - named}
    return {name: round(100 * float(value), 1) for name, value in {**numbers, "of known": of_known}.items()}


def measure(weights: str, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """What goes in a card, and rows of the table."""
    folder = Path(weights)
    model = CATALOG[weights].model if weights in CATALOG else folder.name.split(".")[0]
    predictor = load_predictor(model, folder)
    asked = questions(options.data)
    values = embeddings(predictor, asked, options.data, options.out / f"{folder.name}.npz", options.workers)
    found = answers(predictor, asked, values)
    every = np.ones(len(found.folds), bool)
    least = least_agreement(found, every)
    of_folds = [least_agreement(found, found.folds != fold) for fold in range(FOLDS)]
    checked = np.array([np.inf if of_folds[fold] is None else of_folds[fold] for fold in found.folds])
    rows = []
    chosen = np.full(len(checked), np.inf if least is None else least)
    for how, needed in (("all names", np.zeros(len(checked))), ("chosen", chosen), ("check", checked)):
        numbers = rates(found, needed)
        given = found.agreement >= needed
        counts = f"{(given & found.right).sum()} + {(given & ~found.right).sum()}"
        value = {"all names": "0", "chosen": "none" if least is None else f"{least:.3f}", "check": "of each fifth"}[how]
        cells = [f"{numbers[key]:g}" for key in ("precision", "right", "wrong", "none", "of known")]
        rows.append(f"| {folder.name} | {value} | {' | '.join(cells)} | {counts} |")
    numbers = rates(found, chosen)
    return {"agreement": least, **{key: numbers[key] for key in ("right", "wrong", "none")}}, rows


def write(folder: Path, names: dict[str, Any]) -> None:
    """Puts what was found under `vie_models: names:` in a card."""
    card = ModelCard((folder / CARD).read_text())
    card.data["vie_models"] = {**card.data["vie_models"], "names": names}
    with replacing(folder / CARD) as path:
        path.write_text(str(card))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of footage/, ucf101_subset20/, tank_state4/ and photos/")
    parser.add_argument("--weights", nargs="+", default=[name for name, record in CATALOG.items() if record.files])
    parser.add_argument("--out", type=Path, default=Path("runs/names"), help="folder for embeddings")
    parser.add_argument("--workers", type=int, default=2, help="processes that read videos")
    parser.add_argument("--write", action="store_true", help="write the least agreement to the sets' cards in checkpoints/")
    options = parser.parse_args()
    lines = ["| set | least agreement | right, of given | right | wrong | no name | right, of known | names, right + wrong |"]
    lines.append("|---" * 8 + "|")
    for weights in options.weights:
        names, rows = measure(weights, options)
        lines += rows
        if options.write:
            write(HERE / weights, names)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
