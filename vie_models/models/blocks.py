"""Building blocks of the pre-activation ResNet-18 ("v2") that every VIE encoder is made of.

Source: Zhuang et al., "Unsupervised Learning from Video with Deep Neural Embeddings", CVPR 2020 (arXiv 1905.11954);
He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016. Differences from torchvision's and timm's ResNets:
no norm after the stem, a projection shortcut in stage 1 too, TensorFlow's "SAME" max pool, BatchNorm momentum 0.003.

B batch, C channels, T time, H height, W width. 2-D blocks are the same without the T axis.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.checkpoint import checkpoint

from .conv import Conv2d, Conv3d, is_plain_inference
from .tracing import Proxy, traced_module

BLOCKS_PER_STAGE = (2, 2, 2, 2)
Size = tuple[int, ...]  # one entry per axis: (H, W) or (T, H, W)


class NormAct2d(nn.BatchNorm2d):
    """relu(batch norm(x)) of [B, C, H, W] as one module, so that a forward hook on it sees the reference's `encode_k`."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return traced_module(self, x)
        return F.relu(super().forward(x), inplace=True)


class NormAct3d(nn.BatchNorm3d):
    """relu(batch norm(x)) of [B, C, T, H, W] as one module."""

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return traced_module(self, x)
        return F.relu(super().forward(x), inplace=True)


NormAct = NormAct2d | NormAct3d


def conv(in_channels: int, out_channels: int, kernel: Size, stride: Size) -> Conv2d | Conv3d:
    """Builds a convolution without bias, padded by (k - 1) // 2 on both sides. The length of `kernel` makes it 2-D or 3-D."""
    cls = Conv2d if len(kernel) == 2 else Conv3d
    padding = tuple((k - 1) // 2 for k in kernel)
    return cls(in_channels, out_channels, kernel, stride, padding, bias=False)  # type: ignore[arg-type]


def norm_act(channels: int, dims: int) -> NormAct:
    """Builds the reference's BatchNorm (eps 1e-5, TensorFlow momentum 0.997) with its ReLU, for 2 or 3 axes."""
    cls = NormAct2d if dims == 2 else NormAct3d
    return cls(channels, eps=1e-5, momentum=0.003)


class MaxPoolSame(nn.Module):
    """Max pool with TensorFlow's "SAME" padding: out = ceil(n / stride), with the smaller half of the padding in front.

    A 3-wide window of stride 2 pads an even axis by one at the end, and an odd axis by one on both sides. `ceil_mode` provides
    the padding at the end (a window over the edge ignores what lies outside), so no padded copy is made. Inference on CPU pools
    one axis after the other. The result is the same, and faster, because PyTorch's pool also records where each maximum was.
    """

    def __init__(self, kernel: Size, stride: Size) -> None:
        super().__init__()
        if any((k, s) not in ((3, 2), (1, 1)) for k, s in zip(kernel, stride, strict=True)):
            raise ValueError(f"each axis must have kernel 3 and stride 2, or kernel 1 and stride 1, got {kernel}, {stride}")
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return traced_module(self, x)
        if is_plain_inference(x):
            for axis, stride in zip(range(-len(self.stride), 0), self.stride, strict=True):
                x = _pooled(x, axis) if stride == 2 else x
            return x
        pool = F.max_pool2d if len(self.kernel) == 2 else F.max_pool3d
        sizes = x.shape[-len(self.kernel) :]
        padding = [n % 2 if s == 2 else 0 for n, s in zip(sizes, self.stride, strict=True)]
        return pool(x, self.kernel, self.stride, padding, ceil_mode=True)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}"


def _pooled(x: Tensor, axis: int) -> Tensor:
    """Applies MaxPoolSame along one axis."""
    size = x.shape[axis]
    even, odd, later = (torch.ops.aten.slice(x, axis, start, size, 2) for start in (0, 1, 2))
    out = even.clone()
    for start, other in ((0, odd), (1, odd) if size % 2 else (0, later)):
        part = out.narrow(axis, start, other.shape[axis])
        torch.maximum(part, other, out=part)
    return out


class Stem(nn.Module):
    """Convolution and max pool: [B, 3, T, H, W] -> [B, C, T', H/4, W/4]. The pool's output is `encode_1`."""

    def __init__(self, channels: int, kernel: Size, stride: Size, pool_kernel: Size, pool_stride: Size) -> None:
        super().__init__()
        self.conv = conv(3, channels, kernel, stride)
        self.pool = MaxPoolSame(pool_kernel, pool_stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))


