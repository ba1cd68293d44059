"""Measures forward passes: every encoder next to its convolutions alone and to comparable torchvision models.

"convolutions" is the lower bound: only the encoder's convolutions, one after the other, each with its own input in its fastest
layout (planes or channels last, weights packed in advance). "eager" is the model from create_model, "torch.nn" the same with
plain torch.nn convolutions, and "fused" is model.fuse(). "onnxruntime" and "AOTInductor" run the programs of
vie.export_model, which also normalize the pixels. "off by" is the largest difference to eager's embeddings, over their
largest number. Peers are torchvision's video models on 16 frames of 112 pixels, or resnet18 on 224 pixels for single-frame
encoders. Peak matmul and convolution speeds are measured in the same rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import vie_models as vie
from vie_models.devices import to_channels_last
from vie_models.models import build_model
from vie_models.models import conv as conv_module

from .measure import Table, add_common, medians, ratio, report, turns

VIDEO_PEERS = ("r3d_18", "mc3_18", "r2plus1d_18")
FRAME_PEERS = ("resnet18",)
VARIANTS = ("eager", "torch.nn", "fused", "compiled", "bf16", "fused bf16", "compiled bf16", "onnxruntime", "AOTInductor")
PROGRAMS = {"onnxruntime": "{}.onnx", "AOTInductor": "{}.pt2"}
"""Names of the files that some variants run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=9)
    parser.add_argument("--models", nargs="+", default=vie.list_models(), help="models to run")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=["eager", "torch.nn", "fused", "compiled", "bf16", "fused bf16"],
        help="variants of each model",
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1], help="clips per forward pass")
    parser.add_argument("--frames", nargs="+", type=int, default=[0], help="frames per clip (0: the model's)")
    parser.add_argument("--no-peers", action="store_true", help="leave torchvision's models out")
    parser.add_argument("--channels-last", action="store_true", help="channels-last weights and clips (for GPUs)")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory, each time in a new process (Linux)")
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "VARIANT"), help=argparse.SUPPRESS)


def build(name: str, batch: int, frames: int = 0) -> tuple[torch.nn.Module, Tensor]:
    """Returns the model in evaluation mode and a batch for it, the same weights and pixels every time."""
    torch.manual_seed(0)
    if name in VIDEO_PEERS:
        return getattr(torchvision.models.video, name)().eval(), torch.randn(batch, 3, 16, 112, 112)
    if name in FRAME_PEERS:
        return getattr(torchvision.models, name)().eval(), torch.randn(batch, 3, 224, 224)
    model = build_model(name).eval()
    spec = model.clip_spec
    return model, vie.clip_transform(spec).normalize(frames_of(spec, batch, frames).movedim(-1, 2))


