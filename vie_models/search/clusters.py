"""Clusters of an index's rows: spherical k-means, and the clips in the middle of each cluster.

N rows, D dimensions, K clusters.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..bank import kmeans
from ..files import replacing
from .index import Hit, Index
from .pictures import contact_sheet

_BLOCK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Clusters:
    """The result of `cluster`. Cluster 0 has the most rows."""

    labels: np.ndarray
    """Cluster of each row, int32 [N]."""
    centers: np.ndarray
    """Their unit means, float32 [K, D]."""
    sizes: np.ndarray
    """Number of rows of each, int64 [K]."""
    videos: np.ndarray
    """Number of videos that have a row in each, int64 [K]."""
    medoids: list[list[Hit]]
    """For each cluster the clips nearest to its center, one of a video as far as possible; similarity is to the center."""


def cluster(index: Index, k: int = 20, *, medoids: int = 10, iterations: int = 50, seed: int = 0) -> Clusters:
    """Clusters the rows of an index by cosine similarity.

    Holds all rows in memory. k-means runs on unit rows, as in the memory bank; each row then goes to the nearest unit mean.

    Args:
        index: the index.
        k: number of clusters.
        medoids: clips to describe each cluster by.
        iterations: largest number of iterations of k-means.
        seed: for the first centers.

    Raises:
        ValueError: k is not from 1 to the number of rows, or another number is < 1.
    """
    if not 1 <= k <= len(index):
        raise ValueError(f"k must be from 1 to the {len(index)} rows of the index, got {k}")
    if medoids < 1:
        raise ValueError(f"medoids must be >= 1, got {medoids}")
    rows = torch.from_numpy(index.rows)
    centers = F.normalize(kmeans(rows, k, iterations=iterations, seed=seed).centroids, dim=1)
    labels = torch.empty(len(rows), dtype=torch.int64, device="cpu")
    similarity = torch.empty(len(rows), device="cpu")
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        similarity[part], labels[part] = (rows[part] @ centers.T).max(1)
    counts = torch.bincount(labels, minlength=k)
    order = counts.argsort(descending=True, stable=True)
    renumbered = torch.empty_like(order)
    renumbered[order] = torch.arange(k, device="cpu")
    found = renumbered[labels].numpy().astype(np.int32)
    members = [np.flatnonzero(found == c) for c in range(k)]
    return Clusters(
        found,
        centers[order].numpy(),
        counts[order].numpy(),
        np.array([len(np.unique(index.video[rows_of])) for rows_of in members]),
        [_middle(index, rows_of, similarity.numpy(), medoids) for rows_of in members],
    )


def _middle(index: Index, rows: np.ndarray, similarity: np.ndarray, count: int) -> list[Hit]:
    """Returns the rows nearest to the center: first the nearest of each video, then others, apart in time if possible."""
    ordered = rows[np.argsort(-similarity[rows], kind="stable")]
    video, start, end = index.video[ordered], index.start[ordered], index.end[ordered]
    chosen = np.sort(np.unique(video, return_index=True)[1])[:count].tolist()
    for place in range(len(ordered)):
        if len(chosen) == count:
            break
        same = [other for other in chosen if video[other] == video[place]]
        if not any(start[place] < end[other] and end[place] > start[other] for other in same):
            chosen.append(place)
    chosen += [place for place in range(min(len(ordered), 2 * count)) if place not in chosen][: count - len(chosen)]
    return [index.hit(int(ordered[place]), float(similarity[ordered[place]])) for place in chosen]


def write_clusters(index: Index, found: Clusters, out: str | os.PathLike[str], *, pictures: bool = True) -> Path:
    """Writes clusters.csv, with the cluster of every clip, and a sheet of pictures for every cluster. Returns the CSV file.

    Sheets of other clusters, which were written to `out` before, are removed.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "clusters.csv"
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "path", "start", "end", "cluster"])
        for row, label in enumerate(found.labels.tolist()):
            video = index.videos[index.video[row]]
            writer.writerow([video.name, video.path, float(index.start[row]), float(index.end[row]), label])
    for old in out.glob("cluster-*.png"):
        if old.stem.removeprefix("cluster-").isdigit():
            old.unlink()
    if pictures:
        for number, hits in enumerate(found.medoids):
            if hits:
                size, videos = int(found.sizes[number]), int(found.videos[number])
                title = f"cluster {number}: {size} clips of {videos} video{'s' * (videos > 1)}; nearest to its center"
                contact_sheet(hits, out / f"cluster-{number:03d}.png", title=title)
    return path
