"""The votes of the nearest rows, against the reference and one by one."""

import numpy as np
import pytest
import torch
from support import REFERENCE
from support.arrays import units
from support.ranks import on_ranks

from vie_models.bank.memory_bank import MemoryBank
from vie_models.bank.ranks import World
from vie_models.bank.voting import knn, votes

TEMPERATURE = 0.07


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
    with pytest.raises(ValueError, match=r"labels must be \[20\], one for each row of the bank, got"):
        knn(queries, bank, labels[1:])


def test_votes_of_low_temperatures():
    """exp(0.95 / 0.01) is more than float32 holds: the nearest still counts most."""
    scores = votes(torch.tensor([0.95, 0.93, 0.92]), torch.tensor([1, 0, 0]), 2, temperature=0.01)
    assert torch.isfinite(scores).all()
    assert scores.argmax() == 1
    with pytest.raises(ValueError, match=r"temperature must be >= 0\.002, or the votes overflow, got 0\.001"):
        knn(torch.zeros(1, 1, 128), MemoryBank(3), torch.tensor([0, 1, 1]), temperature=0.001)
