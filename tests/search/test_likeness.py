import numpy as np
import pytest

from vie_models.search import percentile_of, random_cosines


def test_quantiles_are_those_of_all_pairs():
    rows = np.random.default_rng(0).normal(size=(60, 5))
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = (units @ units.T)[np.triu_indices(60, 1)]
    found = random_cosines(rows, pairs=50_000, quantiles=11)
    np.testing.assert_allclose(found[1:-1], np.quantile(pairs, np.linspace(0, 1, 11))[1:-1], atol=0.02)
    assert (np.diff(found) >= 0).all()
    assert found.dtype == np.float32


def test_pairs_of_one_video_are_left_out():
    rows = np.repeat(np.eye(3), 4, 0)  # moments of a video are the same, those of others orthogonal
    assert random_cosines(rows, np.repeat(np.arange(3), 4)).max() == 0
    assert random_cosines(rows).max() == 1
    assert random_cosines(rows, np.zeros(12)).max() == 1, "one video alone has no other pairs"


def test_no_row_is_paired_with_itself():
    assert random_cosines(np.eye(7)).max() == 0


def test_percentiles():
    random = np.linspace(-1, 1, 1001, dtype=np.float32)
    np.testing.assert_allclose(percentile_of(np.array([-2, -1, 0, 0.5, 1, 3]), random), [0, 0, 50, 75, 100, 100], atol=1e-4)


def test_one_row_has_no_pairs():
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        random_cosines(np.ones((1, 3)))
