"""Checks and measures everything that training and extraction do on a GPU, in a few minutes.

Results are compared with the CPU's and the original's, and "wrong" says what is beyond its tolerance; then come rates of
training and extraction. No videos are needed: clips are random pixels, or frames of drifting noise in a JPEG pack. Each part
has a share of the minutes, and what it does not use is for the next ones; a part that is out of time is left where it is.
Results are printed and written as they come. It needs neither av nor tyro.

With --paper, it only prints what the paper's runs would cost, computed (docs/training.md).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import vie_models as vie
from vie_models.bank.clustering import kmeans
from vie_models.bank.memory_bank import MemoryBank
from vie_models.bank.ranks import World
from vie_models.bank.voting import knn_of_rows
from vie_models.datasets.pack import Packing
from vie_models.features import extractor as extractor_module
from vie_models.features.extractor import Extractor
from vie_models.models import build_model, model_entry
from vie_models.models.precision import WrongArithmeticError, check_convolutions, cudnn_fault
from vie_models.train import pretrain, recipe
from vie_models.train import run as run_module
from vie_models.video.color_jitter import draw_colors
from vie_models.video.packed import PackHeader
from vie_models.video.transforms import COLOR_CHANGES, short_sides

from . import paper
from .forward import in_channels_last, matmul
from .measure import Table, add_common, medians, report, turns, write
from .train import bank_costs, make_run, one_turn, steps

RECIPES = ["vie_3dresnet", "vie_slowfast", "vie_single", "vie_slow", "vie_trn"]
TINY = ["vie_3dresnet_tiny", "vie_slowfast_tiny", "vie_single_tiny"]
EXACT, HALF = 1e-4, 0.05
"""Largest relative error of an embedding in float32, and in TF32 or bfloat16."""
_TESTS = Path(__file__).parents[1] / "tests"
_RUN = "import json, sys; from vie_models.train import TrainConfig, pretrain; "
_RUN += "pretrain(TrainConfig.from_dict(json.loads(sys.argv[1])), progress=False)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, rounds=7)
    parser.add_argument("--minutes", type=float, default=8, help="time for all parts")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, to try this command, also on a CPU")
    paper.add_arguments(parser)


class OutOfTime(BaseException):
    """A part has used its time. No `except Exception` on the way catches it."""


class Day:
    """The options, and what was found so far.

    Attributes:
        dry: whether sizes are tiny.
        peak: FLOP/s of a large matrix product in bfloat16.
        wrong: what is beyond its tolerance, or failed.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.device, self.dry = options, folder, options.device, options.dry
        self.tables: dict[str, Table] = {}
        self.wrong = Table("Wrong, failed, or out of time", ["part", "what"])
        self.peak: float | None = None
        self._began = time.monotonic()

    def table(self, part: str, title: str, columns: list[str]) -> Callable[..., None]:
        """Returns a function that adds a row to a new table, prints it and writes all that was found."""
        table = self.tables[f"{part}: {title}"] = Table(title, columns)

        def add(*row: Any) -> None:
            table.rows.append(list(row))
            shown = ", ".join(f"{column} {_short(value)}" for column, value in zip(columns, row, strict=True))
            print(f"[{time.monotonic() - self._began:4.0f} s] {part}: {shown}", flush=True)
            self.write()

        return add

    def fault(self, part: str, what: str) -> None:
        self.wrong.rows.append([part, what])
        print(f"[{time.monotonic() - self._began:4.0f} s] {part}: WRONG: {what}", flush=True)
        self.write()

    def expect(self, right: bool, part: str, what: str) -> None:
        if not right:
            self.fault(part, what)

    def found(self) -> list[Table]:
        return [*(table for table in self.tables.values() if table.rows), self.wrong]

    def write(self) -> None:
        write("gpu", self.device, self.found(), self.options.out)

    def settings(self, **changes: Any) -> argparse.Namespace:
        """Returns the options of `python -m benchmarks train`."""
        values: dict[str, Any] = dict(device=self.device, dtype="auto", channels_last=False, compile=False, root=Path())
        values |= dict(rows=240_000, batch=None, rounds=self.options.rounds, seconds=1.5)
        values |= dict(rows=20_000, batch=4, rounds=1, seconds=0.1) if self.dry else {}
        return argparse.Namespace(**values | changes)

    def models(self, names: Sequence[str], tiny: Sequence[str] = ("vie_single_tiny",)) -> Sequence[str]:
        return tiny if self.dry else names

    def pack(self, name: str) -> Path:
        """Returns a JPEG pack with frames as large as a model's recipe asks for."""
        side = short_sides(model_entry(name).clip_spec)[1]
        out = self.folder / f"pack-{side}"
        if not out.exists():
            listing = self.videos()
            header = PackHeader("jpeg", side, 90)
            Packing(listing, out, root=listing.parent, header=header).write(workers=0 if self.dry else os.cpu_count() or 1)
        return out

    def videos(self) -> Path:
        """Returns a list of folders of JPEG frames: noise that drifts, one of four textures each."""
        from torchvision.io import write_jpeg

        folder = self.folder / "videos"
        listing = folder / "list"
        if listing.exists():
            return listing
        videos, frames, height = (16, 18, 96) if self.dry else (160, 40, 320)
        generator = torch.Generator().manual_seed(0)
        textures = torch.rand(4, 3, 12, 16, generator=generator)
        for video in range(videos):
            (folder / f"{video:03d}").mkdir(parents=True)
            large = F.interpolate(textures[None, video % 4], (height, height * 4 // 3), mode="bicubic")[0]
            large = 255 * large + 20 * torch.randn(large.shape, generator=generator)
            for frame in range(frames):
                pixels = torch.roll(large, (1 + video % 3) * frame, 2).clamp(0, 255).byte()
                write_jpeg(pixels, str(folder / f"{video:03d}" / f"{frame + 1:06d}.jpg"))
        listing.write_text("".join(f"{video:03d} {frames} {video % 4}\n" for video in range(videos)))
        return listing


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def relative(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().float().cpu(), expected.detach().float().cpu()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


@contextlib.contextmanager
def tf32(on: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


# --- parts: where we are, and whether it is right -------------------------------------------------------------------------


def machine(day: Day) -> None:
    """Versions, and the best that the machine does."""
    cuda = day.device == "cuda"
    add = day.table("machine", "The machine", ["fact", "value"])
    add("CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}")
    shared = shutil.disk_usage("/dev/shm").total / 2**30
    add("cores, GiB of shared memory", f"{len(os.sched_getaffinity(0))}, {shared:.1f}")
    if cuda:
        add("GiB of the GPU", torch.cuda.get_device_properties(0).total_memory / 2**30)
        if (fault := cudnn_fault()) is not None:
            day.fault("machine", fault)
    for dtype in (torch.float32, torch.bfloat16):
        job, work = matmul(day.device, dtype, size=256 if day.dry else None)
        seconds = medians(turns({"": job}, day.options.rounds, day.device))[""]
        add(f"matrix product, {str(dtype)[6:]}, TFLOP/s", work / seconds / 1e12)
        day.peak = work / seconds
    size = 1 << (20 if day.dry else 28)
    host, there = torch.zeros(size, dtype=torch.uint8), torch.zeros(size, dtype=torch.uint8, device=day.device)
    hosts = {"pageable": host} | ({"pinned": host.pin_memory()} if cuda else {})
    jobs: dict[str, Callable[[], Any]] = {
        f"copy from {kind} memory, GB/s": lambda x=x: there.copy_(x) for kind, x in hosts.items()
    }
    jobs["read and written on the device, GB/s"] = lambda: there.add_(1)
    for name, seconds in medians(turns(jobs, day.options.rounds, day.device)).items():
        add(name, (1 + name.startswith("read")) * size / seconds / 1e9)


def forward(day: Day) -> None:
    """Every encoder beside the CPU in float32."""
    kinds = ["float32", "TF32", "bfloat16", "channels last", "channels last, bfloat16", "fused"]
    add = day.table("forward", "Relative error of embeddings, to the CPU's", ["model", *kinds])
    names = [name for name in vie.list_models() if not name.endswith("_small")]
    for name in day.models(names, ["vie_single_tiny", "vie_slowfast_tiny"]):
        model, x = clip_of(name)
        with torch.inference_mode():
            expected = model(x)
            model, x = model.to(day.device), x.to(day.device)
            found = {}
            half = torch.autocast(day.device, torch.bfloat16)
            with tf32(False):
                found["float32"], found["fused"] = model(x), model.fuse()(x)
            with tf32(True):
                found["TF32"] = model(x)
            with half:
                found["bfloat16"] = model(x)
            last, x = in_channels_last(model, x)
            with tf32(False):
                found["channels last"] = last(x)
            with half:
                found["channels last, bfloat16"] = last(x)
        errors = {kind: relative(found[kind], expected) for kind in kinds}
        add(name, *errors.values())
        for kind, error in errors.items():
            limit = HALF if kind == "TF32" or kind.endswith("bfloat16") else EXACT
            day.expect(error <= limit, "forward", f"{name}, {kind}: relative error {error:.2g}")


def clip_of(name: str) -> tuple[Any, Tensor]:
    """Returns a model and two clips, the same every time."""
    torch.manual_seed(0)
    model = build_model(name).eval()
    spec = model.clip_spec
    generator = torch.Generator().manual_seed(1)
    return model, torch.randn(2, 3, spec.num_frames, spec.crop, spec.crop, generator=generator)


def reference(day: Day) -> None:
    """The six steps of the original graph that the tests replay."""
    sys.path.insert(0, str(_TESTS))
    from support.reference import reference_run, reference_steps

    add = day.table(
        "reference", "Six steps, beside the original's: largest relative error", ["steps", "precision", "loss", "bank"]
    )
    for task in ("IR", "LA"):
        for kind, dtype in {"float32": "float32", "TF32": "float32", "bfloat16": "bfloat16"}.items():
            if day.dry and kind != "float32":
                continue
            with tf32(kind != "float32"), tempfile.TemporaryDirectory(dir=day.folder) as folder:
                run, data = reference_run(task, Path(folder), World(device=day.device), dtype=dtype)
                losses = list(reference_steps(run, data))
                loss = max(abs(loss / float(data["loss"][step]) - 1) for step, loss in enumerate(losses))
                bank = relative(run.objective.bank.rows, torch.from_numpy(data["memory_bank_final"]))
            add(task, kind, loss, bank)
            limit = 1e-3 if kind == "float32" else HALF
            day.expect(max(loss, bank) <= limit, "reference", f"{task}, {kind}: loss {loss:.2g}, bank {bank:.2g}")


def precision(day: Day) -> None:
    """bfloat16 of every kind of convolution, as a run checks it, in both layouts."""
    add = day.table("precision", "Convolutions in bfloat16, 8 clips", ["model", "layout", "right", "s"])
    for name in day.models(["vie_3dresnet", "vie_single", "vie_slowfast"]):
        for layout in ("contiguous", "channels last"):
            model = build_model(name).to(day.device)
            if last := layout == "channels last":
                model, _ = in_channels_last(model)
            began, fault = time.perf_counter(), ""
            try:
                check_convolutions(model, 2 if day.dry else 8, torch.bfloat16, channels_last=last)
            except WrongArithmeticError as error:
                fault = str(error)
                if day.device == "cuda":  # a CPU's faults are not this command's subject
                    day.fault("precision", fault)
            add(name, layout, fault or "yes", time.perf_counter() - began)


def bank(day: Day) -> None:
    """Memory bank, k-means and kNN: beside the CPU's, and their times."""
    add = day.table("bank", "Memory bank, k-means and kNN, beside the CPU's", ["what", "value"])
    number, clusters = (2000, 50) if day.dry else (20_000, 500)
    rows, queries, clips = (
        F.normalize(torch.randn(*shape, 128, generator=torch.Generator().manual_seed(len(shape))), dim=-1)
        for shape in ((number,), (64, 1), (200, 5, 1))
    )
    queries, clips = queries[:, 0], clips[:, :, 0]
    here, there = World(), World(device=day.device)
    with tf32(False):
        banks = [MemoryBank(number, world=world) for world in (here, there)]
        nearest = [bank.nearest(queries.to(bank.world.device), 100)[1].cpu() for bank in banks]
        equal = float((nearest[0] == nearest[1]).float().mean())
        add("nearest rows that are the same, share", equal)
        day.expect(equal > 0.999, "bank", f"only {equal:.4f} of the nearest rows are the CPU's")
        for bank in banks:
            bank.update(torch.arange(64, device=bank.world.device), queries.to(bank.world.device))
        error = relative(banks[1].rows, banks[0].rows)
        add("rows after an update, relative error", error)
        day.expect(error < EXACT, "bank", f"rows after an update: relative error {error:.2g}")
        ours, theirs = (kmeans(rows.to(world.device), clusters, iterations=5, world=world) for world in (there, here))
        add("k-means: labels that are the same, share", float((ours.labels.cpu() == theirs.labels).float().mean()))
        add("k-means: objective over the CPU's", ours.objective / theirs.objective)
        day.expect(abs(ours.objective / theirs.objective - 1) < 1e-3, "bank", "k-means has another objective than on the CPU")
        labels = torch.arange(number) % 40
        voted = [knn_of_rows(clips, rows, labels, 10, 0.07, 40, world).predictions.cpu() for world in (here, there)]
        equal = float((voted[0] == voted[1]).float().mean())
        add("kNN: predictions that are the same, share", equal)
        day.expect(equal > 0.99, "bank", f"only {equal:.3f} of the predictions of kNN are the CPU's")
    add = day.table("bank", "The memory bank, 64 clips, ms", ["rows", "4097 dot products", "nearest 4096", "update"])
    for size in (20_000,) if day.dry else (240_000, 1_000_000, 10_000_000):
        add(*bank_costs(size, day.settings())[:4])
    add = day.table("bank", "Clustering and voting", ["what", "s"])
    size, clusters = (2000, 50) if day.dry else (240_000, 10_000)
    large = F.normalize(torch.randn(size, 128, device=day.device), dim=1)
    clips = F.normalize(torch.randn(200 if day.dry else 19_653, 5, 128), dim=2)
    jobs = {
        f"k-means, {size:,} rows, {clusters:,} clusters, 20 iterations": lambda: kmeans(large, clusters, world=there),
        f"kNN of {len(clips):,} x 5 clips": lambda: knn_of_rows(clips, large, torch.arange(size) % 40, 10, 0.07, 40, there),
    }
    for name, seconds in medians(turns(jobs, 1, day.device, warmup=0)).items():
        add(name, seconds)


# --- parts: how fast it is ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Makes runs and extractors start without their check of half precision, which is a part of its own here."""
    with mock.patch.object(run_module, "check_convolutions"), mock.patch.object(extractor_module, "check_convolutions"):
        yield


def train(day: Day) -> None:
    """Training steps on clips in memory: first every recipe as it runs by default, then the paper's in TF32."""
    columns = ["recipe", "precision", "clips a step", "IR: clips/s", "outside the encoder, %", "LA: clips/s"]
    columns += ["outside the encoder, %", "encoder: GFLOP/s", "GiB", "share of the bfloat16 peak, %"]
    add = day.table("train", "Training, clips in memory", columns)
    ways = [(name, "auto") for name in day.models(RECIPES + TINY)] + [(name, "float32") for name in day.models(RECIPES, [])]
    for number, (name, dtype) in enumerate(ways):
        with unchecked():
            run = make_run(name, day.folder / f"train-{number}", day.settings(dtype=dtype))
        row = steps(run, day.settings())
        kind = "TF32" if run.config.dtype == "float32" and day.device == "cuda" else run.config.dtype
        add(name, kind, *row[1:], 100 * row[6] * 1e9 / day.peak if day.peak else None)
        del run
        free(day)


def fed(day: Day) -> None:
    """The same steps, fed by one worker per core from a JPEG pack."""
    columns = ["recipe", "colors changed by", "in memory: clips/s", "trained: clips/s", "over that in memory", "waiting, %"]
    add = day.table("fed", "Fed from a JPEG pack", [*columns, "without the network: clips/s", "GB of the host"])
    ways = [("vie_3dresnet_tiny", "device"), ("vie_3dresnet", "device"), ("vie_slowfast", "device")]
    ways += [("vie_3dresnet", "workers"), ("vie_single", "device")]
    for name, augment in [("vie_single_tiny", "device")] if day.dry else ways:
        workers = 0 if day.dry else len(os.sched_getaffinity(0))
        with unchecked():
            row = one_turn(name, day.folder / f"fed-{augment}", day.pack(name), workers, day.settings(), augment=augment)
        add(name, augment, *row[:3], 100 * row[3], *row[4:])
        free(day)


def augment(day: Day) -> None:
    """Changes of colors on the device."""
    add = day.table("augment", "Colors of a batch", ["recipe", "augmentation", "ms", "clips/s", "values off by more than 1"])
    for name in day.models(["vie_3dresnet", "vie_slowfast"]):
        spec, size = model_entry(name).clip_spec, 4 if day.dry else 64
        generator = torch.Generator().manual_seed(0)
        colors = torch.tensor([draw_colors(generator) for _ in range(size)], dtype=torch.float64)
        frames = torch.randint(0, 256, (size, spec.num_frames, 3, spec.crop, spec.crop), dtype=torch.uint8, generator=generator)
        for kind in ("color_jitter", "affine_jitter"):
            change, there = COLOR_CHANGES[kind], frames.to(day.device)
            few = frames[:2].clone()
            change(few.flatten(0, 1), colors[:2])
            change(found := there[:2].clone().flatten(0, 1), colors[:2])
            off = float(((few.flatten(0, 1).int() - found.cpu().int()).abs() > 1).float().mean())
            job = {"": lambda change=change, there=there, colors=colors: change(there.flatten(0, 1), colors)}
            seconds = medians(turns(job, day.options.rounds, day.device))[""]
            add(name, kind, 1000 * seconds, size / seconds, off)
            day.expect(off < 1e-3, "augment", f"{name}, {kind}: {off:.2g} of the values differ from the CPU's by more than 1")


def run_and_kill(day: Day) -> None:
    """A run from a JPEG pack: in one go; and killed after its first checkpoint, then continued."""
    name = day.models(["vie_3dresnet_tiny"])[0]
    workers, size, total, every = (0, 8, 12, 2) if day.dry else (min(len(os.sched_getaffinity(0)), 8), 32, 200, 40)
    listing = day.videos()
    values: dict[str, Any] = dict(
        train_list=day.pack(name), val_list=listing, root=listing.parent, steps=total, ir_steps=total // 2, save_every=every
    )
    values |= dict(validate_every=total, log_every=every, batch_size=size, workers=workers, clusters=4, background=8)
    values |= dict(device=day.device, augment="device", schedule="boundaries", max_failed=0.0)
    whole, parts = (recipe(name, out=day.folder / f"run-{kind}", **values) for kind in ("whole", "parts"))
    began = time.perf_counter()
    pretrain(whole, progress=False)
    seconds = time.perf_counter() - began
    process = subprocess.Popen([sys.executable, "-c", _RUN, json.dumps(parts.to_dict())], stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not any((parts.out / "checkpoints").glob("step-*")):
            time.sleep(0.05)
    finally:
        process.kill()
        killed = process.wait() == -signal.SIGKILL
    pretrain(parts, progress=False)
    lines = {config.out: _metrics(config.out) for config in (whole, parts)}
    add = day.table("run", "A run from a JPEG pack with validation", ["what", "value"])
    add("recipe, steps, workers, s", f"{name}, {total}, {workers}, {seconds:.1f}")
    losses = {out: [line["loss"] for line in found if "loss" in line] for out, found in lines.items()}
    add("killed before its end", "yes" if killed else "no")
    add("losses in one go", [round(loss, 4) for loss in losses[whole.out]])
    add("losses of a run that was killed", [round(loss, 4) for loss in losses[parts.out]])
    apart = max(abs(a / b - 1) for a, b in zip(losses[whole.out], losses[parts.out], strict=True))
    add("largest relative difference", apart)
    add("kNN top-1, both", [[line["knn_top1"] for line in found if "knn_top1" in line] for found in lines.values()])
    last = [line for line in lines[whole.out] if "data_wait" in line][-1]
    for key in ("clips_per_s", "data_wait", "gpu_s_per_step", "gpu_gib"):
        add(key, last.get(key))
    day.expect(apart < (HALF if day.device == "cuda" else 1e-9), "run", f"a killed run's losses differ by {apart:.2g}")


def _metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def compiled(day: Day) -> None:
    """torch.compile and exported programs: beside the CPU's embeddings, and training steps when compiled."""
    add = day.table("compiled", "Compiled", ["model", "what", "relative error", "IR: clips/s", "LA: clips/s", "s to compile"])
    for name in day.models(["vie_3dresnet_tiny", "vie_3dresnet", "vie_slowfast"]):
        torch._dynamo.reset()
        model, x = clip_of(name)
        with torch.inference_mode():
            expected = model(x)
        model, x = model.to(day.device), x.to(day.device)
        began = time.perf_counter()
        with tf32(False), torch.inference_mode():
            error = relative(torch.compile(model, **_backend(day))(x), expected)
        add(name, "forward", error, None, None, time.perf_counter() - began)
        day.expect(error <= EXACT, "compiled", f"{name}: relative error {error:.2g}")
        began, file = time.perf_counter(), day.folder / f"{name}.pt2"
        vie.export_model(model, file, pixels="float32")
        spec = model.clip_spec
        pixels = torch.rand(2, spec.num_frames, spec.crop, spec.crop, 3, generator=torch.Generator().manual_seed(2))
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        with tf32(False), torch.inference_mode():
            given = ((pixels - mean) / std).movedim(-1, 1).to(day.device)
            error = relative(torch.export.load(file).module()(pixels.to(day.device))["output"], model(given))
        add(name, "pt2", error, None, None, time.perf_counter() - began)
        day.expect(error <= EXACT, "compiled", f"{name}, pt2: relative error {error:.2g}")
        for mode in ("default",) if day.dry else ("default", "reduce-overhead"):
            torch._dynamo.reset()
            with unchecked():
                run = make_run(name, day.folder / f"compiled-{name}-{mode}", day.settings())
            run.network = torch.compile(run.model, **_backend(day, mode))
            began = time.perf_counter()
            row = steps(run, day.settings())
            add(name, f"training, {mode}", None, row[2], row[4], time.perf_counter() - began)
            del run
            free(day)


def _backend(day: Day, mode: str = "default") -> dict[str, Any]:
    return {"backend": "aot_eager"} if day.dry else {"mode": mode}


def extract(day: Day) -> None:
    """Extraction: clips from memory, the model alone, and one video beside the CPU."""
    columns = ["model", "precision", "clips at a time", "clips/s", "the model alone: clips/s"]
    add = day.table("extract", "Extraction, clips in memory", columns)
    for name in day.models(["vie_3dresnet", "vie_slowfast", "vie_single", "vie_3dresnet_tiny"]):
        spec = model_entry(name).clip_spec
        for dtype in (torch.float32, torch.bfloat16)[: 1 if day.dry else 2]:
            for size in (2,) if day.dry else (32, 128):
                model = build_model(name).eval()
                with unchecked():
                    extractor = Extractor(model, clips=5, device=day.device, dtype=dtype, batch_size=size, workers=0)
                pixels = np.random.default_rng(0).integers(0, 256, (size, spec.num_frames, 3, spec.crop, spec.crop), np.uint8)
                clips = list(pixels)
                x = vie.clip_transform(spec).normalize(torch.from_numpy(pixels).to(day.device), memory_format=extractor.layout)

                def alone(extractor: Extractor = extractor, x: Tensor = x) -> None:
                    with (
                        torch.inference_mode(),
                        torch.autocast(day.device, extractor.dtype, enabled=extractor.dtype != torch.float32),
                    ):
                        extractor.network(x)

                jobs = {"whole": lambda e=extractor, clips=clips: e.forward(clips)["output"].cpu(), "alone": alone}
                seconds = medians(turns(jobs, day.options.rounds, day.device))
                add(name, str(extractor.dtype)[6:], size, size / seconds["whole"], size / seconds["alone"])
    name = "vie_slowfast_tiny"
    video = np.random.default_rng(0).integers(0, 256, (60, 90, 120, 3), np.uint8)
    torch.manual_seed(0)
    model = build_model(name).eval()
    with tf32(False):
        found = [Extractor(model, clips=3, device=d).features(video, fps=25)[0]["embedding"] for d in ("cpu", day.device)]
    error = relative(*map(torch.from_numpy, reversed(found)))
    day.table("extract", "Features of a video, beside the CPU's", ["model", "relative error"])(name, error)
    day.expect(error <= EXACT, "extract", f"features of a video: relative error {error:.2g}")


def free(day: Day) -> None:
    gc.collect()
    if day.device == "cuda":
        torch.cuda.empty_cache()


PARTS: dict[str, tuple[Callable[[Day], None], float]] = {
    "machine": (machine, 3),
    "forward": (forward, 12),
    "reference": (reference, 6),
    "precision": (precision, 6),
    "bank": (bank, 7),
    "train": (train, 22),
    "augment": (augment, 3),
    "fed": (fed, 16),
    "run": (run_and_kill, 9),
    "extract": (extract, 6),
    "compiled": (compiled, 10),
}
"""What each part runs, and its share of the time. What may take longest stands last."""


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    if options.paper:
        paper.run(options)
        return
    if options.dry:
        options.rounds = 1
    began = time.monotonic()
    total, due = sum(PARTS[part][1] for part in options.parts), 0.0

    def ring(number: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        day = Day(options, Path(folder))
        for part in options.parts:
            job, share = PARTS[part]
            due += 60 * options.minutes * share / total
            left = began + due - time.monotonic()
            if left <= 0:
                day.fault(part, "no time left")
                continue
            try:
                signal.setitimer(signal.ITIMER_REAL, left, 20)  # again, in case a destructor swallows the first
                job(day)
            except OutOfTime:
                day.fault(part, f"out of time, after {left:.0f} s")
            except Exception as error:  # one part's failure must not cost the results of the others
                traceback.print_exc()
                day.fault(part, f"failed: {type(error).__name__}: {error}")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                free(day)
        signal.signal(signal.SIGALRM, before)
        report("gpu", options.device, day.found(), options.out)
    if day.wrong.rows:
        raise SystemExit(1)