def frames_of(spec: vie.ClipSpec, batch: int, frames: int) -> Tensor:
    """uint8 [B, T, H, W, 3], the same every time."""
    shape = (batch, frames or spec.num_frames, spec.crop, spec.crop, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def flops(model: torch.nn.Module, x: Tensor) -> int:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(x)
    return int(counter.get_total_flops())


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Makes models use plain torch.nn convolutions."""
    least = conv_module.LEAST_WORK
    conv_module.LEAST_WORK = math.inf
    try:
        yield
    finally:
        conv_module.LEAST_WORK = least


def variant(name: str, kind: str, batch: int, frames: int, options: argparse.Namespace) -> Callable[[], Tensor]:
    """Returns a function that runs one forward pass of the given variant."""
    model, x = build(name, batch, frames)
    if kind in PROGRAMS:
        return program(model, frames_of(model.clip_spec, batch, frames), kind, options)
    if kind.startswith("fused"):
        model = model.fuse()
    if kind.endswith("bf16"):
        model, x = model.bfloat16(), x.bfloat16()
    model, x = model.to(options.device), x.to(options.device)
    if options.channels_last:
        model, x = in_channels_last(model, x)
    if kind.startswith("compiled"):
        torch._inductor.config.freezing = (
            options.device == "cpu"
        )  # converts weight layouts once; passed to torch.compile it has no effect
        model = torch.compile(model)

    def run() -> Tensor:
        with torch.inference_mode(), plain() if kind == "torch.nn" else contextlib.nullcontext():
            return model(x)

    return run


def in_channels_last(model: Any, x: Tensor | None = None) -> tuple[Any, Any]:
    """Returns the model, whose convolutions may be 2-D or 3-D, and a batch, both with channels last in memory."""
    to_channels_last(model)
    if x is not None:
        x = x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    return model, x


def program(model: Any, clips: Tensor, kind: str, options: argparse.Namespace) -> Callable[[], Tensor]:
    """Returns a function that runs the model's program for uint8 clips [B, T, H, W, 3]; its file is kept under options.out."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / PROGRAMS[kind].format(model.model_name)
    model.clip_spec = dataclasses.replace(model.clip_spec, num_frames=clips.shape[1])
    if kind == "AOTInductor":
        exported_path = path.with_suffix(".exported.pt2")
        vie.export_model(model.to(options.device), exported_path)
        package = torch._inductor.aoti_compile_and_package(
            torch.export.load(exported_path),
            package_path=str(path),
            inductor_configs={"freezing": options.device == "cpu"},
        )
        compiled, clips = torch._inductor.aoti_load_package(package), clips.to(options.device)
        return lambda: compiled(clips)["output"]
    import onnxruntime

    vie.export_model(model, path, format="onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.add_session_config_entry("session.force_spinning_stop", "1")  # threads that wait would slow the next in turn
    provider = "CUDAExecutionProvider" if options.device == "cuda" else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(path, settings, providers=[provider])
    pixels = {"clips": clips.numpy()}
    return lambda: torch.from_numpy(session.run(None, pixels)[0])


def bare_convolutions(model: torch.nn.Module, x: Tensor, device: str) -> tuple[Callable[[], None], float]:
    """Returns a function that runs a forward pass's convolutions, each in its fastest layout, and the best FLOP/s of one."""
    calls: list[tuple[Any, Tensor]] = []
    handles = [
        module.register_forward_pre_hook(lambda module, inputs: calls.append((module, inputs[-1])))
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)
    ]
    with torch.inference_mode():
        model(x)
    for handle in handles:
        handle.remove()
    jobs, best = [], 0.0
    for conv, given in calls:
        ways = _ways(conv, given, device)
        seconds = medians(turns(ways, 5, device))
        fastest = min(seconds, key=seconds.__getitem__)
        jobs.append(ways[fastest])
        work = 2 * ways[fastest]().numel() * conv.weight[0].numel()
        best = max(best, work / seconds[fastest])

    def run() -> None:
        for job in jobs:
            job()

    return run, best


def _ways(conv: Any, x: Tensor, device: str) -> dict[str, Callable[[], Tensor]]:
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    convolve = F.conv2d if x.ndim == 4 else F.conv3d
    weight = conv.weight.detach()
    planes, lasts, weight_last = x.contiguous(), x.contiguous(memory_format=last), weight.contiguous(memory_format=last)

    def plain_way(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.inference_mode():
                return convolve(x, weight, None, conv.stride, conv.padding)

        return run

    ways = {"planes": plain_way(planes, weight), "channels last": plain_way(lasts, weight_last)}
    if device == "cpu" and conv_module._packing_works(x.dtype):
        packed = conv_module._pack(conv, lasts, weight)

        def run_packed() -> Tensor:
            with torch.inference_mode():
                return conv_module._convolve(conv, lasts, packed)

        ways["channels last, packed"] = run_packed
    return ways


def matmul(device: str, dtype: torch.dtype, size: int | None = None) -> tuple[Callable[[], Tensor], float]:
    """Returns a function that runs a large matrix product, and its FLOPs."""
    size = size or (2048 if device == "cpu" else 8192)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: a @ b, 2 * size**3


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    if options.memory_of:
        name, kind = options.memory_of
        print(peak_memory(name, kind, options))
        return
    columns = ["model", "clips", "frames", "way", "s/clip", "least", "most", "GFLOP", "GFLOP/s", "over convolutions"]
    table = Table("Forward", [*columns, "s/GFLOP over the best peer's", "off by", "file MB", "peak MB", "over torch.nn"])
    details = []
    for name in options.models:
        for batch in options.batch:
            for frames in options.frames:
                rows, seconds = measured(name, batch, frames, options)
                table.rows += rows
                details.append({"model": name, "clips": batch, "frames": frames, "seconds": seconds})
                for row in rows:
                    print(row, flush=True)
    report("forward", options.device, [table], options.out, details)
    draw(table, options.out / "forward.png")


def measured(name: str, batch: int, frames: int, options: argparse.Namespace) -> tuple[list[list[Any]], dict[str, list[float]]]:
    """Returns the rows of one encoder and the seconds of its jobs; variants, convolutions and peers take turns."""
    torch._dynamo.reset()
    model, x = build(name, batch, frames)
    gflop = flops(model, x) / 1e9
    model, x = model.to(options.device), x.to(options.device)
    jobs: dict[str, Callable[[], Any]] = {kind: variant(name, kind, batch, frames, options) for kind in options.variants}
    with torch.inference_mode():
        expected = model(x)
        off = {kind: float((jobs[kind]().float() - expected).abs().max() / expected.abs().max()) for kind in options.variants}
    jobs["convolutions"], best = bare_convolutions(model, x, options.device)
    jobs["matmul"], work = matmul(options.device, torch.float32)
    alone = ["matmul"]
    if any(kind.endswith("bf16") for kind in options.variants):
        jobs["convolutions bf16"], _ = bare_convolutions(model.bfloat16(), x.bfloat16(), options.device)
        jobs["matmul bf16"], _ = matmul(options.device, torch.bfloat16)
        alone.append("matmul bf16")
    files = {kind: options.out / PROGRAMS[kind].format(name) for kind in options.variants if kind in PROGRAMS}
    peers = FRAME_PEERS if getattr(model, "stem", None) and isinstance(model.stem.conv, torch.nn.Conv2d) else VIDEO_PEERS
    if options.no_peers:
        peers = ()
    costs = {}
    for peer in peers:
        costs[peer] = flops(*build(peer, batch)) / 1e9
        jobs[peer] = variant(peer, "eager", batch, 0, options)
    seconds = turns(jobs, options.rounds, options.device)
    median = medians(seconds)
    best_peer = min((median[peer] / costs[peer] for peer in peers), default=None)
    rows: list[list[Any]] = []
    for kind in [*options.variants, *(name for name in jobs if name.startswith("conv")), *peers, *alone, "best convolution"]:
        if kind == "best convolution":
            rows.append([name, None, None, kind, None, None, None, None, best / 1e9, *[None] * 6])
            continue
        cost = work / 1e9 if kind in alone else costs.get(kind, gflop)
        times, share = seconds[kind], 1 if kind in alone else batch
        bound = "convolutions bf16" if kind.endswith("bf16") else "convolutions"
        memory = measured_memory(name, kind, options) if options.memory and kind in options.variants else None
        rows.append(
            [
                name if kind not in peers else f"({name})",
                batch,
                x.shape[2],
                kind,
                *(value / share for value in (median[kind], min(times), max(times), cost)),
                cost / median[kind],
                ratio(seconds, kind, bound) if kind in options.variants else None,
                median[kind] / cost / best_peer if best_peer and kind in options.variants else None,
                off.get(kind),
                files[kind].stat().st_size / 1e6 if kind in files else None,
                memory,
                ratio(seconds, kind, "torch.nn") if {kind, "torch.nn"} <= set(options.variants) else None,
            ]
        )
    return rows, seconds


def peak_memory(name: str, kind: str, options: argparse.Namespace) -> float:
    """Returns the peak MB of one forward pass, beyond the process without the model; on CUDA, PyTorch's peak allocation."""
    before = _status_mb("VmRSS")
    forward = variant(name, kind, options.batch[0], 0, options)
    forward()  # compiles the model and packs its weights
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        forward()
        return torch.cuda.max_memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    forward()
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measured_memory(name: str, kind: str, options: argparse.Namespace) -> float | None:
    command = [sys.executable, "-m", "benchmarks", "forward", "--memory-of", name, kind, "--device", options.device]
    command += ["--threads", str(options.threads), "--batch", str(options.batch[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def draw(table: Table, path: Path) -> None:
    """Draws GFLOP/s next to the machine's peak and, for several batch sizes, clips per second. Needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture, because matplotlib is not installed")
        return
    own = [row for row in table.rows if row[3] == "eager"]
    several = len({row[1] for row in own}) > 1
    figure = Figure(figsize=(12 if several else 7, 4.5), layout="constrained")
    *throughput, roofline = figure.subplots(1, 1 + several, squeeze=False)[0]
    for axes in throughput:
        for name, frames in dict.fromkeys((row[0], row[2]) for row in own):
            points = sorted((row[1], 1 / row[4]) for row in own if (row[0], row[2]) == (name, frames))
            axes.plot(*zip(*points, strict=True), marker="o", label=f"{name}, {frames} frames")
        axes.set(xlabel="clips per forward pass", ylabel="clips/s", yscale="log", title="Throughput")
        axes.legend(fontsize=7)
    names = [f"{row[0]}, {row[1]} x {row[2]}" for row in own]
    roofline.barh(names, [row[8] for row in own], color="tab:blue")
    for kind, color in (("matmul", "tab:red"), ("best convolution", "tab:green")):
        peak = max(row[8] for row in table.rows if row[3] == kind)
        roofline.axvline(peak, color=color, label=f"{kind}, highest measured")
    roofline.set(xlabel="GFLOP/s", title="Achieved speed and the machine's peak")
    roofline.invert_yaxis()
    roofline.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")
