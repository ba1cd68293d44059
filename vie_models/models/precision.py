"""Whether this machine's convolutions compute what they should in half precision.

On some releases they do not: with oneDNN 3.13 on CPUs with AVX512-BF16, the weight gradient of a 3x3x3 convolution over two
frames is uninitialised memory, and of some cuDNN releases the like is known. A run that would
learn from that must not begin; extraction goes on in float32, and says so.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoder import Encoder

TOLERANCE = 0.05
"""Relative error that half precision may have; rounding alone gives bfloat16 about 0.003."""


class WrongArithmeticError(RuntimeError):
    """A convolution of this PyTorch on this machine gives wrong results in the precision asked for."""


def check_convolutions(model: Encoder, clips: int, dtype: torch.dtype, gradients: bool = True) -> None:
    """Compares every kind of convolution of the model, its result and (unless it is frozen) gradients, with what float32 gives.

    Args:
        model: the encoder, on the device where it is to run; it is left as it is.
        clips: that go through it at a time.
        dtype: of its arithmetic.
        gradients: whether they matter.

    Raises:
        WrongArithmeticError: one of them is wrong; the message says which.
    """
    spec = model.clip_spec
    generator = torch.Generator().manual_seed(0)
    weight = next(model.parameters())
    x = torch.randn(clips, 3, spec.num_frames, spec.crop, spec.crop, generator=generator).to(weight.device)
    for (name, conv), shape in _kinds(model, x).items():
        inputs = torch.randn(shape, generator=generator).to(weight.device)
        learns = gradients and conv.weight.requires_grad
        expected = _results(conv, inputs, torch.float32, learns)
        for what, found in _results(conv, inputs, dtype, learns).items():
            error = float((found.float() - expected[what]).norm() / expected[what].norm().clamp(min=1e-12))
            if not error <= TOLERANCE:
                raise WrongArithmeticError(
                    f"on this machine, PyTorch {torch.__version__} computes a wrong {what} of {name}, a convolution of clips "
                    f"{list(shape)}, in {dtype}: relative error {error:.3g}. Use float32 (--dtype float32), or "
                    "another release of PyTorch"
                )


def _kinds(model: Encoder, x: Tensor) -> dict[tuple[str, Any], torch.Size]:
    """One convolution of each kind, with the shape of its input."""
    seen: dict[Any, tuple[tuple[str, Any], torch.Size]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):

            def record(module: Any, inputs: tuple[Tensor, ...], name: str = name) -> None:
                kind = (inputs[-1].shape, module.weight.shape, module.stride)
                seen.setdefault(kind, ((name, module), inputs[-1].shape))  # of a lateral, the last input

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
    """The result and, if wanted, the gradients of its product with fixed noise."""
    x, weight = inputs.detach().to(dtype), conv.weight.detach().to(dtype)
    convolve = F.conv2d if weight.ndim == 4 else F.conv3d
    with torch.set_grad_enabled(gradients):
        y = convolve(x.requires_grad_(gradients), weight.requires_grad_(gradients), None, conv.stride, conv.padding)
    if not gradients:
        return {"result": y}
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    dx, dweight = torch.autograd.grad(y, (x, weight), noise)
    return {"result": y.detach(), "input's gradient": dx, "weight's gradient": dweight}
