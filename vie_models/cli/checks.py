"""What `vie doctor` looks at. Each check yields findings; none of them stops the others."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

TIMEOUT = 5.0
"""Seconds that a server may take to answer."""
_PYTHON = (3, 10)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of `vie doctor`."""

    status: Literal["ok", "warn", "bad"]
    """bad: something that the package does cannot work. warn: it works, but less well."""
    name: str
    """What was looked at."""
    found: str
    """What was found."""
    remedy: str = ""
    """What to do about it; "" if it is ok."""


def findings() -> Iterator[Finding]:
    """Yields all findings. A check that raises an exception is a finding too."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:  # whatever is broken on this machine
            name = check.__name__.strip("_")
            yield Finding("bad", name, f"{type(error).__name__}: {error}", "repair this first: the check could not run")


def _python() -> Iterator[Finding]:
    from ..version import __version__

    old = sys.version_info < _PYTHON
    least = ".".join(map(str, _PYTHON))
    yield Finding(
        "bad" if old else "ok", "python", f"{platform.python_version()} on {platform.platform()}",
        f"install Python {least} or newer" if old else "",
    )  # fmt: skip
    yield Finding("ok", "vie_models", f"{__version__} in {Path(__file__).parent.parent}")


def _packages() -> Iterator[Finding]:
    """The packages in vie_models' own metadata, the optional ones last."""
    try:
        lines = importlib.metadata.requires("vie_models") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("warn", "packages", "vie_models is not installed, only importable", "pip install it")
        return
    seen = set()
    for line in lines:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*);?\s*(.*)", line)
        assert match
        name, wanted, marker = match.groups()
        extra = re.search(r"""extra == ['"](\w+)['"]""", marker)
        if name in seen or (extra and extra[1] not in ("parquet", "ray", "train", "search", "app")):
            continue
        seen.add(name)
        least = re.search(r">=\s*([\d.]+)", wanted)
        yield _package(name, least[1] if least else "0", extra and extra[1])


def _package(name: str, least: str, extra: str | None) -> Finding:
    remedy = f"pip install 'vie_models[{extra}]'" if extra else f"pip install -U '{name}>={least}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if extra:
            return Finding("ok", name, f"not installed; optional: {remedy}")
        return Finding("bad", name, "not installed", remedy)
    if _numbers(version) < _numbers(least):
        return Finding("warn" if extra else "bad", name, f"{version} is older than {least}", remedy)
    if name == "timm" and _numbers(version) < (1,):
        return Finding("warn", name, f"{version}: too old to create our models by name", "pip install -U 'timm>=1.0'")
    return Finding("ok", name, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", re.split(r"[+a-zA-Z]", version)[0])))


def _gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        driver = Path("/proc/driver/nvidia/version").exists()
        if driver and torch.version.cuda is None:
            yield Finding("warn", "GPU", "there is an NVIDIA driver, but this PyTorch is built without CUDA",
                          "install PyTorch with CUDA: https://pytorch.org/get-started/locally")  # fmt: skip
        elif driver:
            yield Finding("warn", "GPU", f"there is an NVIDIA driver, but PyTorch finds no GPU for CUDA {torch.version.cuda}",
                          "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES; the driver may be older than CUDA")  # fmt: skip
        else:
            yield Finding("ok", "GPU", "none; everything runs on the CPU")
        return
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        try:
            (torch.ones(8, 8, device=f"cuda:{i}") @ torch.ones(8, 8, device=f"cuda:{i}")).sum().item()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            yield Finding("bad", f"GPU {i}", f"{name}: {reason}", "install a PyTorch that is built for this GPU")
        else:
            yield Finding("ok", f"GPU {i}", name)


def _precision() -> Iterator[Finding]:
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
            yield Finding("warn", name, reason, "leave --dtype at float32, or use another release of PyTorch")
        else:
            times = times_of_float32(dtype) if device == "cpu" else 0.0
            slow = times > SLOWER
            found = "convolutions and their gradients are right" + (
                f", in {times:.1f} times the time of float32" if slow else ""
            )
            yield Finding("warn" if slow else "ok", name, found, "leave --dtype at float32" if slow else "")


def _videos() -> Iterator[Finding]:
    import av

    wanted = ("h264", "hevc", "vp9", "av1", "mpeg4")
    missing = []
    for codec in wanted:
        try:
            av.codec.Codec(codec, "r")
        except ValueError:
            missing.append(codec)
    if missing:
        yield Finding("warn", "video codecs", f"this FFmpeg cannot decode {', '.join(missing)}", "pip install -U av")
    else:
        yield Finding("ok", "video codecs", ", ".join(wanted))


def _weights() -> Iterator[Finding]:
    """The weight sets that come with the package."""
    from ..weights import WeightsError
    from ..weights.cache import load_record
    from ..weights.catalog import CATALOG

    shipped = [record for record in CATALOG.values() if not record.url]
    try:
        for record in shipped:
            load_record(record)
    except WeightsError as error:
        yield Finding("bad", "weights", str(error), "pip install --force-reinstall --no-deps vie_models")
    else:
        yield Finding("ok", "weights", f"{len(shipped)} sets come with the package and are whole")


def _caches() -> Iterator[Finding]:
    from huggingface_hub import constants

    from ..weights.cache import cache_root

    yield _cache("weights cache", cache_root(), "TORCH_HOME")
    yield _cache("Hub cache", Path(constants.HF_HUB_CACHE), "HF_HOME")


def _cache(name: str, folder: Path, variable: str) -> Finding:
    """Tries to write to a cache folder, or to the folder above it that exists."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding("bad", name, f"cannot write to {folder}: {error.strerror}: {there}",
                       f"change the rights of that folder, or choose another place with {variable}")  # fmt: skip
    free = shutil.disk_usage(there).free
    found = f"{folder}: {size / 1e6:.1f} MB used, {free / 1e9:.1f} GB free"
    if free < 1e9:
        return Finding("warn", name, found, f"make room, or choose another place with {variable}")
    return Finding("ok", name, found)


def _network() -> Iterator[Finding]:
    from huggingface_hub import constants

    from ..weights.cache import HASHES, cache_root
    from ..weights.catalog import CATALOG

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        yield Finding("ok", "network", "not tried, because HF_HUB_OFFLINE is set")
        return
    yield _answers("Hub", constants.ENDPOINT, "another address goes in HF_ENDPOINT")
    for record in CATALOG.values():
        if record.url and (cache_root() / record.name / HASHES).exists():
            yield Finding("ok", record.name, "in the weights cache")
        elif record.url:
            yield _answers(record.name, record.url, "or pass a copy of the file as checkpoint_path=")


def _answers(name: str, url: str, otherwise: str) -> Finding:
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "vie_models"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            return Finding("ok", name, f"{url} answers")
    except urllib.error.HTTPError as error:
        error.close()
        return Finding("bad", name, f"{url} answers {error.code} {error.reason}", f"try a newer vie_models; {otherwise}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Finding(
            "bad", name, f"{url} cannot be reached: {reason}",
            f"check the network, and HTTPS_PROXY behind a proxy; {otherwise}. To work without a network, set HF_HUB_OFFLINE=1",
        )  # fmt: skip


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _packages, _gpu, _precision, _videos, _weights, _caches, _network,
)  # fmt: skip
