"""UCF101: the University of Central Florida's folder "UCF101TrainTestSplits-RecognitionTask"."""

from __future__ import annotations

from pathlib import Path

from .annotations import Annotations, Entry, lines_of, nonempty


def ucf101(folder: Path) -> Annotations:
    """Reads classInd.txt, trainlist01-03.txt and testlist01-03.txt in a folder. Splits may be missing.

    Raises:
        FileNotFoundError: classInd.txt is missing.
        ValueError: all splits are missing, or a video's class is not in classInd.txt.
    """
    numbered = [line.split(maxsplit=1) for line in lines_of(folder / "classInd.txt")]
    classes = [name for _, name in sorted(numbered, key=lambda pair: int(pair[0]))]
    splits = {}
    for number in (1, 2, 3):
        for name, split in (("trainlist", "train"), ("testlist", "val")):
            file = folder / f"{name}{number:02d}.txt"
            if file.exists():
                splits[f"{split}{number}"] = [_ucf_entry(line, classes, file) for line in lines_of(file)]
    return nonempty(Annotations(classes, splits), folder, "trainlist01.txt")


def _ucf_entry(line: str, classes: list[str], file: Path) -> Entry:
    """Parses a line `Class/v_Class_g08_c01.avi 1`, or without the number."""
    path = line.rsplit(maxsplit=1)[0] if line.rsplit(maxsplit=1)[-1].isdigit() else line
    folder, _, name = path.rpartition("/")
    if folder not in classes:
        raise ValueError(f"{file} names {path!r}, and classInd.txt has no class {folder!r}")
    return Entry(Path(name).stem, classes.index(folder), folder)
