"""Measures the names that memory banks give, and from which agreement on they are right:

    python -m reproduce.names DATA [--weights NAME_OR_FOLDER ...] [--out OUT] [--write]

A bank is asked about videos that it does not hold. Of known classes: groups 1 to 7 of UCF101, the fights that were kept out of
training, and baseball pitches from television. Of unknown classes: states of a loading bay, and footage of other sources (pets,
exercises, signs, falls, football and so on). All known videos together count as much as all unknown ones.

The agreement of a video is the largest share of all votes that one name has (`vie predict`). The least agreement is the lowest
from which on at least 80 % of the given names are right, over all sets together, because each alone gives too few names to
tell. Prints for each set what happens with all names and with the least agreement, and as a check with that of each fifth of
the recordings chosen on the other fifths; there too, how often a known video gets a name from the bank without the rows of its
class, necessarily a wrong one. A second table says how well right names are told from names for unknown videos by the
agreement, by the share among rows with names, and by the nearest row (AUROC). --write puts the least agreement in the cards,
where `vie predict` finds it.
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
from vie_models.weights.catalog import CARD, CATALOG

from .footage_tests import read_sets
from .footage_world import read_table

HERE = Path(__file__).parent.parent / "checkpoints"
PRECISION = 0.8
"""Share of the given names that should be right."""
MIN_VIDEOS = 20
"""Fewer names than these say too little of how many are right."""
MAX_VIDEOS = 30
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
    """What a bank said. V videos."""

    known: np.ndarray
    """bool [V]: whether the bank has the class."""
    right: np.ndarray
    """bool [V]: whether the name with most votes is right."""
    agreement: np.ndarray
    """float64 [V]: its share of all votes."""
    of_named: np.ndarray
    """float64 [V]: its share of the votes of rows with a name."""
    nearest: np.ndarray
    """float64 [V]: cosine similarity of the nearest row."""
    without: np.ndarray
    """float64 [V]: the agreement if the bank had not the class; 0 for unknown videos."""
    folds: np.ndarray
    """int64 [V]: the fifth that a video is in, with all of its recording."""

    @property
    def weights(self) -> np.ndarray:
        """How much each video counts, float64 [V]: half for all known ones together."""
        return np.where(self.known, 0.5 / max(self.known.sum(), 1), 0.5 / max((~self.known).sum(), 1))


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
        if taken[one.name] <= MAX_VIDEOS:
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
    shares, nearest = predictor.shares(values)
    best = shares.max(1)
    without = np.zeros(len(asked))
    for label in np.unique(labels[labels >= 0]):
        kept, which = predictor.labels != label, np.flatnonzero(labels == label)
        reduced = dataclasses.replace(predictor, rows=predictor.rows[kept], labels=predictor.labels[kept])
        without[which] = reduced.shares(values[which])[0].amax(1).numpy()
    return Answers(
        known=labels >= 0,
        right=best.indices.numpy() == labels,
        agreement=best.values.numpy(),
        of_named=(best.values / shares.sum(1).clamp(min=1e-12)).numpy(),
        nearest=nearest.double().numpy(),
        without=without,
        folds=_folds([one.group for one in asked]),
    )


def _folds(groups: list[str]) -> np.ndarray:
    numbers = np.unique(groups, return_inverse=True)[1]
    return (np.random.default_rng(0).permutation(numbers.max() + 1) % FOLDS)[numbers]


def threshold_of(found: Answers, which: np.ndarray) -> float:
    """The least agreement by the videos `which`, bool [V]: PRECISION of the names are right from there on, and from each higher
    agreement on that gives MIN_VIDEOS names or more."""
    order = np.flatnonzero(which)[np.argsort(-found.agreement[which], kind="stable")]
    values, threshold = found.agreement[order], np.inf
    given, right = (np.cumsum((found.weights * of)[order]) for of in (np.ones(len(which)), found.right))
    for i in range(MIN_VIDEOS - 1, len(order)):
        if i + 1 < len(order) and values[i + 1] == values[i]:
            continue
        if right[i] < PRECISION * given[i]:
            break
        threshold = float(np.floor(1e3 * values[i]) / 1e3)
    return threshold


def row(name: str, how: str, found: Answers, threshold: np.ndarray) -> tuple[str, dict[str, float]]:
    """A row of the table, and its numbers in percent. `threshold` is the least agreement for each video, infinite for none."""
    given = found.agreement >= threshold
    right, wrong = given & found.right, given & ~found.right
    named = (found.weights * given).sum()
    rates = {
        "right": right[found.known].mean(),
        "wrong": wrong[found.known].mean(),
        "unknown_named": given[~found.known].mean(),
        "without_class_named": (found.without >= threshold)[found.known].mean(),
        "precision": (found.weights * right).sum() / named if named else np.nan,
    }
    numbers = {key: round(100 * float(value), 1) for key, value in rates.items()}
    counts = f"{right.sum()} of {given.sum()}"
    none = round(100 - numbers["right"] - numbers["wrong"], 1)
    cells = [numbers["precision"], counts, numbers["right"], numbers["wrong"], none]
    cells += [numbers["unknown_named"], numbers["without_class_named"]]
    return f"| {name} | {how} | {' | '.join(map(str, cells))} |".replace("| nan |", "| |"), numbers


def auroc(found: Answers, score: np.ndarray) -> float:
    """How often a score is higher for a known video with a right name than for an unknown one."""
    right, unknown = score[found.right], score[~found.known]
    return float((right[:, None] > unknown).mean() + (right[:, None] == unknown).mean() / 2)


def ask(weights: str, options: argparse.Namespace) -> Answers:
    """What the bank of a weight folder or a published set says."""
    folder = Path(weights)
    model = CATALOG[weights].model if weights in CATALOG else folder.name.split(".")[0]
    predictor = load_predictor(model, folder)
    asked = questions(options.data)
    values = embeddings(predictor, asked, options.data, options.out / f"{folder.name}.npz", options.workers)
    return answers(predictor, asked, values)


def together(every: list[Answers]) -> Answers:
    """The answers of all banks as those of one."""
    names = [field.name for field in dataclasses.fields(Answers)]
    return Answers(**{name: np.concatenate([getattr(found, name) for found in every]) for name in names})


def write(folder: Path, names: dict[str, Any]) -> None:
    """Puts what was found under `vie_models: names:` in a card."""
    card = ModelCard((folder / CARD).read_text())
    card.data["vie_models"] = {**card.data["vie_models"], "names": names}
    with replacing(folder / CARD) as path:
        path.write_text(str(card))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of footage/, ucf101_subset20/, tank_state4/ and photos/")
    parser.add_argument("--weights", nargs="+", default=[name for name, record in CATALOG.items() if not record.url])
    parser.add_argument("--out", type=Path, default=Path("runs/names"), help="folder for embeddings")
    parser.add_argument("--workers", type=int, default=2, help="processes that read videos")
    parser.add_argument("--write", action="store_true", help="write the least agreement to the sets' cards in checkpoints/")
    options = parser.parse_args()
    every = {weights: ask(weights, options) for weights in options.weights}
    pooled = together(list(every.values()))
    threshold = threshold_of(pooled, np.ones(len(pooled.folds), bool))
    if not np.isfinite(threshold):
        raise SystemExit(f"no agreement gives {MIN_VIDEOS} names of which {PRECISION:.0%} are right")
    of_folds = np.array([threshold_of(pooled, pooled.folds != fold) for fold in range(FOLDS)])
    lines = [
        "| set | least agreement | right, % of the names | names | known videos: right, % | wrong, % | no name, % "
        "| unknown videos: a name, % | class not in the bank: a name, % |",
        "|---" * 9 + "|",
    ]
    scores = ["| set | share of all votes | share among rows with names | nearest row |", "|---" * 4 + "|"]
    for weights, found in {**every, "all": pooled}.items():
        name = Path(weights).name
        chosen, numbers = row(name, f"{threshold:g}", found, np.full(len(found.folds), threshold))
        lines += [row(name, "0", found, np.zeros(len(found.folds)))[0], chosen]
        scores.append(
            f"| {name} | "
            + " | ".join(f"{auroc(found, of):.2f}" for of in (found.agreement, found.of_named, found.nearest))
            + " |"
        )
        if options.write and found is not pooled:
            write(
                HERE / weights, {"agreement": threshold, **{key: numbers[key] for key in ("right", "wrong", "unknown_named")}}
            )
    lines.append(row("all", "check", pooled, of_folds[pooled.folds])[0])
    print("\n".join([*lines, "", *scores]))


if __name__ == "__main__":
    main()
