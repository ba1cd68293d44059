"""Your own dataset, with one folder per class."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from .annotations import Annotations, Entry, nonempty, videos_in
from .groups import UCF, groups_of, hold_out

_SHOWN = 5  # names in a note


def folder(videos: Path, val_share: float = 0.2, seed: int = 0, group_regex: str | None = None) -> Annotations:
    """Reads folders of classes: <class>/<video>, or train/<class>/<video> and val/<class>/<video> (or test/).

    Args:
        videos: folder of the videos.
        val_share: without a train/ folder, the fraction of each class to hold out for validation, in [0, 1).
        seed: seed for drawing the held-out videos.
        group_regex: regular expression that finds in each path, from `videos`, what names a group of videos that are alike; a
            group is never divided. Default: that of UCF101, `_g\\d+_`, if it is in every file name, or else no groups.

    Raises:
        ValueError: `val_share` is out of range, there are no videos, or a path does not match `group_regex`.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share must be in [0, 1), got {val_share}")
    heads = {split: videos / name for name, split in (("train", "train"), ("test", "val"), ("val", "val"))}
    given = {split: head for split, head in heads.items() if head.is_dir()} if (videos / "train").is_dir() else {}
    classes = sorted({path.name for head in (given or {"": videos}).values() for path in head.iterdir() if path.is_dir()})
    found = [
        (split, Entry(str(path.relative_to(videos)), label))
        for label, name in enumerate(classes)
        for split, head in (given or {"": videos}).items()
        if (head / name).is_dir()  # a class may be missing from val/
        for path in sorted(videos_in(head / name))
    ]
    entries, labels = [entry for _, entry in found], [entry.label for _, entry in found]
    groups, notes = _groups(entries, group_regex, videos)
    if given:
        is_out = [split == "val" for split, _ in found]
        notes += _divided(groups, is_out)
    elif groups:
        is_out = hold_out(labels, groups, val_share, seed)
        notes += _held_out(classes, labels, groups, is_out, val_share)
    else:
        is_out = _drawn(labels, val_share, seed)
    splits = {"train": [entry for entry, out in zip(entries, is_out, strict=True) if not out]}
    splits["val"] = [entry for entry, out in zip(entries, is_out, strict=True) if out]
    annotations = Annotations(classes, {split: part for split, part in splits.items() if part}, notes)
    return nonempty(annotations, videos, "videos")


def _drawn(labels: Sequence[int], share: float, seed: int) -> list[bool]:
    """Holds out a share of each class at random. `labels` are sorted."""
    is_out: list[bool] = []
    for _, members in itertools.groupby(labels):
        number = len(list(members))
        order = torch.randperm(number, generator=torch.Generator().manual_seed(seed), device="cpu").tolist()
        held_out = set(order[: round(share * number)])
        is_out += [i in held_out for i in range(number)]
    return is_out


def _groups(entries: Sequence[Entry], pattern: str | None, videos: Path) -> tuple[list[str] | None, list[str]]:
    """Returns the group of each video, or None without groups; and what is to be said about them."""
    names = [entry.name for entry in entries]
    if pattern is None:
        groups = groups_of([Path(name).name for name in names], UCF)
        said = f"names have {UCF} as UCF101's, so these are taken as groups: --group-regex finds others"
    else:
        groups, said = groups_of(names, pattern), f"groups are found by {pattern}"
        if groups is None:
            odd = next(name for name in names if groups_of([name], pattern) is None)
            raise ValueError(
                f"{pattern!r} is not in {odd!r}, the path of a video in {videos}: give a regular expression that finds a group "
                "in every path; with `|.+` at its end, each other video is a group of its own"
            )
    return groups, [f"{len(set(groups))} groups of recordings: {said}"] if groups else []


def _divided(groups: Sequence[str] | None, is_out: Sequence[bool]) -> list[str]:
    """Says which groups are on both sides of a split that was given."""
    pairs = set(zip(groups or (), is_out, strict=False))
    divided = sorted(group for group, out in pairs if out and (group, False) in pairs)
    if not divided:
        return []
    return [f"{len(divided)} groups are in train/ and in val/, too, such as {divided[0]}: accuracy says little of new videos"]


def _held_out(
    classes: Sequence[str], labels: Sequence[int], groups: Sequence[str], is_out: Sequence[bool], share: float
) -> list[str]:
    """Says how many videos are held out, and which classes have none and why."""
    of_class = defaultdict(set)
    for label, group in zip(labels, groups, strict=True):
        of_class[label].add(group)
    notes = [f"{sum(is_out) / len(is_out):.0%} of the videos are held out, in whole groups; {share:.0%} were asked for"]
    without = sorted(of_class.keys() - {label for label, out in zip(labels, is_out, strict=True) if out}) if share else []
    for several, why in ((False, "its videos are all of one group"), (True, "other classes need its groups")):
        names = [classes[label] for label in without if (len(of_class[label]) > 1) is several]
        if names:
            more = f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
            notes.append(f"no video is held out of {', '.join(names[:_SHOWN])}{more}, because {why}")
    return notes
