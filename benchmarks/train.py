"""What training costs: `python benchmarks/train.py [--recipes NAME...] [--rows N] [--list LIST --root FOLDER] [--kmeans]`.

For each recipe, at its batch size or --batch, with clips in memory: clips a second of whole steps of IR and of LA, and the
share of a step that is spent outside the encoder's forward and backward. With a list of videos, also what its workers deliver,
and steps fed by them. `--bank`: what a step costs in the memory bank alone, as it grows. `--kmeans`: a clustering, beside faiss
where it is installed. What is compared takes turns; medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vie_models.train.data import Batch
from vie_models.train.kmeans import kmeans
from vie_models.train.memory_bank import MemoryBank
from vie_models.train.precision import WrongArithmeticError
from vie_models.train.recipes import RECIPES, recipe
from vie_models.train.run import Run

EPOCH = 20  # iterations of a clustering


def turns(jobs: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each job; they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def make_run(name: str, folder: Path, options: argparse.Namespace, **settings: Any) -> Run:
    """A run over as many videos as the bank has rows; they are not read."""
    listing = folder / "list"
    if not listing.exists():
        listing.write_text("".join(f"{i}.mp4\n" for i in range(options.rows)))
    changes: dict[str, Any] = {"noise": 4096}  # the paper's: the small recipes take all rows, which are few there
    changes |= {"batch_size": options.batch} if options.batch else {}
    changes |= {"dtype": options.dtype, "channels_last": options.channels_last, "compile": options.compile}
    values = {"train_list": listing, "out": folder / name, "device": options.device, "workers": 0, **changes, **settings}
    return Run(recipe(name, **values))


def clips_in_memory(run: Run) -> Batch:
    """A batch of noise."""
    spec, size = run.model.clip_spec, run.config.batch_size
    frames = torch.randint(0, 256, (size, spec.num_frames, 3, spec.crop, spec.crop), dtype=torch.uint8)
    return Batch(frames, torch.randperm(len(run.videos))[:size], [])


def steps(run: Run, options: argparse.Namespace) -> str:
    """A row of the table."""
    batch = clips_in_memory(run)
    objective: Any = run.objective
    objective.clusters = torch.randint(run.config.clusters, (1, len(run.videos)), device=run.ranks.device)

    def encoder() -> None:
        run.optimiser.zero_grad(set_to_none=True)
        run._forward(batch.frames).sum().backward()

    def step(number: int) -> Callable[[], None]:
        def make() -> None:
            run.step = number
            run.train_step(batch)

        return make

    local = (run.config.ir_steps // objective.recluster_every + 2) * objective.recluster_every + run.config.ir_steps + 1
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = turns({"encoder": encoder, "IR": step(0), "LA": step(local)}, options.rounds, options.device)
    size = run.config.batch_size
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if options.device == "cuda" else "-"
    shares = [f"{size / seconds[kind]:.2f} | {1 - seconds['encoder'] / seconds[kind]:.1%}" for kind in ("IR", "LA")]
    return f"| {run.config.model} | {size} | {' | '.join(shares)} | {memory} |"


def fed(name: str, folder: Path, options: argparse.Namespace) -> str:
    """Clips a second that the workers deliver, and of steps fed by them."""
    settings = {"train_list": options.list, "root": options.root, "ir_steps": 10**9, "steps": 10**9, "workers": options.workers}
    run = make_run(name, folder, options, **settings)
    batches, size = run.batches(), run.config.batch_size
    seconds = {}
    for kind, work in (("delivered", lambda batch: None), ("trained", run.train_step)):
        for _ in range(2 + options.workers):  # what was ready before
            work(next(batches))
        began = time.perf_counter()
        for _ in range(options.rounds * 3):
            work(next(batches))
        seconds[kind] = (time.perf_counter() - began) / (options.rounds * 3)
    return f"| {name} | {options.workers} | {size / seconds['delivered']:.1f} | {size / seconds['trained']:.1f} |"


def bank_costs(rows: int, options: argparse.Namespace) -> str:
    """One step's operations on the bank, for 64 clips: 4097 products each, the 4096 nearest, the update."""
    from vie_models.train.distributed import World

    bank = MemoryBank(rows, world=World(device=options.device))
    v = F.normalize(torch.randn(64, 128, device=options.device), dim=1).requires_grad_()
    indices = torch.randint(rows, (64, 4097), device=options.device)
    own = torch.randperm(rows, device=options.device)[:64]
    jobs = {
        "dots": lambda: bank.dots(v, indices).sum().backward(),
        "nearest": lambda: bank.nearest(v.detach(), 4096),
        "update": lambda: bank.update(own, v.detach()),
    }
    seconds = turns(jobs, options.rounds, options.device)
    memory = [f"{rows * 516 / ranks / 2**20:.0f}" for ranks in (1, 8, 64)]  # a row, and its cluster on every rank
    return f"| {rows:,} | {' | '.join(f'{1000 * s:.1f}' for s in seconds.values())} | {' | '.join(memory)} |"


