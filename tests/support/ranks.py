"""Runs a function on several ranks, each in its own process, as torchrun does."""

import multiprocessing
import os
import socket
from concurrent.futures import ProcessPoolExecutor


def on_ranks(size: int, function, *args) -> list:
    """Returns function(world, *args) of each rank, in order. `function` and its results must be picklable."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "vie_models.train.loop"])
    with ProcessPoolExecutor(size, mp_context=context) as pool:
        return list(pool.map(_rank, *zip(*[(rank, size, port, function, args) for rank in range(size)], strict=True)))


def _rank(rank, size, port, function, args):
    import torch

    from vie_models.bank.ranks import world

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with world("cpu", timeout=120) as ranks:
        return function(ranks, *args)
