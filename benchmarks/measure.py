"""Times jobs in turns and reports the results."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def turns(jobs: dict[str, Callable[[], Any]], rounds: int, device: str = "cpu", warmup: int = 2) -> dict[str, list[float]]:
    """Returns the seconds of every job in every round; the jobs take turns, after `warmup` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(-warmup, rounds):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def ratio(seconds: dict[str, list[float]], job: str, other: str) -> float:
    """Returns the median over rounds of one job's time divided by another's."""
    return statistics.median(a / b for a, b in zip(seconds[job], seconds[other], strict=True))


@dataclasses.dataclass
class Table:
    """A table of results. JSON has its values in full, Markdown rounds them to three digits."""

    title: str
    columns: list[str]
    rows: list[list[Any]] = dataclasses.field(default_factory=list)

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"{self.title}\n\n" + "".join(f"| {' | '.join(map(_shown, line))} |\n" for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value)


def machine(device: str) -> dict[str, Any]:
    """Returns the facts about this machine that the numbers depend on."""
    with Path("/proc/cpuinfo").open() as file:
        facts = dict(line.split(":", 1) for line in file if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "processor": facts.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "instructions": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def write(name: str, device: str, tables: list[Table], out: Path, details: Any = None) -> str:
    """Writes the tables to OUT/<name>.json and OUT/<name>.md, and returns the Markdown."""
    where = machine(device)
    line = ", ".join(f"{key} {' '.join(value) if isinstance(value, list) else value}" for key, value in where.items() if value)
    text = "\n".join([f"{line}\n", *(table.markdown() for table in tables)])
    out.mkdir(parents=True, exist_ok=True)
    content = {"machine": where, "tables": [dataclasses.asdict(table) for table in tables], "details": details}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / f"{name}.md").write_text(text)
    return text


def report(name: str, device: str, tables: list[Table], out: Path, details: Any = None) -> None:
    """Writes the tables as `write` does, and prints them."""
    print(write(name, device, tables, out, details))


def add_common(parser: Any, rounds: int) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for JSON, Markdown and pictures")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"), help="device to measure"
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="measurements of each job")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="PyTorch's CPU threads")
