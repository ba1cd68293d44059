"""k-means over the rows of a sharded memory bank: seeded Lloyd iterations with the same result on any number of ranks.

Distances are computed in blocks of one shape. Centroids are computed from sums of integers (the rows in fixed point), which do
not depend on the order of summation.

n rows of this rank, N rows in all, K clusters, D dimensions.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from .memory_bank import power_of_two
from .ranks import World


@dataclasses.dataclass(frozen=True)
class KMeans:
    """The result of `kmeans`, the same on every rank."""

    labels: Tensor
    """int32 [N]: the cluster of each row."""
    centroids: Tensor
    """float32 [K, D]: the cluster means before the last assignment."""
    objective: float
    """Sum over all rows of the squared distance to the centroid of their cluster."""
    iterations: int
    """Number of iterations made. Fewer than requested if the labels stopped changing."""


def kmeans(
    rows: Tensor,
    num_clusters: int,
    *,
    num_rows: int | None = None,
    iterations: int = 20,
    seed: int = 1234,
    world: World | None = None,
) -> KMeans:
    """Clusters rows by squared Euclidean distance. Collective: all ranks call it.

    The first centroids are rows drawn at random without replacement. A cluster that loses all its rows gets the row that is
    farthest from its centroid, the next empty cluster gets the second farthest, and so on.

    Args:
        rows: this rank's rows, float32 [n, D]. Row i of all rows is row i // size of rank i mod size.
        num_clusters: K, at most N.
        num_rows: N. Default: n, for one rank.
        iterations: maximum number of assignments of all rows. New centroids follow each assignment but the last.
        seed: seed for the first centroids.
        world: the ranks that share the rows. Default: one process.

    Raises:
        ValueError: `num_clusters` or `iterations` is out of range, or a row is infinite or not a number.
    """
    world = world or World()
    num_rows = len(rows) if num_rows is None else num_rows
    if not 1 <= num_clusters <= num_rows:
        raise ValueError(f"num_clusters must be from 1 to the {num_rows} rows, got {num_clusters}")
    if iterations < 1:
        raise ValueError(f"iterations must be >= 1, got {iterations}")
    peak = float(world.max(rows.abs().max() if len(rows) else torch.zeros((), device=rows.device)))
    if not peak < float("inf"):
        raise ValueError("a row to cluster is infinite or not a number")
    fixed = _FixedPoint(rows, peak, num_rows)

    chosen = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed), device="cpu")[:num_clusters].to(
        rows.device
    )
    centroids = _rows_of(rows, chosen, world)
    labels = torch.full((len(rows),), -1, dtype=torch.int64, device=rows.device)
    done = 0
    while True:
        before = labels
        labels, distances = _assign(rows, centroids, num_rows)
        done += 1
        changed = int(world.sum((labels != before).sum()))
        if done == iterations or not changed:
            break
        counts = world.sum(torch.bincount(labels, minlength=num_clusters))
        if bool((counts == 0).any()):
            labels, counts = _refilled(labels, distances, counts, num_rows, world)
        sums = world.sum(fixed.sums(labels, num_clusters))
        centroids = (sums.double() / counts[:, None] / fixed.scale).float()
    objective = float(world.sum(distances.double().sum()))
    return KMeans(_of_all_ranks(labels, num_rows, world), centroids, objective, done)


class _FixedPoint:
    """Rows as integers, scaled so that the sum of all of them just fits in 64 bits: sums are exact in any order."""

    def __init__(self, rows: Tensor, peak: float, num_rows: int) -> None:
        exponent = torch.frexp(torch.tensor(max(peak, 1e-30) * num_rows, dtype=torch.float64, device="cpu"))[1]
        self.scale = 2.0 ** (62 - int(exponent))
        self._rows = rows

    def sums(self, labels: Tensor, num_clusters: int) -> Tensor:
        """Returns the sum of each cluster's rows, times `scale`, int64 [K, D]."""
        sums = torch.zeros(num_clusters, self._rows.shape[1], dtype=torch.int64, device=self._rows.device)
        for start in range(0, len(labels), 1 << 16):
            part = slice(start, start + (1 << 16))
            sums.index_add_(0, labels[part], (self._rows[part].double() * self.scale).round().long())
        return sums


def _assign(rows: Tensor, centroids: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Returns the nearest centroid of each row, int64 [n], and its squared distance, [n].

    The nearest centroid has the largest x . c - |c|^2 / 2. That is one product of (x, 1) and (c, -|c|^2 / 2), computed in
    blocks that stay in the cache.
    """
    block_rows, block_columns = (1 << 10, 1 << 10) if rows.device.type == "cpu" else (1 << 15, 1 << 13)
    block_rows = min(block_rows, power_of_two(num_rows))
    across = torch.cat([centroids.T, -centroids.square().sum(1)[None] / 2])
    blocks = [part.contiguous() for part in across.split(block_columns, dim=1)]
    labels = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    similarity = torch.empty(len(rows), device=rows.device)
    products = torch.empty(block_rows * block_columns, device=rows.device)
    for start in range(0, len(rows), block_rows):
        x = rows[start : start + block_rows]
        x = F.pad(F.pad(x, (0, 1), value=1), (0, 0, 0, block_rows - len(x)))
        best, which = x.new_full((block_rows,), -torch.inf), labels.new_zeros(block_rows)
        for k, block in enumerate(blocks):
            product = torch.mm(x, block, out=products[: block_rows * block.shape[1]].view(block_rows, -1))
            largest, here = product.max(dim=1)
            which = torch.where(largest > best, here + k * block_columns, which)
            best = torch.maximum(largest, best)
        left = min(block_rows, len(rows) - start)
        similarity[start : start + left], labels[start : start + left] = best[:left], which[:left]
    return labels, (rows.square().sum(1) - 2 * similarity).clamp(min=0)


def _refilled(labels: Tensor, distances: Tensor, counts: Tensor, num_rows: int, world: World) -> tuple[Tensor, Tensor]:
    """Gives each empty cluster one of the rows farthest from their centroids, from clusters with more than one row."""
    everyone, far = _of_all_ranks(labels, num_rows, world).long(), _of_all_ranks(distances, num_rows, world)
    counts = counts.clone()
    empties = (counts == 0).nonzero()[:, 0].tolist()
    for some in far.argsort(descending=True, stable=True).split(1 << 12):
        for row in some.tolist():
            if empties and counts[everyone[row]] > 1:
                counts[everyone[row]] -= 1
                everyone[row] = empties.pop(0)
                counts[everyone[row]] = 1
        if not empties:
            break
    return everyone[world.rank :: world.size], counts


def _rows_of(rows: Tensor, indices: Tensor, world: World) -> Tensor:
    """Returns the rows `indices` of all rows, [k, D], on every rank."""
    found = torch.zeros(len(indices), rows.shape[1], device=rows.device)
    ours = indices % world.size == world.rank
    found[ours] = rows[indices[ours] // world.size]
    return world.sum(found)


def _of_all_ranks(values: Tensor, num_rows: int, world: World) -> Tensor:
    """Returns the values of all rows, [N], from this rank's values [n]. Integers become int32."""
    values = values if values.is_floating_point() else values.int()
    if world.size == 1:
        return values
    longest = -(-num_rows // world.size)
    return world.gather(F.pad(values, (0, longest - len(values)))).view(world.size, longest).T.reshape(-1)[:num_rows]