def clustering(options: argparse.Namespace) -> None:
    """k-means of as many rows as the bank has, in 10,000 clusters, ours and faiss's."""
    centres = F.normalize(torch.randn(2500, 128), dim=1)
    rows = F.normalize(centres[torch.randint(2500, (options.rows,))] + 0.08 * torch.randn(options.rows, 128), dim=1)
    clusters = min(10_000, options.rows // 24)
    on_device = rows.to(options.device)
    began = time.perf_counter()
    ours = kmeans(on_device, clusters, iterations=EPOCH)
    seconds = time.perf_counter() - began
    print(f"\nk-means, {options.rows:,} x 128, {clusters} clusters, {EPOCH} iterations: {seconds:.1f} s, {ours.objective:.6g}")
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: pip install faiss-cpu")
        return
    theirs = faiss.Clustering(128, clusters)
    theirs.niter, theirs.max_points_per_centroid, theirs.min_points_per_centroid = EPOCH, options.rows, 1
    index = faiss.IndexFlatL2(128)
    began = time.perf_counter()
    theirs.train(rows.numpy(), index)
    other = time.perf_counter() - began
    objective = float(index.search(rows.numpy(), 1)[0].sum())
    print(
        f"faiss {faiss.__version__} on CPU: {other:.1f} s, {objective:.6g}; ours over theirs: time {seconds / other:.2f}, ",
        end="",
    )
    print(f"sum of squared distances {ours.objective / objective:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--rows", type=int, default=240_000, help="videos, and rows of the memory bank")
    parser.add_argument("--batch", type=int, help="clips a step (default: the recipe's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--list", type=Path, help="list file of real videos")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kmeans", action="store_true")
    parser.add_argument("--bank", action="store_true")
    options = parser.parse_args()
    kind = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"PyTorch {torch.__version__}, {kind}, {options.dtype}, bank of {options.rows:,} rows")
    with tempfile.TemporaryDirectory() as folder:
        print("\n| recipe | clips a step | IR: clips/s | outside the encoder | LA: clips/s | outside the encoder | GiB |")
        print("|---|---|---|---|---|---|---|")
        for name in options.recipes:
            try:
                print(steps(make_run(name, Path(folder), options), options), flush=True)
            except WrongArithmeticError as error:
                print(f"| {name} | {error} |")
        if options.list:
            print("\n| recipe | workers | clips/s they deliver | clips/s of steps fed by them |\n|---|---|---|---|")
            for name in options.recipes:
                print(fed(name, Path(folder), options), flush=True)
    if options.bank:
        print(
            "\n| rows | products, ms | nearest, ms | update, ms | MiB a rank: 1 | of 8 | of 64 |\n|---|---|---|---|---|---|---|"
        )
        for rows in (options.rows, 1_000_000, 10_000_000):
            print(bank_costs(rows, options), flush=True)
    if options.kmeans:
        clustering(options)


if __name__ == "__main__":
    main()
