"""Splits videos so that no group is divided: videos cut from one recording, or of one person, are alike, and a network that
has learned from some of them recognizes the others without knowing their class."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

UCF = r"_g\d+_"
"""How UCF101 and its like name groups: v_Archery_g08_c01.avi."""
_DRAWS = 20  # random orders, of which the best split is kept


def groups_of(names: Sequence[str], pattern: str) -> list[str] | None:
    """Returns each name's group: what the groups of the regular expression match, or without any, the whole match.

    Returns:
        The groups, or None if a name does not match.

    Raises:
        ValueError: `pattern` is not a regular expression.
    """
    try:
        matches = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    if not all(matches):
        return None
    return [" ".join(part or "" for part in match.groups()) or match[0] for match in matches if match]


def hold_out(labels: Sequence[int], groups: Sequence[Hashable], share: float, seed: int) -> list[bool]:
    """Chooses whole groups to hold out: about `share` of each class, and of each class that has several groups at least one.

    Groups are taken in a random order, each if that brings the classes nearer to their shares, and then exchanged as long as it
    does. The best of several orders counts. A class with one group is not held out, unless its group also has other classes.

    Args:
        labels: class of each video, from 0.
        groups: group of each video.
        share: fraction of the videos to hold out, in [0, 1).
        seed: decides the orders.

    Returns:
        Which videos are held out.
    """
    if not share:
        return [False] * len(labels)
    totals = np.bincount(labels).astype(float)  # [K]
    members: dict[Hashable, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for group, label in zip(groups, labels, strict=True):
        members[group][label] += 1
    counts = [(np.array(list(of)), np.array(list(of.values()), float)) for of in members.values()]  # classes, videos of each

    def cost(classes: np.ndarray, held: np.ndarray) -> float:
        """How wrong it is to hold out so many videos of these classes: none is bad, and all is worst."""
        every = totals[classes]
        off = (held - share * every) ** 2 / every
        return float((off + every * (held == 0) + 1000 * every * (held == every)).sum())

    random, best, lowest = np.random.default_rng(seed), np.zeros(len(counts), bool), np.inf
    for _ in range(_DRAWS):
        out, held = np.zeros(len(counts), bool), np.zeros_like(totals)
        changed = True
        while changed:
            changed = False
            for i in random.permutation(len(counts)):
                classes, number = counts[i]
                now = held[classes]
                new = now - number if out[i] else now + number
                if cost(classes, new) < cost(classes, now) - 1e-9:
                    held[classes], out[i], changed = new, ~out[i], True
        found = cost(np.arange(len(totals))[totals > 0], held[totals > 0])
        if found < lowest:
            best, lowest = out, found
    chosen = {group for group, is_out in zip(members, best, strict=True) if is_out}
    return [group in chosen for group in groups]
