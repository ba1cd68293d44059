"""Convolutions that are fast on CPU without a compiler.

For inference on CPU, oneDNN needs each weight in a blocked layout of its own. At every call, torch.nn converts the weight or
uses a much slower kernel. With one clip per batch, that costs several times as much as the convolution. torch.compile keeps the
converted ("packed") weight when it freezes a model; so do these modules, without a compiler, in calls of enough work to gain by
it (`LEAST_WORK`). A stem with few output channels is
slow in any layout, so it is computed differently (`_convolve_narrow`). Training, GPUs, autocast, torch.compile and torch.export
use plain torch.nn convolutions, and state_dict holds only the plain weight.

The packed weight is a second copy in memory. It is made at the first no-grad forward on CPU, and again when the input's shape
or the weight changes. PyTorch's version counter misses writes to `.data`, so every call compares a checksum of the weight. A
fused copy (`Encoder.fuse`) skips the checksum, because its weights must not change.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tracing import Proxy, traced_module


class _PackedConv:
    """Mixin for nn.Conv2d and nn.Conv3d that keeps the packed weight."""

    constant = False
    """Whether the weight never changes, so that its checksum need not be compared."""
    _packed: tuple[torch.Size, Tensor, Tensor] | None = None  # input shape, checksum of the weight, packed weight

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return traced_module(self, x)
        if _can_pack(self, x):
            return _convolve_narrow(self, x) if _is_narrow(self) else _convolve(self, x, self._packed_weight(x))
        return super().forward(x)  # type: ignore[misc,no-any-return]

    def _packed_weight(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight.detach()  # type: ignore[attr-defined]
        if self.constant and self._packed is not None and self._packed[0] == x.shape:
            return self._packed[2]
        checksum = _checksum(weight)
        if self._packed is not None:
            shape, expected, packed = self._packed
            if shape == x.shape and torch.equal(checksum, expected):
                return packed
        packed = _pack(self, x, weight)
        self._packed = (x.shape, checksum.clone(), packed)
        return packed

    def train(self, mode: bool = True) -> Any:
        if mode:
            self._packed = None
        return super().train(mode)  # type: ignore[misc]

    def _apply(self, *args: Any, **kwargs: Any) -> Any:  # to another device or type
        self._packed = None
        return super()._apply(*args, **kwargs)  # type: ignore[misc]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}


class Conv2d(_PackedConv, nn.Conv2d):
    """nn.Conv2d that keeps its weight in oneDNN's layout for inference on CPU."""


class Conv3d(_PackedConv, nn.Conv3d):
    """nn.Conv3d that keeps its weight in oneDNN's layout for inference on CPU."""


def is_plain_inference(x: Tensor) -> bool:
    """Whether this is an eager call on CPU without gradients, outside any compiler, tracer, vmap or dispatch mode."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and torch._C._functorch.maybe_current_level() is None  # vmap and similar
        and not torch.jit.is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0  # a mode (FLOP counter, fake tensors) must see the real operator
    )


LEAST_WORK = 10_000_000
"""Multiplications in a call from which packing pays.

With fewer, the checksum and the calls cost more than packing saves, with AVX-512 as with AVX2 (docs/performance.md).
"""


def _can_pack(conv: Any, x: Tensor) -> bool:
    """Whether this call is plain inference on CPU with enough work, and this PyTorch has a packed convolution that works."""
    weight = conv.weight
    return (
        is_plain_inference(x)  # first, because exported programs must not depend on the clips' shape
        and x.numel() * weight.numel() >= LEAST_WORK * conv.in_channels * math.prod(conv.stride)
        and not conv.training
        and type(weight) is nn.Parameter
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and weight.nbytes % 8 == 0  # see _checksum
        and not torch.is_autocast_enabled("cpu")
        and _packing_works(x.dtype)
    )


def _checksum(weight: Tensor) -> Tensor:
    """Returns a small weight itself, and int64 [...] for a large one: its bits are read as whole numbers.

    The numbers are summed in up to 256 parts, so no change is rounded away. Every 1009th number is kept too, because sums
    alone would not show that values have changed places.
    """
    if weight.numel() <= 2**15:
        return weight
    bits = weight.reshape(-1).view(torch.int64)
    return torch.cat([bits.view(math.gcd(len(bits), 256), -1).sum(1), bits[::1009]])


def _pack(conv: Any, x: Tensor, weight: Tensor) -> Tensor:
    reorder = torch._C._nn.mkldnn_reorder_conv2d_weight if weight.ndim == 4 else torch._C._nn.mkldnn_reorder_conv3d_weight
    return reorder(weight.to_mkldnn(), conv.padding, conv.stride, conv.dilation, conv.groups, list(x.shape))  # type: ignore[call-arg]


def _convolve(conv: Any, x: Tensor, packed: Tensor) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]
        x, packed, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups, "none", [], ""
    )


LANES = 16
"""Number of output channels that oneDNN's kernels compute at once: the float32 values in an AVX-512 register."""


def _is_narrow(conv: Any) -> bool:
    """Whether this is a stem with at most `LANES` output channels."""
    same = conv.weight.ndim == 4 or (conv.stride[0] == 1 and 2 * conv.padding[0] == conv.kernel_size[0] - 1)
    return conv.in_channels == 3 and conv.out_channels <= LANES and conv.bias is None and same


def _convolve_narrow(conv: Any, x: Tensor) -> Tensor:
    """Convolves pixels to few output channels. The input is laid out in planes, which oneDNN handles best for 3 channels.

    Successive time steps become extra output channels, which fill lanes that would be empty. Each step's kernel is the original
    one, shifted by one step inside a longer kernel of zeros, so the sums add only zeros. The result is channels last.
    """
    if x.ndim == 4:
        return F.conv2d(x.contiguous(), conv.weight, None, conv.stride, conv.padding).contiguous(
            memory_format=torch.channels_last
        )
    weight, frames = conv.weight, x.shape[2]
    length, steps = weight.shape[2], LANES // len(weight)
    wide = weight.new_zeros(steps, *weight.shape[:2], length + steps - 1, *weight.shape[3:])
    for step in range(steps):
        wide[step, :, :, step : step + length] = weight
    if frames % steps:
        x = F.pad(x, (0, 0, 0, 0, 0, -frames % steps))
    # [B, steps * C, T / steps, H, W]
    y = F.conv3d(x.contiguous(), wide.flatten(0, 1), None, (steps, *conv.stride[1:]), conv.padding)
    y = y.unflatten(1, (steps, -1)).permute(0, 3, 1, 4, 5, 2).flatten(1, 2)[:, :frames]  # [B, T, H, W, C]
    return y.permute(0, 4, 1, 2, 3)


@functools.cache
def _packing_works(dtype: torch.dtype) -> bool:
    """Whether PyTorch's private functions for packed convolutions exist and agree with torch.nn."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # keeps the caller's random state
            for cls, axes in ((nn.Conv2d, 2), (nn.Conv3d, 3)):
                conv = cls(3, 16, 3, 2, 1, bias=False, device="cpu")
                conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator, device="cpu"))
                conv = conv.to(dtype)
                x = torch.randn(2, 3, *[7] * axes, generator=generator, device="cpu").to(dtype)
                y = _convolve(conv, x, _pack(conv, x, conv.weight.detach()))
                tolerance = 1e-4 if dtype == torch.float32 else 0.5
                if not torch.allclose(y, conv(x), rtol=1e-2, atol=tolerance):
                    return False
    except (RuntimeError, AttributeError, TypeError):  # missing from this build, or with other arguments
        return False
    return True
