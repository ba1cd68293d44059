"""k-means against Lloyd's iterations in NumPy, and against faiss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.arrays import units

from vie_models.bank.clustering import kmeans


def naive_kmeans(x, first, iterations):
    centroids = x[first].copy()
    for turn in range(iterations):
        distances = ((x[:, None] - centroids) ** 2).sum(-1)
        labels = distances.argmin(1)
        if turn < iterations - 1:
            centroids = np.stack([x[labels == c].mean(0) for c in range(len(first))])
    return labels, centroids, distances.min(1).sum()


def test_kmeans_is_lloyds():
    x = units(300, 8)
    first = torch.randperm(300, generator=torch.Generator().manual_seed(7))[:10]
    labels, centroids, objective = naive_kmeans(x.double().numpy(), first.numpy(), 5)
    ours = kmeans(x, 10, iterations=5, seed=7)
    assert ours.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(ours.centroids, centroids, atol=1e-6)
    assert ours.objective == pytest.approx(objective, rel=1e-5)
    assert ours.iterations == 5


def test_kmeans_ends_where_nothing_changes_and_finds_what_is_there():
    centers = units(5, 16) * 3
    x = centers.repeat_interleave(20, 0) + 0.01 * torch.randn(100, 16)
    best = min((kmeans(x, 5, iterations=50, seed=seed) for seed in range(100)), key=lambda result: result.objective)
    assert best.iterations < 50
    assert len(set(best.labels.tolist())) == 5
    assert all(len(set(best.labels[20 * k : 20 * k + 20].tolist())) == 1 for k in range(5))


def test_empty_clusters_are_filled():
    """Ten different rows, each many times: of the first centroids many are the same, and lose all their rows."""
    x = units(10, 8).repeat(30, 1)
    result = kmeans(x, 10, iterations=15)
    assert sorted(set(result.labels.tolist())) == list(range(10))
    assert result.objective == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="num_clusters must be from 1 to the 300 rows, got 301"):
        kmeans(x, 301)
    with pytest.raises(ValueError, match="is infinite or not a number"):
        kmeans(torch.full((3, 2), torch.nan), 2)


def test_kmeans_is_as_good_as_faiss():
    faiss = pytest.importorskip("faiss")
    x = F.normalize(units(50, 32).repeat(40, 1) + 0.1 * torch.randn(2000, 32), dim=1)
    theirs = faiss.Clustering(32, 60)
    theirs.niter, theirs.seed, theirs.max_points_per_centroid = 20, 1234, 10**6
    index = faiss.IndexFlatL2(32)
    theirs.train(x.numpy(), index)
    ours = np.mean([kmeans(x, 60, seed=seed).objective for seed in range(5)])
    assert ours <= 1.05 * index.search(x.numpy(), 1)[0].sum()
