"""Encoders with one 3-D pathway: VIE-3DResNet, VIE-Slow and the fast pathway by itself.

Source: Zhuang et al., CVPR 2020, section 3; Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and
ImageNet?", CVPR 2018 (3DResNet); Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019 (slow, fast).

B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..clip_spec import ClipSpec
from .blocks import Trunk, layer_modules
from .encoder import Encoder, check_clip

# Arguments of each pathway's trunk, except its width. Axes are (T, H, W); time_kernels are (conv1, conv2) for each stage.
TRUNK_3DRESNET: dict[str, Any] = dict(
    stem_kernel=(7, 7, 7),
    stem_stride=(1, 2, 2),
    pool_kernel=(3, 3, 3),
    pool_stride=(2, 2, 2),
    time_kernels=((3, 3),) * 4,
    time_stride=2,
)
TRUNK_SLOW: dict[str, Any] = dict(
    stem_kernel=(1, 7, 7),
    stem_stride=(1, 2, 2),
    pool_kernel=(1, 3, 3),
    pool_stride=(1, 2, 2),
    time_kernels=((1, 1), (1, 1), (3, 1), (3, 1)),
)
TRUNK_FAST: dict[str, Any] = {**TRUNK_SLOW, "stem_kernel": (5, 7, 7), "time_kernels": ((3, 1),) * 4}


class _ClipEncoder(Encoder):
    """A 3-D ResNet-18 on the whole clip. Last maps: [B, 8 * width, T', H/32, W/32]."""

    trunk: Mapping[str, Any]

    def __init__(self, clip_spec: ClipSpec, *, width: int = 64, num_classes: int | None = None) -> None:
        super().__init__()
        trunk = Trunk(width=width, **self.trunk)
        self.stem, self.stages, self.norm = trunk.stem, trunk.stages, trunk.norm
        self.num_features = trunk.out_channels
        self.clip_spec = clip_spec
        self.layer_modules = layer_modules()
        self._set_head(num_classes)

    def _stages(self, x: Tensor) -> Iterator[Tensor]:
        x = self.stem(check_clip(x, type(self).__name__))
        yield x
        for stage in self.stages:
            x = stage(x)
            yield x

    def _finish(self, maps: Tensor, batch: int) -> Tensor:
        return self.norm(maps)

    def _pool(self, features: Tensor) -> Tensor:
        return features.mean((2, 3, 4))


class VIE3DResNet(_ClipEncoder):
    """VIE-3DResNet: 3x3x3 kernels throughout. The stem's pool and stages 2-4 each halve time (T' = T / 16)."""

    trunk = TRUNK_3DRESNET
    time_reductions = (2, 2, 4, 8, 16)


class VIESlow(_ClipEncoder):
    """VIE-Slow: few frames, far apart. Kernels span time from stage 3 on. Time is never reduced (T' = T)."""

    trunk = TRUNK_SLOW


class VIEFast(_ClipEncoder):
    """The fast pathway by itself: many frames, few channels. Kernels span time in every stage (T' = T)."""

    trunk = TRUNK_FAST

    def __init__(self, clip_spec: ClipSpec, *, width: int = 8, num_classes: int | None = None) -> None:
        super().__init__(clip_spec, width=width, num_classes=num_classes)
