"""Checks that this machine's convolutions give correct results in half precision, and whether they are faster there.

Some releases do not. With oneDNN 3.13 on CPUs with AVX512-BF16, the weight gradient of a 3x3x3 convolution over two frames is
uninitialized memory. Some cuDNN releases have similar bugs. Training that would use wrong gradients must not start. Extraction
continues in float32 and says so. A CPU without bfloat16 instructions (AVX512-BF16, AMX) converts every number and is several
times as slow as in float32. The processor's flags do not tell, because oneDNN's limits and PyTorch's build count too. So one
small convolution is timed in both.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOLERANCE = 0.05
"""Largest relative error allowed in half precision. Rounding alone gives about 0.003 in bfloat16."""

SLOWER = 1.5
"""CPU time over float32's from which half precision is called slower. Found: 0.1 with AMX, 2.6 with AVX2, 4 with SSE4.1."""


class WrongArithmeticError(RuntimeError):
    """On this machine, PyTorch computes a convolution wrongly in the requested precision."""


PASSED: set[Any] = set()
"""The convolutions that were compared and are right. A run's validations do not compare them again."""


def check_convolutions(model: Any, clips: int, dtype: torch.dtype, gradients: bool = True, channels_last: bool = False) -> None:
    """Compares each kind of convolution in the model with float32: its result and, unless it is frozen, its gradients.

    A convolution that passed is not compared again by this process in the same layout.

    Args:
        model: encoder on the device where it will run. It is not changed.
        clips: number of clips per batch.
        dtype: data type to check.
        gradients: whether to check gradients too.
        channels_last: whether the clips are stored with channels last.

    Raises:
        WrongArithmeticError: a result or gradient is wrong. The message says which.
    """
    spec = model.clip_spec
    device = next(model.parameters(), torch.empty(0, device="cpu")).device
    generator = torch.Generator(device).manual_seed(0)  # a GPU would wait for noise of the CPU
    x = torch.randn(clips, 3, spec.num_frames, spec.crop, spec.crop, generator=generator, device=device)
    for (name, conv), shape in _kinds(model, x).items():
        learns = gradients and conv.weight.requires_grad
        kind = (shape, conv.weight.shape, conv.weight.stride(), conv.stride, dtype, device, channels_last)
        if (kind, True) in PASSED or (kind, learns) in PASSED:
            continue
        inputs = torch.randn(shape, generator=generator, device=device)
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last if inputs.ndim == 4 else torch.channels_last_3d)
        expected = _results(conv, inputs, torch.float32, learns)
        for what, found in _results(conv, inputs, dtype, learns).items():
            error = float((found.float() - expected[what]).norm() / expected[what].norm().clamp(min=1e-12))
            if not error <= TOLERANCE:
                raise WrongArithmeticError(
                    f"on this machine, PyTorch {torch.__version__} computes a wrong {what} of {name}, a convolution of clips "
                    f"{list(shape)}, in {dtype}: relative error {error:.3g}. Use float32 (--dtype float32) or "
                    "another release of PyTorch"
                )
        PASSED.add((kind, learns))


def cudnn_fault(version: int | None = None) -> str | None:
    """Returns what is known to be wrong with 3-D convolutions in bfloat16 in a release of cuDNN, and the remedy, or None.

    Args:
        version: as torch.backends.cudnn.version() gives it. Default: that of this machine.
    """
    version = torch.backends.cudnn.version() if version is None else version
    if version is None or not 90800 <= version < 91500:
        return None
    name = f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    return (
        f"cuDNN {name} can give wrong results in 3-D convolutions in bfloat16, or "
        "take 10 to 20 times as long when channels are not last (PyTorch issues 163539 and 166643): install cuDNN 9.15 or "
        "newer (pip install -U nvidia-cudnn-cu12 or -cu13), or use float32 (--dtype float32)"
    )


def times_of_float32(dtype: torch.dtype) -> float:
    """Returns the CPU time of a 3x3x3 convolution with its gradients in `dtype`, over its time in float32."""
    with torch.random.fork_rng(devices=[]):  # keeps the caller's random state
        conv = nn.Conv3d(32, 32, 3, padding=1, device="cpu")
    x = torch.ones(1, 32, 4, 14, 14, device="cpu")
    seconds: dict[torch.dtype, float] = {}
    for kind in (torch.float32, dtype):
        tries = []
        for _ in range(3):
            began = time.process_time()  # other programs do not count
            _results(conv, x, kind, gradients=True)
            tries.append(time.process_time() - began)
        seconds[kind] = min(tries)
    return seconds[dtype] / seconds[torch.float32]


def _kinds(model: Any, x: Tensor) -> dict[tuple[str, Any], torch.Size]:
    """Returns one convolution of each kind, with the shape of its input."""
    seen: dict[Any, tuple[tuple[str, Any], torch.Size]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):

            def record(module: Any, inputs: tuple[Tensor, ...], name: str = name) -> None:
                kind = (inputs[-1].shape, module.weight.shape, module.stride, module.dilation, module.groups)
                seen.setdefault(kind, ((name, module), inputs[-1].shape))  # a lateral convolves its last input

            handles.append(module.register_forward_pre_hook(record))
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            model(x)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return dict(seen.values())


def _results(conv: Any, inputs: Tensor, dtype: torch.dtype, gradients: bool) -> dict[str, Tensor]:
    """Returns the result and, if `gradients`, the gradients of its product with fixed noise."""
    x, weight = inputs.detach().to(dtype), conv.weight.detach().to(dtype)
    convolve = F.conv2d if weight.ndim == 4 else F.conv3d
    with torch.set_grad_enabled(gradients):
        settings = (None, conv.stride, conv.padding, conv.dilation, conv.groups)
        y = convolve(x.requires_grad_(gradients), weight.requires_grad_(gradients), *settings)
    if not gradients:
        return {"result": y}
    noise = torch.randn(y.shape, generator=torch.Generator(y.device).manual_seed(1), device=y.device).to(y)
    dx, dweight = torch.autograd.grad(y, (x, weight), noise)
    return {"result": y.detach(), "input's gradient": dx, "weight's gradient": dweight}
