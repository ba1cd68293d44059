"""Nearest rows: exactly, by products of blocks; or approximately, by an index of faiss (extra `search`).

faiss's indexes hold rows in 8 bits per number. What they find is ranked again by the rows themselves, so similarities are exact
and only which rows are found is approximate.

Q queries, N rows, D dimensions.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

Kind = Literal["exact", "ivf", "hnsw"]
MAX_EXACT = 1_000_000
"""Rows up to which the kind "auto" is exact."""
SLACK = 16
"""Rows found beyond k, to be ranked again."""
_BLOCK = 1 << 15  # rows multiplied at a time
_TIE = 1e-6  # dots that differ by less may be in another order in single precision
_LISTS_PER_PROBE = 16
_ROWS_PER_LIST = 64  # that train an IVF index; faiss wants at least 39


def exact_nearest(rows: np.ndarray, queries: np.ndarray, k: int, excluded: np.ndarray | None = None) -> np.ndarray:
    """Finds the k rows with the largest dot product with each query.

    Args:
        rows: float32 [N, D].
        queries: float32 [Q, D].
        k: at most N.
        excluded: sorted numbers of rows that are left out.

    Returns:
        Row numbers, int64 [Q, k], in no particular order; -1 where there are too few rows.
    """
    dots = torch.empty(len(queries), 0, device="cpu")
    numbers = torch.empty(len(queries), 0, dtype=torch.int64, device="cpu")
    for start in range(0, len(rows), _BLOCK):
        block = _products(queries, rows[start : start + _BLOCK])  # [Q, rows of the block]
        if excluded is not None:
            first, last = np.searchsorted(excluded, [start, start + _BLOCK])
            block[:, torch.from_numpy(excluded[first:last] - start)] = -torch.inf
        best = block.topk(min(k, block.shape[1]), dim=1, sorted=False)
        dots = torch.cat([dots, best.values], 1)
        numbers = torch.cat([numbers, best.indices + start], 1)
        if dots.shape[1] > k:
            merged = dots.topk(k, dim=1, sorted=False)
            dots, numbers = merged.values, numbers.gather(1, merged.indices)
    return numbers.masked_fill(dots == -torch.inf, -1).numpy()


def _products(queries: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """[Q, D], [rows, D] -> [Q, rows]."""
    if len(queries) == 1:  # takes a third of torch's time; with more queries, NumPy's threads get in the way of torch's
        return torch.from_numpy(queries @ rows.T)
    return torch.from_numpy(queries) @ torch.from_numpy(rows).T


def exact_ranked(
    rows: np.ndarray, queries: np.ndarray, k: int, excluded: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds and ranks the k rows with the largest dot product with each query, some more, and all that equal the k-th.

    Takes what `exact_nearest` takes, k of any size, and returns what `rank` does.
    """
    rows = np.asarray(rows)  # slicing a memmap is slow
    wanted = min(k + SLACK, len(rows))
    while True:
        dots, numbers = rank(rows, queries, exact_nearest(rows, queries, wanted, excluded))
        # more rows may be as near as the k-th than were found: black frames are
        if wanted == len(rows) or not (dots[:, k - 1] < dots[:, -1] + _TIE).any():
            return dots, numbers
        wanted = min(8 * wanted, len(rows))


def rank(rows: np.ndarray, queries: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks rows that were found, [Q, c], by their dot products in double precision: (dots, row numbers), largest first.

    The dots do not depend on where a row stands: equal rows have equal dots. Row -1 stands for none, and has the dot -inf.
    """
    rows = np.asarray(rows)  # indexing a memmap is slow
    dots = np.full(found.shape, -np.inf)
    for i, numbers in enumerate(found):
        for start in range(0, len(numbers), _BLOCK):
            part = numbers[start : start + _BLOCK]
            valid = part >= 0  # a matrix product would sum the last rows of a block in another order
            dots[i, start : start + _BLOCK][valid] = (rows[part[valid]] * queries[i].astype(np.float64)).sum(1)
    order = np.lexsort((found, -dots), axis=1)
    return np.take_along_axis(dots, order, 1), np.take_along_axis(found, order, 1)


class FaissIndex:
    """An index of faiss over the rows.

    Attributes:
        probes: lists searched per query (ivf), or candidates kept while walking the graph (hnsw).
    """

    def __init__(self, index: Any, kind: Kind) -> None:
        self._index, self.kind = index, kind
        self.probes = max(8, index.nlist // _LISTS_PER_PROBE) if kind == "ivf" else 128

    @classmethod
    def build(cls, kind: Kind, rows: np.ndarray, seed: int = 0) -> FaissIndex:
        """Trains lists and codes on a sample of the rows, float32 [N, D], and adds all rows."""
        faiss = _import_faiss()
        count, dim = rows.shape
        if kind == "ivf":
            lists = max(min(round(4 * math.sqrt(count)), count // 39), 1)
            name, sample = f"IVF{lists},SQ8", _ROWS_PER_LIST * lists
        else:
            name, sample = "HNSW32,SQ8", 100_000
        index = faiss.index_factory(dim, name, faiss.METRIC_INNER_PRODUCT)
        if kind == "hnsw":
            index.hnsw.efConstruction = 80
        index.train(np.ascontiguousarray(rows[np.sort(np.random.default_rng(seed).permutation(count)[:sample])]))
        for start in range(0, count, 1 << 16):
            index.add(np.ascontiguousarray(rows[start : start + (1 << 16)]))
        return cls(index, kind)

    def nearest(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Returns the numbers of about the k nearest rows, int64 [Q, k]; -1 where fewer were found."""
        faiss = _import_faiss()
        if self.kind == "ivf":
            parameters = faiss.SearchParametersIVF(nprobe=min(self.probes, self._index.nlist))
        else:
            parameters = faiss.SearchParametersHNSW(efSearch=max(self.probes, k))
        return self._index.search(queries, min(k, self._index.ntotal), params=parameters)[1]

    def write(self, path: Path) -> None:
        """Writes the index to a file."""
        _import_faiss().write_index(self._index, str(path))

    @classmethod
    def open(cls, path: Path, kind: Kind) -> FaissIndex:
        """Opens a file. The lists of ivf stay on disk.

        Raises:
            ValueError: it is not a file of faiss, or of another kind.
        """
        faiss = _import_faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if kind == "ivf" else 0)
            if kind == "ivf":  # threads that read ahead would be started for every query
                faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
            else:
                index.hnsw  # noqa: B018
        except (RuntimeError, MemoryError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} is not an index of faiss of kind {kind} ({reason}): run `vie index` again") from error
        return cls(index, kind)


def _import_faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ImportError("an index that is not exact needs faiss: pip install 'vie_models[search]'") from error
