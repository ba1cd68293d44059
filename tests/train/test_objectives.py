"""The objectives of instance learning against loops written from their formulas."""

import numpy as np
import pytest
import torch
from support.arrays import units

from vie_models.bank.memory_bank import MemoryBank
from vie_models.train.objectives.instance import InstanceObjective, instance_recognition, local_aggregation, shares_cluster

TEMPERATURE = 0.07


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


def test_local_aggregation_without_close_neighbors_has_no_gradient():
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
