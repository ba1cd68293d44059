"""The memory bank: a unit vector for every training video, sharded over ranks; row i lies on rank i mod world size.

Results do not depend on the number of ranks, to the last bit where they are said to be exact: products are computed in blocks
of one shape, and ties are broken by index.

B clips of the global batch, b of this rank's, M rows a clip, N rows in all, D dimensions. Source: Zhuang et al., CVPR 2020,
section 3; Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .ranks import World

BLOCK = 1 << 16  # rows that are multiplied at a time
CHUNK = 1 << 25  # values of gathered rows that are held at a time


class MemoryBank:
    """N x D in float32. Every method but `rows` and `state_dict` is collective: all ranks call it, with equal shapes.

    Attributes:
        rows: [ceil((N - rank) / size), D]: rows rank, rank + size, ... of the bank.

    Args:
        num_rows: N, one for every training video (instance).
        dim: D.
        seed: of the initial values, uniform in +-1/sqrt(D / 3).
        momentum: weight of a row's old value when it is updated.
        world: the ranks that share it; its device holds the rows.
    """

    def __init__(
        self, num_rows: int, dim: int = 128, *, seed: int = 0, momentum: float = 0.5, world: World | None = None
    ) -> None:
        if num_rows < 1 or num_rows >= 1 << 32:
            raise ValueError(f"a memory bank has from 1 to 2^32 - 1 rows, got {num_rows}")
        self.num_rows, self.dim, self.momentum, self.world = num_rows, dim, momentum, world or World()
        generator = torch.Generator().manual_seed(seed)
        bound = (3 / dim) ** 0.5
        own = []
        for start in range(0, num_rows, BLOCK):  # every rank draws all rows, and keeps its own
            block = torch.rand(min(BLOCK, num_rows - start), dim, generator=generator) * (2 * bound) - bound
            own.append(block[(self.world.rank - start) % self.world.size :: self.world.size])
        self.rows = torch.cat(own).to(self.world.device)

    def __len__(self) -> int:
        return self.num_rows

    def _place(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each row is ours, and where it lies if so (0 if not)."""
        ours = (indices >= 0) & (indices % self.world.size == self.world.rank)
        return ours, torch.where(ours, indices // self.world.size, 0)

    def gather(self, indices: Tensor) -> Tensor:
        """Rows of this rank's `indices` [b]: [b, D]."""
        ours, place = self._place(self.world.gather(indices))
        rows = self.rows[place] * ours[:, None] if len(self.rows) else self.rows.new_zeros(len(ours), self.dim)
        return self.world.own(self.world.sum(rows))

    def dots(self, v: Tensor, indices: Tensor) -> Tensor:
        """Dot products of this rank's `v` [b, D] with the rows `indices` [b, M]: [b, M] float32, differentiable in `v`."""
        v = v.float()
        if self.world.size > 1:
            everyone = v.new_zeros(self.world.size, *v.shape)
            everyone[self.world.rank] = v
            v = self.world.sum(everyone).flatten(0, 1)  # [B, D]
        ours, place = self._place(self.world.gather(indices))
        if not len(self.rows):
            place, rows = torch.zeros_like(place), self.rows.new_zeros(1, self.dim)
        else:
            rows = self.rows
        dots = _RowDots.apply(v, rows, place)  # type: ignore[no-untyped-call]
        return self.world.own(self.world.sum(dots * ours))  # each product is one rank's; the others add zero

    @torch.no_grad()
    def nearest(self, v: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k rows with the largest dot product with each of this rank's `v` [b, D], exactly, the lower index first in a tie.

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
        best = self.world.own(best)
        return _dots_and_indices(best)

    @torch.no_grad()
    def update(self, indices: Tensor, v: Tensor) -> None:
        """Row i becomes normalise(momentum * row + (1 - momentum) * v) for each i of this rank's `indices` [b] and `v` [b, D].

        Where an index occurs more than once in the global batch (the batches of all ranks, in order of rank), its last `v`
        counts and the others do nothing. A negative index stands for a clip that is not there.
        """
        indices, v = self.world.gather(indices), self.world.gather(v.float())
        again = torch.triu(indices[:, None] == indices, diagonal=1).any(dim=1)
        ours, place = self._place(indices)
        which = (ours & ~again).nonzero()[:, 0]
        place = place[which]
        self.rows[place] = F.normalize(self.momentum * self.rows[place] + (1 - self.momentum) * v[which], dim=1)

    def whole(self) -> Tensor:
        """All rows in order: [N, D], on the CPU of every rank."""
        return interleaved(self.world.gather_objects(self.rows.cpu()))

    def state_dict(self) -> dict[str, Any]:
        """This rank's part."""
        return {"rows": self.rows, "rank": self.world.rank, "size": self.world.size, "num_rows": self.num_rows}

    def load_state_dict(self, *parts: dict[str, Any]) -> None:
        """Takes this rank's rows from the parts of all ranks of the run that was saved, however many they were."""
        if {part["rank"] for part in parts} != set(range(parts[0]["size"])) or parts[0]["num_rows"] != self.num_rows:
            raise ValueError(
                f"a bank of {self.num_rows} rows, one for each video of the list, cannot be made of one of "
                f"{parts[0]['num_rows']} rows, of which parts {sorted(part['rank'] for part in parts)} of {parts[0]['size']} "
                "are there"
            )
        for part in parts:
            indices = torch.arange(len(part["rows"])) * part["size"] + part["rank"]
            ours = indices % self.world.size == self.world.rank
            self.rows[(indices[ours] // self.world.size).to(self.rows.device)] = part["rows"][ours].to(self.rows)


def interleaved(shards: list[Tensor]) -> Tensor:
    """Row i of the whole is row i // n of shard i mod n: shards [rows, ...] of n ranks -> [N, ...]."""
    whole = shards[0].new_empty(sum(map(len, shards)), *shards[0].shape[1:])
    for rank, shard in enumerate(shards):
        whole[rank :: len(shards)] = shard
    return whole


class _RowDots(torch.autograd.Function):
    """sum_d v[b, d] * rows[place[b, m], d]. The rows are gathered anew in the backward pass, some clips at a time."""

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
    """One that is not smaller: few rows are multiplied in smaller blocks, of one size on every rank."""
    return 1 << max(rows - 1, 1).bit_length()


def _candidates(dots: Tensor, floor: Tensor, k: int, guess: int) -> tuple[Tensor, Tensor]:
    """Values and columns of dots [B, R] among which are the k largest of each row, as far as they are not below its floor.

    `guess` is how many that may be.
    """
    for most in (min(guess, k), k):
        if most < dots.shape[1]:
            top = dots.topk(most + 1, dim=1, sorted=False)
            next_one, last = top.values.topk(2, dim=1, largest=False).values.unbind(1)
            if bool((next_one < floor).all()) or (most == k and bool((next_one < last).all())):  # not so in a tie
                return top.values, top.indices
    return dots, torch.arange(dots.shape[1], device=dots.device).expand_as(dots)


def _keys(dots: Tensor, indices: Tensor) -> Tensor:
    """int64 that sort as (dot, then the lower index): no two are equal, so that what is among the k largest is certain."""
    bits = (dots + 0.0).view(torch.int32)  # no negative zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (0xFFFFFFFF - indices)


def _dots_and_indices(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `_keys`."""
    ordered = (keys >> 32).to(torch.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32), 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def _largest(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, keys.shape[1]), dim=1).values
