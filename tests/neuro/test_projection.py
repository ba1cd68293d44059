"""Sparse random projections."""

import numpy as np
import pytest
import torch

from vie_models.neuro.projection import SparseProjection


def test_density_and_scale_are_those_of_scikit_learn():
    random_projection = pytest.importorskip("sklearn.random_projection")
    size, components = 10_000, 256
    matrix = SparseProjection(size, components, 0).matrix
    theirs = random_projection.SparseRandomProjection(components, random_state=0).fit(np.zeros((1, size))).components_
    np.testing.assert_allclose(np.unique(matrix.values().abs()), np.unique(np.abs(theirs.data)), rtol=1e-6)
    assert matrix.values().numel() == pytest.approx(theirs.nnz, rel=0.05)
    assert abs(matrix.values().sign().mean()) < 0.03


def test_products_are_right_and_lengths_are_kept():
    project = SparseProjection(5000, 1024, 3, "encode_4")
    x = torch.randn(2, 3, 5000)
    y = project(x)
    assert y.shape == (2, 3, 1024)
    torch.testing.assert_close(y, x @ project.matrix.to_dense().T, rtol=1e-4, atol=1e-4)
    assert (y.norm(dim=-1) / x.norm(dim=-1) - 1).abs().max() < 0.15


def test_equal_seeds_give_equal_numbers():
    def values(seed: int, name: str) -> np.ndarray:
        return SparseProjection(1000, 64, seed, name).matrix.to_dense().numpy()

    np.testing.assert_array_equal(values(1, "encode_2"), values(1, "encode_2"))
    assert (values(1, "encode_2") != values(2, "encode_2")).any()
    assert (values(1, "encode_2") != values(1, "encode_3")).any()
    assert values(0, "a")[0].nonzero()[0][:3].tolist() == [17, 176, 180]  # on every machine


def test_bad_arguments():
    with pytest.raises(ValueError, match="components >= 1 and seed >= 0, got 0 and 0"):
        SparseProjection(10, 0, 0)
