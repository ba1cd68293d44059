"""Objectives, memory bank, k-means and kNN against loops written from their formulas, on one rank and on several."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import REFERENCE
from ranks import on_ranks

from vie_models.train.distributed import World
from vie_models.train.kmeans import kmeans
from vie_models.train.knn import knn, votes
from vie_models.train.memory_bank import MemoryBank
from vie_models.train.objectives import InstanceObjective, instance_recognition, local_aggregation, shares_cluster

TEMPERATURE = 0.07


def units(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


# --- objectives ----------------------------------------------------------------------------------------------------------


def naive_ir(bank, v, index, noise):
    """REFERENCE: -mean_batch[log(P_i / (P_i + q + eps)) + sum_noise log(q / (P_noise + q + eps))]."""
    n, m = len(bank), noise.shape[1]
    z, q = n * 2876934.2 / 1281167, m / n
    losses = []
    for b in range(len(v)):
        p = np.exp(bank[index[b]] @ v[b] / TEMPERATURE) / z
        total = np.log(p / (p + q + 1e-7))
        for j in noise[b]:
            total += np.log(q / (np.exp(bank[j] @ v[b] / TEMPERATURE) / z + q + 1e-7))
        losses.append(-total)
    return np.array(losses)


def naive_la(bank, v, index, clusters, k):
    """REFERENCE: -mean log(sum_close P / sum_background P + 1e-7)."""
    losses = []
    for b in range(len(v)):
        dots = bank @ v[b]
        background = np.argsort(-dots, kind="stable")[:k]
        p = np.exp(dots[background] / TEMPERATURE)
        close = [any(c[j] == c[index[b]] for c in clusters) for j in background]
        losses.append(-np.log(p[close].sum() / p.sum() + 1e-7))
    return np.array(losses)


def test_instance_recognition_is_its_formula():
    bank, v = units(50, 8), units(6, 8, seed=1)
    index, noise = torch.arange(6), torch.randint(50, (6, 20))
    dots = (bank[noise] @ v[:, :, None])[:, :, 0]
    ours = instance_recognition((bank[index] * v).sum(1), dots, 50)
    np.testing.assert_allclose(ours, naive_ir(bank.double().numpy(), v.double().numpy(), index, noise.numpy()), rtol=1e-5)


def test_instance_recognition_keeps_its_precision():
    """With 10 million rows P is about 1e-7: in float32, log space still has all its digits."""
    positive, noise = torch.tensor([0.2, 0.9]), torch.tensor([[0.1, -0.9], [0.0, 0.3]])
    exact = instance_recognition(positive.double(), noise.double(), 10_000_000)
    torch.testing.assert_close(instance_recognition(positive, noise, 10_000_000).double(), exact, rtol=1e-6, atol=0)


def test_without_noise_instance_recognition_is_the_softmax_over_the_bank():
    bank = MemoryBank(30, 8)
    bank.rows = units(30, 8)
    v, index = units(4, 8, seed=1), torch.tensor([3, 29, 0, -1])
    objective = InstanceObjective(bank, ir_steps=1, noise=0, background=10, num_clusters=4, recluster_every=3)
    objective.begin_step(0, 4)
    losses = objective.losses(0, v, index, slice(0, 4))
    p = np.exp(v.numpy() @ bank.rows.numpy().T / TEMPERATURE)
    naive = [-np.log(p[b, max(i, 0)] / p[b].sum()) for b, i in enumerate(index.tolist())]
    np.testing.assert_allclose(losses, naive, rtol=1e-5)


@pytest.mark.parametrize("clusterings", [1, 3])
def test_local_aggregation_is_its_formula(clusterings):
    bank, v = units(60, 8), units(5, 8, seed=1)
    index = torch.tensor([3, 1, 59, 0, 7])
    clusters = torch.randint(6, (clusterings, 60), generator=torch.Generator().manual_seed(2))
    memory = MemoryBank(60, 8)
    memory.rows = bank
    dots, nearest = memory.nearest(v, 20)
    ours = local_aggregation(dots, shares_cluster(clusters, index, nearest))
    np.testing.assert_allclose(
        ours, naive_la(bank.double().numpy(), v.double().numpy(), index, clusters.numpy(), 20), rtol=2e-5, atol=1e-6
    )


def test_local_aggregation_without_close_neighbours_has_no_gradient():
    dots = torch.randn(2, 5, requires_grad=True)
    loss = local_aggregation(dots, torch.zeros(2, 5, dtype=torch.bool))
    np.testing.assert_allclose(loss.detach(), -np.log(1e-7), rtol=1e-6)
    loss.sum().backward()
    assert not dots.grad.any()


def test_objective_changes_from_ir_to_la_and_clusters_anew_each_epoch():
    bank = MemoryBank(40, 8)
    bank.rows = units(40, 8)
    objective = InstanceObjective(bank, ir_steps=2, noise=5, background=10, num_clusters=4, clusterings=2, recluster_every=3)
    made = []
    for step in range(9):
        before = objective.clusters
        objective.begin_step(step, 4)
        made.append(objective.clusters is not before)
        losses = objective.losses(step, units(4, 8, seed=step), torch.arange(4), slice(0, 4))
        assert losses.shape == (4,)
        assert losses.isfinite().all()
    assert made == [step >= 2 and (step - 2) % 3 == 0 for step in range(9)]
    assert objective.clusters.shape == (2, 40)
    assert not torch.equal(objective.clusters[0], objective.clusters[1])


# --- memory bank ---------------------------------------------------------------------------------------------------------


def test_a_new_bank_is_uniform():
    bank = MemoryBank(5000, 128, seed=3)
    bound = (3 / 128) ** 0.5
    assert bank.rows.abs().max() <= bound
    assert bank.rows.std() == pytest.approx(bound / 3**0.5, rel=1e-2)
    assert bank.rows.norm(dim=1).mean() == pytest.approx(1, rel=1e-2)
    assert torch.equal(bank.rows, MemoryBank(5000, 128, seed=3).rows)
    assert not torch.equal(bank.rows, MemoryBank(5000, 128, seed=4).rows)


def test_bank_write_by_write():
    """Every write against a loop: row = normalise(0.5 * old + 0.5 * v); of the same index twice the last one counts."""
    bank = MemoryBank(10, 4, seed=0)
    expected = bank.rows.double().numpy().copy()
    for turn in range(5):
        indices, v = torch.tensor([3, 7, 3, -1, 9]), units(5, 4, seed=turn)
        old = expected.copy()
        for i, x in zip(indices.tolist(), v.double().numpy(), strict=True):
            if i >= 0:
                row = 0.5 * old[i] + 0.5 * x
                expected[i] = row / np.linalg.norm(row)
        bank.update(indices, v)
        np.testing.assert_allclose(bank.rows, expected, atol=1e-6)


def test_dots_and_their_gradient(monkeypatch):
    monkeypatch.setattr("vie_models.train.memory_bank.CHUNK", 64)  # several pieces
    bank = MemoryBank(30, 8)
    v = units(6, 8).requires_grad_()
    indices = torch.randint(30, (6, 7))
    weights = torch.randn(6, 7)
    dots = bank.dots(v, indices)
    (dots * weights).sum().backward()
    torch.testing.assert_close(dots.detach(), (bank.rows[indices] * v.detach()[:, None]).sum(-1))
    torch.testing.assert_close(v.grad, (bank.rows[indices] * weights[:, :, None]).sum(1))


def test_nearest_is_exact_and_breaks_ties_by_index(monkeypatch):
    monkeypatch.setattr("vie_models.train.memory_bank.BLOCK", 16)
    bank = MemoryBank(70, 8)
    bank.rows = units(70, 8)
    bank.rows[40:60] = bank.rows[5]  # the same products
    v = torch.cat([units(4, 8, seed=1), bank.rows[5:6], -bank.rows[5:6]])
    dots, indices = bank.nearest(v, 15)
    for b in range(len(v)):
        every = bank.rows @ v[b]
        assert indices[b].tolist() == np.lexsort((np.arange(70), -every.numpy()))[:15].tolist()
        torch.testing.assert_close(dots[b], every[indices[b]])
    with pytest.raises(ValueError, match="k must be from 1 to the bank's 70 rows, got 71"):
        bank.nearest(v, 71)


def bank_operations(ranks: World, rows: int) -> dict:
    """Everything a bank does, with a global batch of 8."""
    bank = MemoryBank(rows, 16, seed=1, world=ranks)
    v = ranks.own(units(8, 16, seed=2)).requires_grad_()
    picked = torch.randint(rows, (8, 5), generator=torch.Generator().manual_seed(3))
    weights = torch.randn(8, 5, generator=torch.Generator().manual_seed(4))
    dots = bank.dots(v, ranks.own(picked))
    (dots * ranks.own(weights)).sum().backward()
    nearest, indices = bank.nearest(v.detach(), min(rows, 6))
    gathered = bank.gather(ranks.own(picked[:, 0]))
    results = [dots.detach(), nearest, indices, gathered]
    bank.update(ranks.own(torch.tensor([0, 1, rows - 1, 2, 1, -1, 3, 0])), v.detach())
    clusters = kmeans(bank.rows, 3, num_rows=rows, iterations=4, world=ranks)
    return {
        "each": [ranks.gather(x).numpy() for x in results],
        "gradient": ranks.gather(v.grad).numpy(),
        "bank": bank.whole().numpy(),
        "labels": clusters.labels.numpy(),
        "centroids": clusters.centroids.numpy(),
    }


@pytest.mark.parametrize("rows", [5, 101])
def test_results_do_not_depend_on_the_number_of_ranks(rows):
    alone = bank_operations(World(), rows)
    for size in (2, 4):
        for several in on_ranks(size, bank_operations, rows):
            for a, b in zip(alone["each"], several["each"], strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(alone["gradient"], several["gradient"], atol=1e-6)  # a sum over ranks
            for name in ("bank", "labels", "centroids"):
                np.testing.assert_array_equal(alone[name], several[name])


@pytest.mark.parametrize(("before", "after"), [(1, 3), (4, 1), (2, 3)])
def test_a_bank_is_loaded_by_another_number_of_ranks(before, after):
    banks = [MemoryBank(11, 4, seed=5, world=World(rank, before)) for rank in range(before)]
    whole = MemoryBank(11, 4, seed=5).rows
    for rank in range(after):
        bank = MemoryBank(11, 4, seed=6, world=World(rank, after))
        bank.load_state_dict(*[b.state_dict() for b in banks])
        assert torch.equal(bank.rows, whole[rank::after])
    if before > 1:
        with pytest.raises(ValueError, match=rf"of one of 11 rows, of which parts \[0\] of {before} are there"):
            bank.load_state_dict(banks[0].state_dict())


# --- k-means -------------------------------------------------------------------------------------------------------------


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
    centres = units(5, 16) * 3
    x = centres.repeat_interleave(20, 0) + 0.01 * torch.randn(100, 16)
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
    with pytest.raises(ValueError, match="from 1 to 300 clusters of 300 rows, got 301"):
        kmeans(x, 301)
    with pytest.raises(ValueError, match="not all finite"):
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


# --- kNN -----------------------------------------------------------------------------------------------------------------


def reference_knn(ranks: World) -> tuple[np.ndarray, np.ndarray]:
    reference = np.load(REFERENCE / "knn.npz")
    bank = MemoryBank(len(reference["bank"]), world=ranks)
    bank.load_state_dict(
        {"rows": torch.from_numpy(reference["bank"]), "rank": 0, "size": 1, "num_rows": len(reference["bank"])}
    )
    queries = torch.from_numpy(reference["query"]).view(-1, int(reference["clips_per_video"]), 128)
    mine = queries[ranks.rank :: ranks.size]  # not as many on every rank
    result = knn(mine, bank, torch.from_numpy(reference["labels"]), k=int(reference["k"]), num_classes=10)
    return result.predictions.numpy(), result.scores.numpy()


@pytest.mark.parametrize("size", [1, 3])
def test_knn_equals_the_reference(size):
    reference = np.load(REFERENCE / "knn.npz")
    for rank, (predictions, scores) in enumerate([reference_knn(World())] if size == 1 else on_ranks(size, reference_knn)):
        assert predictions.tolist() == reference["predictions"][rank::size].tolist()
        np.testing.assert_allclose(scores, reference["class_scores"][rank::size], rtol=1e-4)


def test_knn_votes_one_by_one():
    bank = MemoryBank(20, 8)
    bank.rows = units(20, 8)
    labels = torch.randint(3, (20,), generator=torch.Generator().manual_seed(0))
    labels[4] = -1  # a video without a label has no vote
    queries = units(6, 2, 8, seed=1)
    scores = np.zeros((6, 3))
    for video in range(6):
        for clip in range(2):
            dots = (bank.rows @ queries[video, clip]).numpy()
            for row in np.argsort(-dots)[:7]:
                if labels[row] >= 0:
                    scores[video, labels[row]] += np.exp(dots[row] / TEMPERATURE) / 7 / 2
    result = knn(queries, bank, labels, k=7)
    np.testing.assert_allclose(result.scores, scores, rtol=1e-4)
    assert result.predictions.tolist() == scores.argmax(1).tolist()
    with pytest.raises(ValueError, match=r"must be \[videos, clips, 8\], got \[6, 8\]"):
        knn(queries[:, 0], bank, labels)
    with pytest.raises(ValueError, match="a label for each of the bank's 20 rows, got"):
        knn(queries, bank, labels[1:])


def test_published_trajectory_is_carried():
    from vie_models.train.plot import PUBLISHED

    curves = json.loads(PUBLISHED.read_text())["curves"]
    assert len(curves["knn_top1_kinetics_ir"]) == 10  # every 5000 steps of 50,000
    assert max(curves["knn_top1_kinetics_la"]) == pytest.approx(0.323, abs=1e-3)


def test_votes_of_low_temperatures():
    """exp(0.95 / 0.01) is more than float32 holds: the nearest still counts most."""
    scores = votes(torch.tensor([0.95, 0.93, 0.92]), torch.tensor([1, 0, 0]), 2, temperature=0.01)
    assert torch.isfinite(scores).all()
    assert scores.argmax() == 1
    with pytest.raises(ValueError, match=r"temperature of the votes must be >= 0\.002, got 0\.001"):
        knn(torch.zeros(1, 1, 128), MemoryBank(3), torch.tensor([0, 1, 1]), temperature=0.001)
