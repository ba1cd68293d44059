"""Seconds a clip, GFLOP/s and peak memory of every encoder, beside torchvision's r3d_18: `python benchmarks/forward.py`.

For each model the variants (eager, compiled, bf16) and r3d_18 take turns in one process, and medians are printed, with
the ratio to r3d_18's median of the same turns. "torch.nn" is eager with plain torch.nn convolutions, what the encoder would
cost without models/conv.py. Peak memory is of one forward, weights included, in a process of its own, above that process
with its imports done (on CUDA: what PyTorch allocated).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision

import vie_models as vie
from vie_models.models import build_model
from vie_models.models import conv as conv_module
from vie_models.models.cost import count_flops

PEER = "r3d_18"
VARIANTS = ("eager", "torch.nn", "compiled", "bf16")
PEER_CLIP = (16, 112)  # frames and pixels that r3d_18's weights are for


def build(name: str, device: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """The model in evaluation mode and one clip for it."""
    if name == PEER:
        model, (frames, size) = torchvision.models.video.r3d_18(), PEER_CLIP
    else:
        model = build_model(name)
        frames, size = model.clip_spec.num_frames, model.clip_spec.crop
    return model.eval().to(device), torch.randn(1, 3, frames, size, size, device=device)


def variant(model: torch.nn.Module, x: torch.Tensor, kind: str, device: str) -> Callable[[], torch.Tensor]:
    """A call of one forward in the given way."""
    if kind == "compiled":
        model = torch.compile(model, options={"freezing": device == "cpu"})  # freezing lays weights out once
    elif kind == "bf16":
        model, x = model.bfloat16(), x.bfloat16()
    can_pack = conv_module._can_pack

    def run() -> torch.Tensor:
        conv_module._can_pack = can_pack if kind != "torch.nn" else lambda conv, x: False
        try:
            with torch.inference_mode():
                return model(x)
        finally:
            conv_module._can_pack = can_pack

    return run


def seconds(run: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(runs: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    for run in runs.values():
        run(), run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return times


def status_mb(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def print_peak_memory(name: str, kind: str, device: str) -> None:
    """For a process of its own: MB at the peak of one forward above the process without the model."""
    before = status_mb("VmRSS")
    model, x = build(name, device)
    run = variant(model, x, kind, device)
    run()  # compiles, packs
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        run()
        print(torch.cuda.max_memory_allocated() / 2**20)
        return
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far (Linux)
    run()
    print(status_mb("VmHWM") - before)


def peak_memory(name: str, kind: str, device: str, threads: int) -> str:
    command = [sys.executable, __file__, "--memory-of", name, kind, "--device", device, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{float(done.stdout):.0f}" if done.returncode == 0 else "n/a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=vie.list_models())
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "VARIANT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print_peak_memory(*args.memory_of, args.device)
        return

    where = platform.processor() or platform.machine() if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {where}, {args.threads} threads, batch 1, medians of {args.rounds} turns\n")
    print("| model | variant | s/clip | min - max | GFLOP | GFLOP/s | time over r3d_18 | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.models:
        torch._dynamo.reset()
        runs = {kind: variant(*build(name, args.device), kind, args.device) for kind in args.variants}
        runs[PEER] = variant(*build(PEER, args.device), "eager", args.device)
        times = take_turns(runs, args.rounds, args.device)
        peer = statistics.median(times[PEER])
        with torch.device("meta"):
            gflop = count_flops(build_model(name).eval()) / 1e9
        for kind in args.variants:
            median = statistics.median(times[kind])
            spread = f"{min(times[kind]):.4f} - {max(times[kind]):.4f}"
            memory = peak_memory(name, kind, args.device, args.threads)
            cost = f"{gflop:.2f} | {gflop / median:.0f} | {median / peer:.3f}"
            print(f"| {name} | {kind} | {median:.4f} | {spread} | {cost} | {memory} |", flush=True)
        print(
            f"| {PEER} (same turns) | eager | {peer:.4f} | {min(times[PEER]):.4f} - {max(times[PEER]):.4f} | | | 1 | |",
            flush=True,
        )


if __name__ == "__main__":
    main()
