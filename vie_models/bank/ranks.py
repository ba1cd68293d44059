"""One process or many, in the same words: what the rest of train/ knows of torch.distributed.

torchrun starts the processes; by itself a process is rank 0 of 1, and every operation here is then the identity.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class World:
    """The processes of a run, and this one's place among them. The methods are collective: all ranks call them together."""

    def __init__(self, rank: int = 0, size: int = 1, device: str | torch.device = "cpu") -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes what is written once."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum of `x`, of one shape everywhere, over ranks; differentiable (the gradients are summed too)."""
        return x if self.size == 1 else _Sum.apply(x)  # type: ignore[no-untyped-call]

    def max(self, x: Tensor) -> Tensor:
        """The largest of `x`, value by value, over ranks."""
        if self.size > 1:
            x = x.clone()
            dist.all_reduce(x, dist.ReduceOp.MAX)
        return x

    def gather(self, x: Tensor) -> Tensor:
        """[b, ...] of one shape on every rank -> [size * b, ...], in order of rank."""
        if self.size == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    def broadcast(self, x: Tensor) -> None:
        """Makes `x`, in place, what it is on rank 0."""
        if self.size > 1:
            dist.broadcast(x, 0)

    def own(self, x: Tensor) -> Tensor:
        """The inverse of `gather`: this rank's part of [size * b, ...]."""
        return x.chunk(self.size)[self.rank]

    def gather_objects(self, value: Any) -> list[Any]:
        """`value` of every rank, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """`value` of rank 0."""
        return self.gather_objects(value if self.is_first else None)[0]


@contextlib.contextmanager
def world(device: str | None = None, timeout: float = 3600.0) -> Iterator[World]:
    """The world that torchrun made, or a world of one.

    Args:
        device: "cpu" or "cuda" (default: CUDA where there is one); under torchrun each process has the GPU of its local rank.
        timeout: seconds after which a rank that waits for a dead one gives up.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {kind!r}, and this PyTorch sees no GPU: use device='cpu'")
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World(device=kind)
        return
    if kind == "cuda":
        kind = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(kind)
    backend = "cpu:gloo,cuda:nccl" if kind.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout))
    yield World(dist.get_rank(), dist.get_world_size(), kind)
    # after an error, the end of the process closes all connections; without one, nobody closes what another still needs
    dist.barrier()
    time.sleep(0.2)  # PyTorch 2.6 waits for ever if a thread of gloo's has still to release a tensor
    dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """All-reduce, whose backward is an all-reduce: every rank's loss depends on every rank's `x`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient
