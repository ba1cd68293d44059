"""Clusters of an index's rows: spherical k-means, and the clips in the middle of each cluster.

N rows, D dimensions, K clusters.
"""

from __future__ import annotations

import colorsys
import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from ..bank import kmeans
from ..files import replacing
from .index import Hit, Index
from .likeness import percentile_in_words
from .pictures import GAP, TEXT, contact_rows, contact_sheet, letters, save

_BLOCK = 1 << 16
_MOST_POINTS = 20_000  # of a map


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
    likeness: np.ndarray
    """Mean cosine similarity of pairs of different videos in each, in which every video weighs the same; NaN with one video,
    float64 [K]."""
    medoids: list[list[Hit]]
    """For each cluster the clips nearest to its center, one of a video as far as possible; similarity is to the center."""


def cluster(index: Index, k: int = 20, *, medoids: int = 10, iterations: int = 50, seed: int = 0) -> Clusters:
    """Clusters the rows of an index by cosine similarity.

    Holds all rows in memory. k-means runs on unit rows, as in the memory bank, and on as many of each video: a long video has
    no more say about the centers than a short one. Each row then goes to the nearest unit mean.

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
    even = rows[torch.from_numpy(_evenly(np.bincount(index.video), k))]
    centers = F.normalize(kmeans(even, k, iterations=iterations, seed=seed).centroids, dim=1)
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
        np.array([_likeness(index, rows_of) for rows_of in members]),
        [_middle(index, rows_of, similarity.numpy(), medoids) for rows_of in members],
    )


def _evenly(counts: np.ndarray, k: int) -> np.ndarray:
    """Returns as many rows of each video, spread over it: the median number, or what k clusters need. Short videos repeat."""
    firsts = np.cumsum(counts) - counts
    firsts, counts = firsts[counts > 0], counts[counts > 0]
    each = max(int(np.median(counts)), -(-k // len(counts)))
    steps = (np.arange(each) + 0.5) / each
    return (firsts[:, None] + (steps * counts[:, None]).astype(np.int64)).ravel()


def _likeness(index: Index, rows: np.ndarray) -> float:
    """Returns the mean cosine similarity of rows of different videos, in which every video weighs the same."""
    means = np.array([index.rows[rows[index.video[rows] == v]].mean(0, dtype=np.float64) for v in np.unique(index.video[rows])])
    if len(means) < 2:
        return float("nan")
    pairs = len(means) * (len(means) - 1)
    return float((np.square(means.sum(0)).sum() - np.square(means).sum()) / pairs)


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
    """Writes clusters.csv, with the cluster of every clip, and pictures. Returns the CSV file.

    The pictures are a sheet for every cluster; clusters.png, with a row for each; and map.png, with a point for every clip.
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
    for name in ("clusters.png", "map.png"):
        (out / name).unlink(missing_ok=True)
    if pictures:
        for number, hits in enumerate(found.medoids):
            if hits:
                contact_sheet(
                    hits, out / f"cluster-{number:03d}.png", title=f"{_about(index, found, number)}; nearest to its center"
                )
        rows = [(_about(index, found, number), hits) for number, hits in enumerate(found.medoids) if hits]
        contact_rows(rows, out / "clusters.png")
        save(draw_map(index.rows, found.labels), out / "map.png")
    return path


def _about(index: Index, found: Clusters, number: int) -> str:
    size, videos, likeness = int(found.sizes[number]), int(found.videos[number]), float(found.likeness[number])
    words = f"cluster {number}: {size} clips of {videos} video{'s' * (videos > 1)}"
    return (
        words
        if videos < 2
        else f"{words}, more alike than {percentile_in_words(float(index.percentiles(likeness)))} % of random pairs"
    )


def draw_map(rows: np.ndarray, labels: np.ndarray, side: int = 900) -> Image.Image:
    """Draws every row as a point in the color of its cluster, in the plane of the two main components of the rows.

    Args:
        rows: [N, D].
        labels: cluster of each, int [N].
        side: width and height of the plane, in pixels.
    """
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_POINTS)).astype(int)
    points = np.asarray(rows[chosen], np.float64)
    points -= points.mean(0)
    values, axes = np.linalg.eigh(points.T @ points)  # rising
    flat = points @ axes[:, : -min(3, len(values) + 1) : -1]
    flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    share = values[::-1][:2].clip(0) / max(values.clip(0).sum(), 1e-30)
    k = int(labels.max(initial=0)) + 1
    palette = [tuple(int(255 * v) for v in colorsys.hsv_to_rgb(c * 0.618 % 1, 0.75, 0.6 + 0.3 * (c % 2))) for c in range(k)]
    top = 2 * GAP + TEXT
    canvas = Image.new("RGB", (side + 2 * GAP, side + top + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    words = f"{len(chosen)} clips, PCA: across {100 * share[0]:.0f} % of variance, up {100 * share[1]:.0f} %; numbers: clusters"
    draw.text((GAP, GAP), words, fill="black", font=letters())
    low = flat.min(0)
    scale = (side - 2 * GAP) / max(float(np.ptp(flat, axis=0).max()), 1e-30)
    places = np.stack([2 * GAP + (flat[:, 0] - low[0]) * scale, top + side - GAP - (flat[:, 1] - low[1]) * scale], 1)
    for (x, y), label in zip(places.tolist(), labels[chosen].tolist(), strict=True):
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=palette[label])
    for label in range(k):
        if len(own := places[labels[chosen] == label]):
            x, y = np.median(own, 0).tolist()
            wide = letters().getlength(str(label)) / 2 + 3
            draw.rectangle((x - wide, y - 9, x + wide, y + 9), fill="white", outline=palette[label], width=2)
            draw.text((x - wide + 3, y - 8), str(label), fill="black", font=letters())
    return canvas
