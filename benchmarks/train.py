"""Measures training: whole steps of IR and of LA, and the share of them spent outside the encoder.

Each recipe runs at its own batch size (or --batch), with clips in memory. With --list, it also measures how many clips the
workers deliver and steps on these clips, read from the files, from a JPEG pack and from a raw pack. With --bank, it also
measures the memory bank's part of a step as the bank grows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vie_models.bank.memory_bank import MemoryBank
from vie_models.datasets.pack import Packing
from vie_models.models.cost import count_flops
from vie_models.models.precision import WrongArithmeticError
from vie_models.models.registry import model_entry
from vie_models.train import RECIPES, Run, recipe
from vie_models.train.loading import Batch
from vie_models.video.packed import PackHeader
from vie_models.video.transforms import short_sides

from .measure import Table, add_common, medians, report, turns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=3)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES), help="recipes to run")
    parser.add_argument("--rows", type=int, default=240_000, help="number of videos, and so of memory bank rows")
    parser.add_argument("--batch", type=int, help="clips per step (default: the recipe's)")
    parser.add_argument("--dtype", default="float32", help="precision of the arithmetic: float32 or bfloat16")
    parser.add_argument("--channels-last", action="store_true", help="use channels-last layout")
    parser.add_argument("--compile", action="store_true", help="compile the encoder with torch.compile")
    parser.add_argument("--list", type=Path, help="list file of real videos for the workers to read")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that paths in --list are relative to")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes that read videos, with --list")
    parser.add_argument("--short-side", type=int, help="short side of the packs (default: what the recipe asks for)")
    parser.add_argument("--seconds", type=float, default=4, help="seconds per measurement, with --list")
    parser.add_argument("--bank", action="store_true", help="also measure the memory bank alone")


def make_run(name: str, folder: Path, options: argparse.Namespace, **settings: Any) -> Run:
    """Returns a run whose list names as many videos as the bank has rows. The files need not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder / "list"
    if not listing.exists():
        listing.write_text("".join(f"{i}.mp4\n" for i in range(options.rows)))
    changes: dict[str, Any] = {"noise": 4096}  # the paper's value: the small recipes use all rows of a small bank
    changes |= {"batch_size": options.batch} if options.batch else {}
    changes |= {"dtype": options.dtype, "channels_last": options.channels_last, "compile": options.compile}
    values = {"train_list": listing, "out": folder / name, "device": options.device, "workers": 0, **changes, **settings}
    return Run(recipe(name, **values))


def clips_in_memory(run: Run) -> Batch:
    """Returns a batch of random pixels."""
    spec, size = run.model.clip_spec, run.config.batch_size
    frames = torch.randint(0, 256, (size, spec.num_frames, 3, spec.crop, spec.crop), dtype=torch.uint8)
    return Batch(frames, torch.randperm(len(run.videos))[:size], [])


