"""Very sparse random projections: large maps become short vectors that keep distances, and hence regressions, nearly the same.

Source: Achlioptas, "Database-friendly random projections", JCSS 2003; Li, Hastie and Church, "Very sparse random projections",
KDD 2006. The density 1 / sqrt(n) and the scale are those of scikit-learn's SparseRandomProjection.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


class SparseProjection:
    """Projects vectors of length n to length k: y = R x, where R [k, n] is sparse and E[|y|^2] = |x|^2.

    Each row of R has about sqrt(n) entries, +-sqrt(sqrt(n) / k). Equal arguments give equal numbers on every machine.

    Args:
        size: n.
        components: k, at least 1.
        seed: seed of the random numbers.
        name: name of the layer: layers of one size get different projections.
    """

    def __init__(self, size: int, components: int, seed: int, name: str = "") -> None:
        if components < 1 or seed < 0:
            raise ValueError(f"a projection needs components >= 1 and seed >= 0, got {components} and {seed}")
        draws = np.random.default_rng([seed, zlib.crc32(name.encode())])
        density = size**-0.5
        counts = draws.binomial(size, density, components)
        columns = [np.sort(draws.choice(size, count, replace=False, shuffle=False)) for count in counts]
        signs = draws.integers(0, 2, counts.sum()) * 2 - 1
        places = np.stack([np.repeat(np.arange(components), counts), np.concatenate(columns)])
        values = torch.from_numpy(signs * (density * components) ** -0.5).float()
        self.matrix = torch.sparse_coo_tensor(
            torch.from_numpy(places), values, (components, size), is_coalesced=True, check_invariants=True, device="cpu"
        )

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [..., n] -> [..., k], on the device of `x`."""
        if self.matrix.device != x.device:
            self.matrix = self.matrix.to(x.device)
        return (self.matrix @ x.flatten(0, -2).T).T.unflatten(0, x.shape[:-1])
