"""HMDB51: Brown University's folder "test_train_splits", with lines `name 0|1|2` (1 train, 2 test, 0 neither)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from .annotations import Annotations, Entry, lines_of, nonempty


def hmdb51(folder: Path) -> Annotations:
    """Reads the files <class>_test_split1.txt, -2 and -3 in a folder. Classes are in alphabetical order.

    Raises:
        ValueError: the folder has no such files.
    """
    found = {number: sorted(folder.glob(f"*_test_split{number}.txt")) for number in (1, 2, 3)}
    classes = sorted({_hmdb_class(file) for files in found.values() for file in files})
    splits: dict[str, list[Entry]] = defaultdict(list)
    for number, files in found.items():
        for file in files:
            name = _hmdb_class(file)
            for line in lines_of(file):
                video, use = line.rsplit(maxsplit=1)
                if use in "12":
                    splits[f"{'train' if use == '1' else 'val'}{number}"].append(
                        Entry(Path(video).stem, classes.index(name), name)
                    )
    return nonempty(Annotations(classes, dict(splits)), folder, "<class>_test_split1.txt")


def _hmdb_class(file: Path) -> str:
    return file.stem.rpartition("_test_split")[0]
