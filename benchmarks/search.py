"""Measures search: recall, speed, memory and the time to build, of each kind of index; the exact one beside faiss's flat index.

The rows are synthetic: there is a center on the sphere for every 50 rows. A row is a center plus Gaussian noise as long as it,
normalized; ten rows in turn share a center, and queries are made as rows are. So a row has some tens of near neighbors, as
clips of one subject have, and beyond them all is about equally far. An index is built from a folder of features.
Each step is a process of its own, whose memory counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vie_models.features.folder import FeatureFolder, VideoRecord
from vie_models.search import build_index, open_index

from .measure import Table, add_common, medians, report, turns

DIM, QUERIES, BATCH, K = 128, 200, 100, 10
_PER_CENTER, _SHARED, _NOISE = 50, 10, 1.0
_PER_VIDEO = 1000
_SETTINGS = {"model": "synthetic", "clips": None, "window": None, "stride": 1.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="rows of the indexes")
    parser.add_argument("--kinds", nargs="+", choices=("exact", "ivf", "hnsw"), default=["exact", "ivf", "hnsw"], help="kinds")
    parser.add_argument("--hnsw-most", type=int, default=1_000_000, help="rows up to which hnsw, slow to build, is measured")
    parser.add_argument(
        "--flat-most",
        type=int,
        default=1_000_000,
        help="rows up to which faiss's flat index is measured",
    )
    parser.add_argument("--folder", type=Path, help="folder for features and indexes (default: a temporary one)")
    parser.add_argument("--probes", type=int, nargs="*", default=[], help="more settings of index.faiss.probes to measure")
    parser.add_argument("--step", help=argparse.SUPPRESS)


def centers(rows: int) -> np.ndarray:
    values = np.random.default_rng([1, rows]).standard_normal((max(rows // _PER_CENTER, 1), DIM), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def near(some: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Unit vectors near centers, [n, DIM]."""
    values = some + draws.standard_normal(some.shape, np.float32) * np.float32(_NOISE / DIM**0.5)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def write_features(folder: Path, every: np.ndarray, rows: int) -> None:
    """Writes the videos of all rows."""
    with FeatureFolder(folder, _SETTINGS) as out:
        for start in range(0, rows, _PER_VIDEO):
            count, draws = min(_PER_VIDEO, rows - start), np.random.default_rng([2, start])
            which = draws.integers(len(every), size=-(-count // _SHARED)).repeat(_SHARED)[:count]
            times = np.arange(count, dtype=float)
            arrays = {"embedding": near(every[which], draws), "start": times, "end": times + 1, "looped": times < 0}
            name = f"{start:09d}"
            out.write(VideoRecord(name, name, "ok", clips=count, settings=dict(_SETTINGS)), arrays)


def memory() -> dict[str, float]:
    """MB of this process that belong to it alone, and that are mapped from files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {key: int(lines[key].split()[0]) / 1024 for key in ("RssAnon", "RssFile")}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def build(features: Path, out: Path, kind: str) -> dict[str, Any]:
    began = time.perf_counter()
    index = build_index(features, kind=kind, out=out)
    return {"seconds": time.perf_counter() - began, "peak": peak(), "rows": len(index)}


def search(out: Path, asked: np.ndarray, options: argparse.Namespace, flat: bool) -> dict[str, Any]:
    """Queries per second, one at a time and in batches; rows found; memory."""
    index = open_index(out)
    ways = [(index.kind, None)]
    if index.faiss is not None:
        ways = [(f"{index.kind}, {probes} probes", probes) for probes in (index.faiss.probes, *options.probes)]
    jobs: dict[str, Any] = {}
    found: dict[str, Any] = {}

    def ask(probes: int | None, size: int) -> np.ndarray:
        if index.faiss is not None and probes:
            index.faiss.probes = probes
        parts = np.array_split(asked, len(asked) // size)
        return np.concatenate([index.nearest_rows(part, K)[1] for part in parts])

    for name, probes in ways:
        found[name] = ask(probes, BATCH).tolist()
        jobs[f"{name}|one"] = lambda probes=probes: ask(probes, 1)
        jobs[f"{name}|batch"] = lambda probes=probes: ask(probes, BATCH)
    used = memory()
    if flat:
        import faiss

        faiss.omp_set_num_threads(options.threads)
        theirs = faiss.IndexFlatIP(DIM)
        theirs.add(np.asarray(index.rows))
        found["faiss IndexFlatIP"] = theirs.search(asked, K)[1].tolist()
        jobs["faiss IndexFlatIP|one"] = lambda: [theirs.search(one, K) for one in np.array_split(asked, len(asked))]
        jobs["faiss IndexFlatIP|batch"] = lambda: [
            theirs.search(part, K) for part in np.array_split(asked, len(asked) // BATCH)
        ]
    seconds = turns(jobs, options.rounds, warmup=0)
    return {"per second": {name: QUERIES / value for name, value in medians(seconds).items()}, "found": found, **used}


def step(options: argparse.Namespace) -> None:
    """What a process of its own does."""
    torch.set_num_threads(options.threads)
    name, rows, kind = options.step.split(",")
    features, out = options.folder / f"features-{rows}", options.folder / f"{kind}-{rows}"
    draws = np.random.default_rng([3, int(rows)])
    every = centers(int(rows))
    asked = near(every[draws.integers(len(every), size=QUERIES)], draws)
    if kind != "exact" or name == "search":
        import contextlib

        with contextlib.suppress(ImportError):
            import faiss

            faiss.omp_set_num_threads(options.threads)
    if name == "write":
        write_features(features, every, int(rows))
        result: dict[str, Any] = {}
    elif name == "build":
        result = build(features, out, kind)
    else:
        result = search(out, asked, options, kind == "exact" and int(rows) <= options.flat_most)
    print(json.dumps(result))


def run(options: argparse.Namespace) -> None:
    if options.step:
        step(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(parents=True, exist_ok=True)
        measure(options)


def measure(options: argparse.Namespace) -> None:
    def done(name: str, rows: int, kind: str) -> dict[str, Any]:
        flags = ["--rounds", str(options.rounds), "--threads", str(options.threads), "--flat-most", str(options.flat_most)]
        flags += ["--folder", str(options.folder), "--step", f"{name},{rows},{kind}"]
        flags += ["--probes", *map(str, options.probes)] if options.probes else []
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks", "search", *flags], stdout=subprocess.PIPE, text=True, check=True
        )
        return json.loads(ran.stdout.splitlines()[-1])

    title = f"search, rows of {DIM}, {QUERIES} queries"
    speed = Table(title, ["rows", "index", "recall@10", "queries/s, one at a time", f"queries/s, batches of {BATCH}"])
    size = Table(
        "built from a folder of features",
        ["rows", "index", "build, s", "peak of the build, MB", "own MB of a search", "mapped MB"],
    )
    details = {}
    for rows in options.rows:
        done("write", rows, "-")
        kinds = [kind for kind in options.kinds if kind != "hnsw" or rows <= options.hnsw_most]
        truth: np.ndarray | None = None
        for kind in kinds:
            built, searched = done("build", rows, kind), done("search", rows, kind)
            details[f"{kind} {rows}"] = {"build": built, "per second": searched["per second"]}
            for way, found in searched["found"].items():
                truth = np.array(found) if truth is None else truth
                recall = np.mean(
                    [len(set(a) & set(b)) / K for a, b in zip(np.array(found).tolist(), truth.tolist(), strict=True)]
                )
                speeds = [searched["per second"][f"{way}|{how}"] for how in ("one", "batch")]
                speed.rows.append([rows, way, float(recall) if "exact" in kinds else None, *speeds])
            size.rows.append([rows, kind, built["seconds"], built["peak"], searched["RssAnon"], searched["RssFile"]])
            shutil.rmtree(options.folder / f"{kind}-{rows}")
    report("search", "cpu", [speed, size], options.out, details)
