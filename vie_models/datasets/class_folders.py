"""Your own dataset, with one folder per class."""

from __future__ import annotations

from pathlib import Path

import torch

from .annotations import Annotations, Entry, nonempty, videos_in


def folder(videos: Path, val_share: float = 0.2, seed: int = 0) -> Annotations:
    """Reads folders of classes: <class>/<video>, or train/<class>/<video> and val/<class>/<video> (or test/).

    Args:
        videos: folder of the videos.
        val_share: without a train/ folder, the fraction of each class to hold out for validation, in [0, 1).
        seed: seed for drawing the held-out videos.

    Raises:
        ValueError: `val_share` is out of range, or there are no videos.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share must be in [0, 1), got {val_share}")
    heads = {split: videos / name for name, split in (("train", "train"), ("test", "val"), ("val", "val"))}
    given = {split: head for split, head in heads.items() if head.is_dir()} if (videos / "train").is_dir() else {}
    classes = sorted({path.name for head in (given or {"": videos}).values() for path in head.iterdir() if path.is_dir()})
    splits: dict[str, list[Entry]] = {"train": [], "val": []}
    for label, name in enumerate(classes):
        for split, head in (given or {"": videos}).items():
            found = [Entry(str(path.relative_to(videos)), label) for path in sorted(videos_in(head / name))]
            if given:
                splits[split] += found
                continue
            order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed), device="cpu").tolist()
            held_out = set(order[: round(val_share * len(found))])
            splits["train"] += [entry for i, entry in enumerate(found) if i not in held_out]
            splits["val"] += [entry for i, entry in enumerate(found) if i in held_out]
    return nonempty(Annotations(classes, {split: entries for split, entries in splits.items() if entries}), videos, "videos")
