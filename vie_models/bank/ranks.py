"""The processes of a run, one or many. No other module uses torch.distributed directly.

torchrun starts the processes. Without torchrun, a process is rank 0 of 1, and every operation here is the identity.
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
    """The processes of a run, and this one's rank among them. Methods are collective, except `local`: all ranks call them.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        device: device of this process's tensors.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: str | torch.device = "cpu") -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the files of a run."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """Returns the sum of `x` over ranks. Shapes must be equal. Differentiable: gradients are summed too."""
        return x if self.size == 1 else _Sum.apply(x)  # type: ignore[no-untyped-call]

    def max(self, x: Tensor) -> Tensor:
        """Returns the elementwise maximum of `x` over ranks."""
        if self.size > 1:
            x = x.clone()
            dist.all_reduce(x, dist.ReduceOp.MAX)
        return x

    def gather(self, x: Tensor) -> Tensor:
        """Returns the `x` [b, ...] of all ranks as [size * b, ...], in order of rank. Shapes must be equal."""
        if self.size == 1:
            return x
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    def broadcast(self, x: Tensor) -> None:
        """Overwrites `x`, in place, with rank 0's."""
        if self.size > 1:
            dist.broadcast(x, 0)

    def local(self, x: Tensor) -> Tensor:
        """Returns this rank's part, [b, ...], of [size * b, ...]. Inverts `gather`."""
        return x.chunk(self.size)[self.rank]

    def gather_objects(self, value: Any) -> list[Any]:
        """Returns the `value` of every rank, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """Returns the `value` of rank 0."""
        return self.gather_objects(value if self.is_first else None)[0]


@contextlib.contextmanager
def world(device: str | None = None, timeout: float = 3600.0) -> Iterator[World]:
    """Yields the processes that torchrun started, or a world of one.

    Args:
        device: "cpu" or "cuda". Default: cuda if there is a GPU. Under torchrun, each process uses the GPU of its local rank.
        timeout: seconds after which a rank stops waiting for another.

    Raises:
        ValueError: `device` is "cuda", but PyTorch sees no GPU.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {kind!r}, but PyTorch sees no GPU: use device='cpu'")
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World(device=kind)
        return
    if kind == "cuda":
        kind = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(kind)
    backend = "cpu:gloo,cuda:nccl" if kind.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout))
    yield World(dist.get_rank(), dist.get_world_size(), kind)
    # after an error, exiting closes all connections; otherwise the barrier keeps them open until all ranks are done
    dist.barrier()
    time.sleep(0.2)  # PyTorch 2.6 hangs if a gloo thread still holds a tensor
    dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """An all-reduce whose backward is also an all-reduce, because every rank's loss depends on every rank's `x`."""

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
