"""The memory bank, write by write, on one rank and on several."""

import numpy as np
import pytest
import torch
from support.arrays import units
from support.ranks import on_ranks

from vie_models.bank.clustering import kmeans
from vie_models.bank.memory_bank import MemoryBank
from vie_models.bank.ranks import World


def test_a_new_bank_is_uniform():
    bank = MemoryBank(5000, 128, seed=3)
    bound = (3 / 128) ** 0.5
    assert bank.rows.abs().max() <= bound
    assert bank.rows.std() == pytest.approx(bound / 3**0.5, rel=1e-2)
    assert bank.rows.norm(dim=1).mean() == pytest.approx(1, rel=1e-2)
    assert torch.equal(bank.rows, MemoryBank(5000, 128, seed=3).rows)
    assert not torch.equal(bank.rows, MemoryBank(5000, 128, seed=4).rows)


def test_bank_write_by_write():
    """Every write against a loop: row = normalize(0.5 * old + 0.5 * v); of the same index twice the last one counts."""
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
    monkeypatch.setattr("vie_models.bank.memory_bank.CHUNK", 64)  # several pieces
    bank = MemoryBank(30, 8)
    v = units(6, 8).requires_grad_()
    indices = torch.randint(30, (6, 7))
    weights = torch.randn(6, 7)
    dots = bank.dots(v, indices)
    (dots * weights).sum().backward()
    torch.testing.assert_close(dots.detach(), (bank.rows[indices] * v.detach()[:, None]).sum(-1))
    torch.testing.assert_close(v.grad, (bank.rows[indices] * weights[:, :, None]).sum(1))


def test_dots_with_every_row_and_their_gradient():
    bank, v, weights = MemoryBank(30, 8), units(6, 8).requires_grad_(), torch.randn(6, 30)
    dots = bank.all_dots(v)
    (dots * weights).sum().backward()
    torch.testing.assert_close(dots.detach(), v.detach() @ bank.rows.T)
    torch.testing.assert_close(v.grad, weights @ bank.rows)


def test_nearest_is_exact_and_breaks_ties_by_index(monkeypatch):
    monkeypatch.setattr("vie_models.bank.memory_bank.BLOCK", 16)
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
    v = ranks.local(units(8, 16, seed=2)).requires_grad_()
    picked = torch.randint(rows, (8, 5), generator=torch.Generator().manual_seed(3))
    weights = torch.randn(8, 5, generator=torch.Generator().manual_seed(4))
    dots = bank.dots(v, ranks.local(picked))
    (dots * ranks.local(weights)).sum().backward()
    nearest, indices = bank.nearest(v.detach(), min(rows, 6))
    gathered = bank.gather(ranks.local(picked[:, 0]))
    results = [dots.detach(), nearest, indices, gathered]
    bank.update(ranks.local(torch.tensor([0, 1, rows - 1, 2, 1, -1, 3, 0])), v.detach())
    clusters = kmeans(bank.rows, 3, num_rows=rows, iterations=4, world=ranks)
    return {
        "each": [ranks.gather(x).numpy() for x in results],
        "gradient": ranks.gather(v.grad).numpy(),
        "bank": bank.all_rows().numpy(),
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
        with pytest.raises(ValueError, match=rf"from one of 11 rows with parts \[0\] of {before}: it must have"):
            bank.load_state_dict(banks[0].state_dict())
