"""`vie doctor`: what of this machine the package depends on, and no other tool checks."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .exit_codes import EXIT_FAILED

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")


@dataclasses.dataclass(kw_only=True)
class Doctor:
    """Checks GPUs, arithmetic in half precision, video codecs and caches of this machine, each with a remedy.

    ok: it works. warn: it works, but less well. bad: something that the package does cannot work; the exit code is then 1.
    Versions are `python -m torch.utils.collect_env`'s to tell, and conflicts between packages `pip check`'s.
    """

    def run(self) -> int:
        failed = 0
        for check in (_gpus, _half_precision, _codecs, _caches):
            for status, name, found, remedy in check():
                print(f"{status:5}{name:20}{found}", flush=True)
                if remedy:
                    print(f"{'':25}remedy: {remedy}", flush=True)
                failed += status == "bad"
        return EXIT_FAILED if failed else 0


Finding = tuple[str, str, str, str]
"""Status, what was looked at, what was found, and what to do about it ("" if it is ok)."""


def _gpus() -> Iterator[Finding]:
    import torch

    from ..models.precision import cudnn_fault

    if not torch.cuda.is_available():
        if Path("/proc/driver/nvidia/version").exists():
            yield (
                *("warn", "GPU", f"there is an NVIDIA driver, but this PyTorch (CUDA {torch.version.cuda}) finds no GPU"),
                "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES, or install PyTorch for this driver: https://pytorch.org",
            )
        else:
            yield "ok", "GPU", "none; everything runs on the CPU", ""
    for i in range(torch.cuda.device_count()):
        name = f"{torch.cuda.get_device_name(i)}, CUDA {torch.version.cuda}"
        try:
            (torch.ones(8, 8, device=f"cuda:{i}") @ torch.ones(8, 8, device=f"cuda:{i}")).sum().item()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            yield "bad", f"GPU {i}", f"{name}: {reason}", "install a PyTorch that is built for this GPU"
        else:
            yield "ok", f"GPU {i}", name, ""
    if torch.cuda.is_available() and (fault := cudnn_fault()):
        found, _, remedy = fault.partition(": ")
        yield "warn", "cuDNN", found, remedy


def _half_precision() -> Iterator[Finding]:
    """Convolutions of a small encoder, with their gradients, in half precision, compared with float32."""
    import torch

    from ..models import build_model
    from ..models.precision import SLOWER, WrongArithmeticError, check_convolutions, times_of_float32

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model("vie_3dresnet_tiny").to(device)
    for dtype in (torch.bfloat16, torch.float16) if device == "cuda" else (torch.bfloat16,):
        name = f"{str(dtype).removeprefix('torch.')} on {device}"
        try:
            check_convolutions(model, 2, dtype)
        except WrongArithmeticError as error:
            reason = str(error).partition(". Use")[0]
            yield "warn", name, reason, "leave --dtype at float32, or use another release of PyTorch"
            continue
        times = times_of_float32(dtype) if device == "cpu" else 0.0
        if times > SLOWER:
            yield "warn", name, f"right, but in {times:.1f} times the time of float32", "leave --dtype at float32"
        else:
            yield "ok", name, "convolutions and their gradients are right", ""


def _codecs() -> Iterator[Finding]:
    import av

    missing = [codec for codec in CODECS if codec not in av.codecs_available]
    if missing:
        yield "warn", "video codecs", f"this FFmpeg cannot decode {', '.join(missing)}", "pip install -U av"
    else:
        yield "ok", "video codecs", ", ".join(CODECS), ""


def _caches() -> Iterator[Finding]:
    """Tries to write to each cache folder, or to the folder above it that exists."""
    from huggingface_hub import constants

    from ..weights.cache import cache_root

    for name, folder, variable in (
        ("weights cache", cache_root(), "TORCH_HOME"),
        ("Hub cache", Path(constants.HF_HUB_CACHE), "HF_HOME"),
    ):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            remedy = f"change the rights of that folder, or choose another place with {variable}"
            yield "bad", name, f"cannot write to {folder}: {error.strerror}: {existing}", remedy
        else:
            yield "ok", name, str(folder), ""
