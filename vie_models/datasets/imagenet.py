"""ImageNet: ILSVRC 2012, as Kaggle distributes it."""

from __future__ import annotations

import csv
from pathlib import Path

from .annotations import Annotations, Entry, lines_of


def imagenet(annotations: Path, images: Path) -> Annotations:
    """Reads LOC_synset_mapping.txt and LOC_val_solution.csv, and finds train/<synset>/*.JPEG in the folder of images.

    Raises:
        FileNotFoundError: an annotation file is missing.
    """
    mapping = [line.split(maxsplit=1) for line in lines_of(annotations / "LOC_synset_mapping.txt")]
    index = {synset: label for label, (synset, _) in enumerate(mapping)}
    train = [
        Entry(str(file.relative_to(images)), label)
        for synset, label in index.items()
        for file in sorted(images.glob(f"**/train/{synset}/*"))
    ]
    with (annotations / "LOC_val_solution.csv").open(newline="") as content:
        rows = list(csv.DictReader(content))
    val = [Entry(row["ImageId"], index[row["PredictionString"].split()[0]]) for row in rows]
    return Annotations([name for _, name in mapping], {"train": train, "val": val})
