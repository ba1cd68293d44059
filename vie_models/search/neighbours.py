"""Nearest rows: exactly, by products of blocks; or nearly, by an index of faiss (extra `search`).

faiss's indexes hold rows in 8 bits per number. What they find is ranked again by the rows themselves, so similarities are exact
and only which rows are found is approximate.

Q queries, N rows, D dimensions.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .store import Kind

MOST_EXACT = 1_000_000
"""Rows up to which the kind "auto" is exact."""
_BLOCK = 1 << 15  # rows multiplied at a time
SLACK = 16
"""Rows found beyond k, to be ranked again."""
_CLOSE = 1e-6  # dots that differ by less may be in another order in single precision
_PART = 16  # an IVF query looks into one of so many lists
_PER_LIST = 64  # training rows for each list of an IVF index; faiss wants at least 39


def kind_for(rows: int) -> Kind:
    """The kind of index for a number of rows that nobody chose."""
    return "exact" if rows <= MOST_EXACT else "ivf"


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
    dots = torch.full((len(queries), k), -torch.inf, device="cpu")
    found = torch.full((len(queries), k), -1, dtype=torch.int64, device="cpu")
    floor = dots.amin(1)
    for start in range(0, len(rows), _BLOCK):
        block = _products(queries, rows[start : start + _BLOCK])
        if excluded is not None:
            first, last = np.searchsorted(excluded, [start, start + _BLOCK])
            block[:, torch.from_numpy(excluded[first:last] - start)] = -torch.inf
        if start == 0:
            best = block.topk(min(k, block.shape[1]), dim=1)
            more, which = best.values, best.indices
        else:
            query, column = (block > floor[:, None]).nonzero(as_tuple=True)
            if not len(query):
                continue
            counts = torch.bincount(query, minlength=len(queries))
            place = torch.arange(len(query), device="cpu") - (counts.cumsum(0) - counts)[query]
            more = torch.full((len(queries), int(counts.max())), -torch.inf, device="cpu")
            which = torch.zeros_like(more, dtype=torch.int64)
            more[query, place], which[query, place] = block[query, column], column
        every = torch.cat([dots, more], 1)
        numbers = torch.cat([found, which + start], 1)
        best = every.topk(k, dim=1)
        dots, found = best.values, numbers.gather(1, best.indices)
        floor = dots.amin(1)
    return torch.where(dots > -torch.inf, found, -1).numpy()


def _products(queries: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """[Q, D], [rows, D] -> [Q, rows]."""
    if len(queries) == 1:  # takes a third of torch's time; with more queries, NumPy's threads get in the way of torch's
        return torch.from_numpy(queries @ rows.T)
    return torch.from_numpy(queries) @ torch.from_numpy(rows).T


def exact_ranked(
    rows: np.ndarray, queries: np.ndarray, k: int, excluded: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds and ranks the k rows with the largest dot product with each query, some more, and all that equal the k-th.

    Takes what `exact_nearest` takes, k of any size, and returns what `ranked` does.
    """
    rows = np.asarray(rows)  # slicing a memmap is slow
    wanted = min(k + SLACK, len(rows))
    while True:
        found = exact_nearest(rows, queries, wanted, excluded)
        dots, numbers = ranked(rows, queries, found)
        # more rows may be as near as the k-th than were found: black frames are
        if wanted == len(rows) or not (dots[:, k - 1] < dots[:, -1] + _CLOSE).any():
            return dots, numbers
        wanted = min(8 * wanted, len(rows))


def ranked(rows: np.ndarray, queries: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks rows that were found, [Q, c], by their dot products in double precision: (dots, row numbers), largest first.

    The dots do not depend on where a row stands: equal rows have equal dots. Row -1 stands for none, and has the dot -inf.
    """
    rows = np.asarray(rows)  # indexing a memmap is slow
    dots = np.full(found.shape, -np.inf)
    for i, own in enumerate(found):
        for start in range(0, len(own), _BLOCK):
            part = own[start : start + _BLOCK]
            there = part >= 0  # a matrix product would sum the last rows of a block in another order
            dots[i, start : start + _BLOCK][there] = (rows[part[there]] * queries[i].astype(np.float64)).sum(1)
    order = np.lexsort((found, -dots), axis=1)
    return np.take_along_axis(dots, order, 1), np.take_along_axis(found, order, 1)


class Near:
    """An index of faiss over the rows.

    Attributes:
        probes: lists searched per query (ivf), or candidates kept while walking the graph (hnsw).
    """

    def __init__(self, index: Any, kind: Kind) -> None:
        self._index, self.kind = index, kind
        self.probes = max(8, index.nlist // _PART) if kind == "ivf" else 128

    @classmethod
    def trained(cls, kind: Kind, rows: np.ndarray, seed: int = 0) -> Near:
        """Returns an empty index whose lists and codes are trained on a sample of the rows."""
        faiss = import_faiss()
        count, dim = rows.shape
        if kind == "ivf":
            lists = max(min(round(4 * math.sqrt(count)), count // 39), 1)
            name, sample = f"IVF{lists},SQ8", _PER_LIST * lists
        else:
            name, sample = "HNSW32,SQ8", 100_000
        index = faiss.index_factory(dim, name, faiss.METRIC_INNER_PRODUCT)
        if kind == "hnsw":
            index.hnsw.efConstruction = 80
        which = np.sort(np.random.default_rng(seed).permutation(count)[:sample])
        index.train(np.ascontiguousarray(rows[which]))
        return cls(index, kind)

    def clear(self) -> None:
        """Removes all rows, and keeps the trained lists and codes. Not for an index that is mapped."""
        self._index.reset()

    def __len__(self) -> int:
        return self._index.ntotal

    def add(self, rows: np.ndarray) -> None:
        """Adds rows, float32 [n, D], with the numbers after those that it has."""
        for start in range(0, len(rows), 1 << 16):
            self._index.add(np.ascontiguousarray(rows[start : start + (1 << 16)]))

    def nearest(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Returns the numbers of about the k nearest rows, int64 [Q, k]; -1 where fewer were found."""
        faiss = import_faiss()
        if self.kind == "ivf":
            parameters = faiss.SearchParametersIVF(nprobe=min(self.probes, self._index.nlist))
        else:
            parameters = faiss.SearchParametersHNSW(efSearch=max(self.probes, k))
        return self._index.search(queries, min(k, len(self)), params=parameters)[1]

    def write(self, path: Path) -> None:
        """Writes the index to a file."""
        import_faiss().write_index(self._index, str(path))

    @classmethod
    def open(cls, path: Path, kind: Kind, *, mapped: bool = True) -> Near:
        """Opens a file. If mapped, the lists stay on disk, and rows cannot be added.

        Raises:
            ValueError: it is not a file of faiss, or of another kind.
        """
        faiss = import_faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if mapped and kind == "ivf" else 0)
            if mapped and kind == "ivf":  # threads that read ahead would be started for every query
                faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
        except (RuntimeError, MemoryError, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} cannot be read by faiss ({reason}): build the index again with --rebuild") from error
        if not hasattr(index, {"ivf": "nlist", "hnsw": "hnsw"}.get(kind, "")):
            raise ValueError(f"{path} is not an index of kind {kind}: build the index again with --rebuild")
        return cls(index, kind)


def import_faiss() -> Any:
    """Returns the module faiss.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ImportError("an index that is not exact needs faiss: pip install 'vie_models[search]'") from error