class Block(nn.Module):
    """h = relu(norm1(x)); y = conv2(relu(norm2(conv1(h)))) + shortcut, where shortcut = 1x1x1 conv(h), or x.

    Shapes: [B, C_in, T, H, W] -> [B, C_out, T/s, H/s, W/s]. The output of `norm1` is the reference's `encode_2` ... `encode_9`.
    """

    def __init__(self, in_channels: int, channels: int, kernel1: Size, kernel2: Size, stride: Size, project: bool) -> None:
        super().__init__()
        dims = len(kernel1)
        self.norm1 = norm_act(in_channels, dims)
        self.conv1 = conv(in_channels, channels, kernel1, stride)
        self.norm2: nn.Module = norm_act(channels, dims)
        self.conv2 = conv(channels, channels, kernel2, (1,) * dims)
        self.shortcut = conv(in_channels, channels, (1,) * dims, stride) if project else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        shortcut = x if self.shortcut is None else self.shortcut(h)
        return self.conv2(self.norm2(self.conv1(h))) + shortcut

    def fuse(self) -> None:
        """Folds norm2, with its evaluation statistics, into conv1. This cannot be undone."""
        norm: Any = self.norm2
        self.conv1.weight, self.conv1.bias = fuse_conv_bn_weights(
            self.conv1.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        self.norm2 = nn.ReLU(inplace=True)


class Stage(nn.Sequential):
    """A sequence of blocks. With `grad_checkpointing`, the backward pass recomputes the activations inside each block."""

    grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            if self.grad_checkpointing and self.training and torch.is_grad_enabled():
                x = _checkpointed(block, x)
            else:
                x = block(x)
        return x


def _checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # the compiler traces the block once and replays no module code
        return checkpoint(block, x, use_reentrant=False)  # type: ignore[no-any-return]
    contexts = lambda: (contextlib.nullcontext(), _running_statistics_held(block))  # noqa: E731
    return checkpoint(block, x, use_reentrant=False, context_fn=contexts)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _running_statistics_held(module: nn.Module) -> Iterator[None]:
    """Lets BatchNorm normalize as in training but keep its running statistics: a recomputation is not a new step."""
    norms = [m for m in module.modules() if isinstance(m, NormAct)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = torch.zeros_like(counts[0])  # type: ignore[arg-type]
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


class Trunk(nn.Module):
    """The layers between clip and head: `norm(stages(stem(x)))` is [B, 3, T, H, W] -> [B, 8 * width + extra, T', H/32, W/32].

    Most encoders use its three parts directly; Slowfast runs two trunks side by side, stage by stage.

    Args:
        width: channels of stage 1; stages 2-4 have 2, 4 and 8 times as many.
        stem_kernel, stem_stride, pool_kernel, pool_stride: the stem. Two axes (H, W) build a 2-D trunk, three a 3-D one.
        time_kernels: lengths in time of the kernels of conv1 and conv2, for each stage (3-D only).
        time_stride: stride in time of stages 2-4 (3-D only).
        extra: channels that the caller appends to the outputs of the stem and of each stage (Slowfast's laterals).
    """

    def __init__(
        self,
        *,
        width: int,
        stem_kernel: Size,
        stem_stride: Size,
        pool_kernel: Size,
        pool_stride: Size,
        time_kernels: Sequence[tuple[int, int]] = ((1, 1),) * 4,
        time_stride: int = 1,
        extra: Sequence[int] = (0, 0, 0, 0, 0),
    ) -> None:
        super().__init__()
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"width must be a whole number of channels >= 1, got {width!r}")
        dims = len(stem_kernel)
        self.stem = Stem(width, stem_kernel, stem_stride, pool_kernel, pool_stride)
        stages = []
        in_channels = width + extra[0]
        for s, num_blocks in enumerate(BLOCKS_PER_STAGE):
            channels = width * 2**s
            kernel1, kernel2 = ((t, 3, 3)[-dims:] for t in time_kernels[s])
            stride = (1, 1, 1) if s == 0 else (time_stride, 2, 2)
            blocks = []
            for b in range(num_blocks):
                block_stride = stride[-dims:] if b == 0 else (1,) * dims
                blocks.append(Block(in_channels, channels, kernel1, kernel2, block_stride, project=b == 0))
                in_channels = channels
            stages.append(Stage(*blocks))
            in_channels = channels + extra[s + 1]
        self.stages = nn.Sequential(*stages)
        self.norm = norm_act(in_channels, dims)
        self.out_channels = in_channels
        init_convolutions(self)


def init_convolutions(model: nn.Module) -> None:
    """Initializes convolutions with He normal, fan in. Norms are ones and zeros already. Skips the meta device."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


def layer_modules(prefix: str = "", first: str = "stem.pool") -> dict[str, str]:
    """Returns layer name -> module path for a trunk under `prefix`: the modules that output `encode_1` ... `encode_10`."""
    paths = [first]
    paths += [f"{prefix}stages.{s}.{b}.norm1" for s, n in enumerate(BLOCKS_PER_STAGE) for b in range(n)]
    paths += [f"{prefix}norm"]
    return {f"encode_{k}": path for k, path in enumerate(paths, start=1)}
