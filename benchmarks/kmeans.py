"""Measures k-means on as many rows as a memory bank has, next to faiss (on CPU) if it is installed."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F

from vie_models.bank.clustering import kmeans

from .measure import Table, add_common, medians, ratio, report, turns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=1)
    parser.add_argument("--rows", type=int, default=240_000, help="vectors to cluster")
    parser.add_argument("--clusters", type=int, default=10_000, help="number of clusters")
    parser.add_argument("--iterations", type=int, default=20, help="k-means iterations")


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    centers = F.normalize(torch.randn(options.clusters // 4, 128), dim=1)
    rows = F.normalize(centers[torch.randint(len(centers), (options.rows,))] + 0.08 * torch.randn(options.rows, 128), dim=1)
    on_device = rows.to(options.device)
    distances = {}

    def ours() -> None:
        distances["vie_models"] = float(kmeans(on_device, options.clusters, iterations=options.iterations).objective)

    jobs = {"vie_models": ours}
    try:
        import faiss
    except ImportError:
        print("no comparison, because faiss is not installed: pip install faiss-cpu")
    else:
        faiss.omp_set_num_threads(options.threads)

        def theirs() -> None:
            clustering = faiss.Clustering(128, options.clusters)
            clustering.niter, clustering.min_points_per_centroid = options.iterations, 1
            clustering.max_points_per_centroid = options.rows
            index = faiss.IndexFlatL2(128)
            clustering.train(rows.numpy(), index)
            distances["faiss"] = float(index.search(rows.numpy(), 1)[0].sum())

        jobs["faiss"] = theirs
    seconds = turns(jobs, options.rounds, options.device, warmup=0)
    title = f"k-means, {options.rows:,} x 128, {options.clusters:,} clusters, {options.iterations} iterations"
    table = Table(title, ["by", "s", "time over faiss's", "sum of squared distances, over faiss's"])
    for name, median in medians(seconds).items():
        against = [ratio(seconds, name, "faiss"), distances[name] / distances["faiss"]] if "faiss" in jobs else [None, None]
        table.rows.append([name, median, *against])
    report("kmeans", options.device, [table], options.out, seconds)
