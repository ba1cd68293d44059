"""Kinetics-400, -600 and -700: DeepMind's CSV files, with columns `label,youtube_id,time_start,time_end,split`.

Clips are named <youtube_id>_<start>_<end>.mp4, with times in seconds and six digits each.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from .annotations import Annotations, Entry


def kinetics(files: Iterable[Path]) -> Annotations:
    """Reads the CSV files of Kinetics-400, -600 or -700. Classes are in alphabetical order. Rows without a label are ignored.

    Raises:
        ValueError: a file lacks a column of Kinetics.
    """
    rows: list[dict[str, str]] = []
    for file in files:
        with file.open(newline="", encoding="utf-8-sig") as content:
            found = list(csv.DictReader(content))
        needed = {"label", "youtube_id", "time_start", "time_end", "split"}
        if not found or not needed <= set(found[0]):
            raise ValueError(f"{file} is not a Kinetics file: it must have the columns {', '.join(sorted(needed))}")
        rows += [row for row in found if row["label"]]
    classes = sorted({row["label"] for row in rows})
    splits: dict[str, list[Entry]] = defaultdict(list)
    for row in rows:
        name = f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
        split = {"validate": "val", "validation": "val"}.get(row["split"], row["split"])
        splits[split].append(Entry(name, classes.index(row["label"])))
    return Annotations(classes, dict(splits))
