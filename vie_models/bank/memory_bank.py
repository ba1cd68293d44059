"""The memory bank: a unit vector for every training video, sharded over ranks. Row i is on rank i mod world size.

Results do not depend on the number of ranks; results called exact are equal to the last bit. Products are computed in blocks of
one shape, and ties are broken by index.

B clips of the global batch, b clips of this rank, M rows per clip, N rows in all, D dimensions.
Source: Zhuang et al., CVPR 2020, section 3; Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", CVPR 2018.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .ranks import World

BLOCK = 1 << 16  # rows multiplied at a time
CHUNK = 1 << 25  # values of gathered rows held at a time


class MemoryBank:
    """A memory bank of N x D float32 values. Except `state_dict`, its methods are collective: all ranks call them, with equal
    shapes.

    Attributes:
        rows: this rank's rows of the bank, numbers rank, rank + size, ...: [ceil((N - rank) / size), D].

    Args:
        num_rows: N, one row for every training video (instance).
        dim: D.
        seed: seed for the initial values, uniform in +-1/sqrt(D / 3).
        momentum: weight of a row's old value when it is updated.
        world: the ranks that share the bank. Its device holds the rows. Default: one process, on the CPU.

    Raises:
        ValueError: `num_rows` is out of range.
    """

    def __init__(
        self, num_rows: int, dim: int = 128, *, seed: int = 0, momentum: float = 0.5, world: World | None = None
    ) -> None:
        if num_rows < 1 or num_rows >= 1 << 32:
            raise ValueError(f"num_rows must be from 1 to 2^32 - 1, got {num_rows}")
        self.num_rows, self.dim, self.momentum, self.world = num_rows, dim, momentum, world or World()
        generator = torch.Generator().manual_seed(seed)
        bound = (3 / dim) ** 0.5
        kept = []
        for start in range(0, num_rows, BLOCK):  # every rank draws all rows and keeps its own
            block = torch.rand(min(BLOCK, num_rows - start), dim, generator=generator, device="cpu") * (2 * bound) - bound
            kept.append(block[(self.world.rank - start) % self.world.size :: self.world.size])
        self.rows = torch.cat(kept).to(self.world.device)

    def __len__(self) -> int:
        return self.num_rows

    def _place(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Returns whether each row is on this rank, and its position here (0 if it is not)."""
        ours = (indices >= 0) & (indices % self.world.size == self.world.rank)
        return ours, torch.where(ours, indices // self.world.size, 0)

    def gather(self, indices: Tensor) -> Tensor:
        """Returns the bank rows, [b, D], of this rank's `indices` [b]."""
        ours, place = self._place(self.world.gather(indices))
        rows = self.rows[place] * ours[:, None] if len(self.rows) else self.rows.new_zeros(len(ours), self.dim)
        return self.world.local(self.world.sum(rows))

    def dots(self, v: Tensor, indices: Tensor) -> Tensor:
        """Returns dot products of this rank's `v` [b, D] with rows `indices` [b, M]: float32 [b, M], differentiable in `v`."""
        v = self._of_all_ranks(v)
        ours, place = self._place(self.world.gather(indices))
        if not len(self.rows):
            place, rows = torch.zeros_like(place), self.rows.new_zeros(1, self.dim)
        else:
            rows = self.rows
        dots = _RowDots.apply(v, rows, place)  # type: ignore[no-untyped-call]
        return self.world.local(self.world.sum(dots * ours))  # one rank has each product; the others add zero

    def all_dots(self, v: Tensor) -> Tensor:
        """Returns dot products of this rank's `v` [b, D] with every row of the bank: float32 [b, N], differentiable in `v`."""
        dots = self._of_all_ranks(v) @ self.rows.T
        if self.world.size == 1:
            return dots
        all_dots = dots.new_zeros(len(dots), self.num_rows)
        all_dots[:, self.world.rank :: self.world.size] = dots
        return self.world.local(self.world.sum(all_dots))  # one rank has each product; the others add zero

    def _of_all_ranks(self, v: Tensor) -> Tensor:
        """The ranks' `v` [b, D], one after the other: float32 [B, D], differentiable in this rank's own."""
        v = v.float()
        if self.world.size == 1:
            return v
        everyone = v.new_zeros(self.world.size, *v.shape)
        everyone[self.world.rank] = v
        return self.world.sum(everyone).flatten(0, 1)

    @torch.no_grad()
    def nearest(self, v: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Finds the k rows with the largest dot product with each of this rank's `v` [b, D]. The result is exact.

        In a tie, the lower index comes first.

        Returns:
            dots float32 [b, k], largest first, and row indices int64 [b, k].
        """
        if not 1 <= k <= self.num_rows:
            raise ValueError(f"k must be from 1 to the bank's {self.num_rows} rows, got {k}")
        v = self.world.gather(v.float())
        size, rank = self.world.size, self.world.rank
        best = torch.full((len(v), 0), -(1 << 63), dtype=torch.int64, device=v.device)
        for start in range(0, -(-self.num_rows // size), BLOCK):
            rows = self.rows[start : start + BLOCK]
            block = F.pad(rows, (0, 0, 0, min(BLOCK, power_of_two(self.num_rows)) - len(rows)))
            dots = (v @ block.T)[:, : len(rows)]
            floor = _dots_and_indices(best)[0].min(1).values if best.shape[1] == k else dots.new_full((len(v),), -torch.inf)
            dots, columns = _candidates(dots, floor, k, guess=64 + 2 * k * BLOCK // (start + BLOCK))
            best = _largest(torch.cat([best, _keys(dots, (start + columns) * size + rank)], dim=1), k)
        if size > 1:
            best = F.pad(best, (0, k - best.shape[1]), value=-(1 << 63))
            best = _largest(self.world.gather(best[None]).transpose(0, 1).flatten(1), k)
        best = self.world.local(best)
        return _dots_and_indices(best)

    @torch.no_grad()
    def update(self, indices: Tensor, v: Tensor) -> None:
        """Sets row i to normalize(momentum * row + (1 - momentum) * v) for each i of this rank's `indices` [b] and `v` [b, D].

        If an index occurs more than once in the global batch (the batches of all ranks, in order of rank), only its last `v`
        counts. Negative indices, of clips that could not be read, are ignored.
        """
        indices, v = self.world.gather(indices), self.world.gather(v.float())
        again = torch.triu(indices[:, None] == indices, diagonal=1).any(dim=1)
        ours, place = self._place(indices)
        which = (ours & ~again).nonzero()[:, 0]
        place = place[which]
        self.rows[place] = F.normalize(self.momentum * self.rows[place] + (1 - self.momentum) * v[which], dim=1)

    def all_rows(self) -> Tensor:
        """Returns all rows in order, [N, D], on the CPU of every rank."""
        return interleaved(self.world.gather_objects(self.rows.cpu()))

    def state_dict(self) -> dict[str, Any]:
        """Returns this rank's part of the bank."""
        return {"rows": self.rows, "rank": self.world.rank, "size": self.world.size, "num_rows": self.num_rows}

    def load_state_dict(self, *parts: dict[str, Any]) -> None:
        """Loads this rank's rows from the saved parts of all ranks. The number of ranks may have changed.

        Raises:
            ValueError: a part is missing, or the number of rows differs.
        """
        if {part["rank"] for part in parts} != set(range(parts[0]["size"])) or parts[0]["num_rows"] != self.num_rows:
            raise ValueError(
                f"cannot load a memory bank of {self.num_rows} rows (one for each video of the list) from one of "
                f"{parts[0]['num_rows']} rows with parts {sorted(part['rank'] for part in parts)} of {parts[0]['size']}: it "
                "must have the same number of rows and all parts"
            )
        for part in parts:
            indices = torch.arange(len(part["rows"]), device="cpu") * part["size"] + part["rank"]
            ours = indices % self.world.size == self.world.rank
            self.rows[(indices[ours] // self.world.size).to(self.rows.device)] = part["rows"][ours].to(self.rows)


def interleaved(shards: list[Tensor]) -> Tensor:
    """Joins the shards [rows, ...] of n ranks into [N, ...]: row i is row i // n of shard i mod n."""
    rows = shards[0].new_empty(sum(map(len, shards)), *shards[0].shape[1:])
    for rank, shard in enumerate(shards):
        rows[rank :: len(shards)] = shard
    return rows


class _RowDots(torch.autograd.Function):
    """Computes sum_d v[b, d] * rows[place[b, m], d]. The backward pass gathers the rows again, some clips at a time."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, rows: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(rows, place)
        return torch.cat(
            [
                torch.bmm(rows[p], x[:, :, None])[:, :, 0] for x, p in zip(*_chunks(v, place), strict=True)
            ]  # [b, M, D] x [b, D, 1]
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        rows, place = ctx.saved_tensors
        parts = zip(*_chunks(gradient, place, rows.shape[1]), strict=True)
        return torch.cat([torch.bmm(g[:, None], rows[p])[:, 0] for g, p in parts]), None, None


def _chunks(x: Tensor, place: Tensor, dim: int | None = None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    clips = max(CHUNK // (place.shape[1] * (dim or x.shape[1])), 1)
    return x.split(clips), place.split(clips)


def power_of_two(rows: int) -> int:
    """Returns the smallest power of two (at least 2) that holds `rows`, so that small banks use small blocks on every rank."""
    return 1 << max(rows - 1, 1).bit_length()


def _candidates(dots: Tensor, floor: Tensor, k: int, guess: int) -> tuple[Tensor, Tensor]:
    """Returns values and columns of dots [B, R] that include the k largest of each row, except values below the row's floor.

    `guess` is an estimate of how many columns are enough.
    """
    for most in (min(guess, k), k):
        if most < dots.shape[1]:
            top = dots.topk(most + 1, dim=1, sorted=False)
            next_one, last = top.values.topk(2, dim=1, largest=False).values.unbind(1)
            if bool((next_one < floor).all()) or (most == k and bool((next_one < last).all())):  # false in a tie
                return top.values, top.indices
    return dots, torch.arange(dots.shape[1], device=dots.device).expand_as(dots)


def _keys(dots: Tensor, indices: Tensor) -> Tensor:
    """Returns int64 keys that sort by dot, then by lower index. No two are equal, so the k largest are unique."""
    bits = (dots + 0.0).view(torch.int32)  # no negative zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (0xFFFFFFFF - indices)


def _dots_and_indices(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Inverts `_keys`."""
    ordered = (keys >> 32).to(torch.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32), 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def _largest(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, keys.shape[1]), dim=1).values