def steps(run: Run, options: argparse.Namespace) -> list[Any]:
    """Returns the table row of a run's training steps."""
    batch = clips_in_memory(run)
    objective: Any = run.objective
    objective.clusters = torch.randint(run.config.clusters, (1, len(run.videos)), device=run.ranks.device)

    def encoder() -> None:
        run.optimizer.zero_grad(set_to_none=True)
        run.forward(batch.frames).sum().backward()

    def step(number: int) -> Callable[[], None]:
        def make() -> None:
            run.step = number
            run.train_step(batch)

        return make

    local = (run.config.ir_steps // objective.recluster_every + 2) * objective.recluster_every + run.config.ir_steps + 1
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    jobs = {"encoder": encoder, "IR": step(0), "LA": step(local)}
    seconds = medians(turns(jobs, options.rounds, options.device, warmup=1))
    size = run.config.batch_size
    memory = torch.cuda.max_memory_allocated() / 2**30 if options.device == "cuda" else None
    shares = [[size / seconds[kind], 100 * (1 - seconds["encoder"] / seconds[kind])] for kind in ("IR", "LA")]
    rate = 3 * size * count_flops(run.model) / 1e9 / seconds["encoder"]  # a backward pass costs as much as two forward passes
    return [run.config.model, size, *shares[0], *shares[1], rate, memory]


def fed(name: str, folder: Path, options: argparse.Namespace) -> list[list[Any]]:
    """Returns table rows: steps on clips in memory, and fed by workers from each source, in turns."""
    spec = model_entry(name).clip_spec
    sources = {"files": options.list}
    for coding in ("jpeg", "raw"):
        sources[f"{coding} pack"] = folder / f"{name}-{coding}"
        short_side = options.short_side or short_sides(spec)[1]
        header = PackHeader(coding, short_side, 90 if coding == "jpeg" else None)
        Packing(options.list, sources[f"{coding} pack"], root=options.root, header=header).write(workers=os.cpu_count() or 1)
    found: dict[tuple[str, int], list[list[float]]] = {}
    for turn in range(options.rounds):
        for source, path in sources.items():
            for workers in options.workers:
                found.setdefault((source, workers), []).append(one_turn(name, folder / f"{turn}", path, workers, options))
    rows = []
    for (source, workers), measured in found.items():
        memory, trained, ratio, waiting, delivered, gigabytes = (statistics.median(one) for one in zip(*measured, strict=True))
        rows.append([name, source, workers, memory, trained, ratio, 100 * waiting, delivered, gigabytes])
    return rows


def one_turn(name: str, folder: Path, source: Path, workers: int, options: argparse.Namespace) -> list[float]:
    """Returns clips/s in memory and fed, their ratio, share of time waiting, clips/s without the network, and GB of memory."""
    settings = {"train_list": source, "root": options.root, "ir_steps": 10**9, "steps": 10**9, "workers": workers}
    run = make_run(name, folder / f"{source.name}-{workers}", options, **settings)
    size, batches = run.config.batch_size, run.batches()
    batch = next(batches)
    seconds = {}
    for kind in ("memory", "trained", "delivered"):
        steps, waited, began = 0, 0.0, time.perf_counter()
        warm = 10 * workers + 3 if kind != "memory" else 2  # batches that were made in advance
        while steps < warm + 3 or time.perf_counter() - began < options.seconds:
            asked = time.perf_counter()
            if kind != "memory":
                batch = next(batches)
            waited += time.perf_counter() - asked
            if kind != "delivered":
                run.train_step(batch)
            steps += 1
            if steps == warm:
                waited, began = 0.0, time.perf_counter()
        if options.device == "cuda":
            torch.cuda.synchronize()
        passed = time.perf_counter() - began
        seconds[kind] = passed / (steps - warm)
        if kind == "trained":
            waiting, gigabytes = waited / passed, memory_of_processes() / 1e9
    memory, trained, delivered = (size / seconds[kind] for kind in ("memory", "trained", "delivered"))
    return [memory, trained, trained / memory, waiting, delivered, gigabytes]


def memory_of_processes() -> int:
    """Returns the bytes of memory of this process and its workers, shared pages counted once (Linux)."""
    parents, total = {}, 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    for process in parents:
        above = process
        while above not in (0, os.getpid()):
            above = parents.get(above, 0)
        if above:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
                total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def bank_costs(rows: int, options: argparse.Namespace) -> list[Any]:
    """Returns a table row of one step's bank operations for 64 clips: 4097 dot products each, the 4096 nearest, the update."""
    from vie_models.bank.ranks import World

    bank = MemoryBank(rows, world=World(device=options.device))
    v = F.normalize(torch.randn(64, 128, device=options.device), dim=1).requires_grad_()
    indices = torch.randint(rows, (64, 4097), device=options.device)
    own = torch.randperm(rows, device=options.device)[:64]
    jobs = {
        "dots": lambda: bank.dots(v, indices).sum().backward(),
        "nearest": lambda: bank.nearest(v.detach(), 4096),
        "update": lambda: bank.update(own, v.detach()),
    }
    seconds = medians(turns(jobs, options.rounds, options.device, warmup=1))
    memory = [rows * 512 / ranks / 2**20 + rows * 4 / 2**20 for ranks in (1, 8, 64)]  # each rank has all clusters
    return [f"{rows:,}", *(1000 * value for value in seconds.values()), *memory]


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    title = f"Training, {options.dtype}, bank of {options.rows:,} rows"
    table = Table(
        title,
        ["recipe", "batch size", "IR: clips/s", "outside the encoder, %", "LA: clips/s", "outside the encoder, %"]
        + ["encoder: GFLOP/s", "GiB"],
    )
    readers = Table(
        "Fed by workers",
        ["recipe", "read from", "workers", "in memory: clips/s", "trained: clips/s", "over that in memory"]
        + ["waiting, %", "without the network: clips/s", "GB"],
    )
    banks = Table(
        "The memory bank, 64 clips",
        ["rows", "4097 dot products, ms", "nearest 4096, ms", "update, ms", *(f"MiB per rank, of {n}" for n in (1, 8, 64))],
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in options.recipes:
            try:
                table.rows.append(steps(make_run(name, Path(folder), options), options))
            except WrongArithmeticError as error:
                table.rows.append([name, str(error), *[None] * 6])
            if options.list:
                readers.rows += fed(name, Path(folder), options)
    if options.bank:
        banks.rows += [bank_costs(rows, options) for rows in (options.rows, 1_000_000, 10_000_000)]
    report("train", options.device, [found for found in (table, readers, banks) if found.rows], options.out)
