"""Measures what local aggregation would aggregate: `python -m reproduce.footage_close WEIGHTS ...`.

For rows of a memory bank whose class is known: the share of the nearest rows that are of the row's class, and the same of close
sets, which are those of the nearest rows that share the row's cluster. Local aggregation pulls a row towards its close set, so
that is the share of the pull that goes to where it should. Labels are used to measure, and nothing is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vie_models.bank.clustering import kmeans
from vie_models.models.weight_folder import read_bank
from vie_models.train import RECIPES

NEAREST = (1, 10, 100)
CLUSTERS = (100, 300, 1000)
BACKGROUND: int = RECIPES["vie_single_tiny"]["background"]


def shares(bank: Tensor, labels: Tensor) -> dict[str, float]:
    """Shares of the row's class, by what is counted, for a bank [N, D] with labels [N], where -1 is unknown."""
    rows, asked = F.normalize(bank.float(), dim=1), torch.nonzero(labels >= 0)[:, 0]
    dots = rows[asked] @ rows.T
    dots[torch.arange(len(asked)), asked] = -2  # not itself
    nearest = dots.topk(BACKGROUND, dim=1).indices
    same = labels[nearest] == labels[asked][:, None]
    others = torch.bincount(labels[asked])[labels[asked]] - 1
    found = {"chance": float(others.float().mean()) / (len(rows) - 1)}
    found |= {f"nearest {k}": float(same[:, :k].float().mean()) for k in NEAREST}
    for number in CLUSTERS:
        clusters = kmeans(rows, number, num_rows=len(rows), iterations=20, seed=1234).labels
        close = clusters[nearest] == clusters[asked][:, None]
        found[f"close, {number} clusters"] = float((same & close).sum() / close.sum())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", type=Path, help="weight folders with a memory bank")
    for number, folder in enumerate(parser.parse_args().weights):
        bank = read_bank(folder)
        if bank is None:
            raise SystemExit(f"{folder} has no memory bank: export it from a run, or give a set that has one")
        found = shares(bank["memory_bank"], bank["labels"])
        if not number:
            print(f"| share of the class, % | rows | {' | '.join(found)} |\n|---|---|" + "---|" * len(found))
        print(f"| {folder.name} | {len(bank['labels'])} | {' | '.join(f'{100 * value:.1f}' for value in found.values())} |")


if __name__ == "__main__":
    main()
