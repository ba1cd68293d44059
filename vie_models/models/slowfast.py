"""VIE-Slowfast: a slow and a fast pathway, joined by lateral connections.

Source: Zhuang et al., CVPR 2020, section 3; Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019.

B batch, C channels, T time, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip_spec import ClipSpec
from .blocks import Trunk, init_convolutions, layer_modules
from .conv import Conv3d
from .encoder import Encoder, check_clip
from .resnet3d import TRUNK_FAST, TRUNK_SLOW
from .tracing import Proxy, traced_module

SLOW_STRIDE = 4  # the slow pathway sees every 4th frame
LATERAL_RATIO = 2  # a lateral outputs twice as many channels as it receives


class Lateral(Conv3d):
    """Brings the fast pathway's maps to the slow rate with a 5x1x1 convolution, and appends them to the slow maps."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, LATERAL_RATIO * channels, (5, 1, 1), (SLOW_STRIDE, 1, 1), (2, 0, 0), bias=False)

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:  # type: ignore[override]
        """[B, C, T/4, H, W], [B, c, T, H, W] -> [B, C + 2c, T/4, H, W]."""
        if isinstance(slow, Proxy):
            return traced_module(self, slow, fast)
        return torch.cat([slow, super().forward(fast)], dim=1)


class VIESlowfast(Encoder):
    """VIE-Slowfast: a slow and a fast pathway that see the same clip at two frame rates.

    Layer names refer to the slow pathway, which receives the fast pathway's maps. `fast_width` defaults to width // 8.
    Last maps: slow [B, 10 * width, T/4, H/32, W/32], fast [B, 8 * fast_width, T, H/32, W/32].
    """

    stage_modules = tuple(f"lateral.{k}" for k in range(5))
    time_reductions = (SLOW_STRIDE,) * 5

    def __init__(
        self, clip_spec: ClipSpec, *, width: int = 64, fast_width: int | None = None, num_classes: int | None = None
    ) -> None:
        super().__init__()
        fast_width = max(width // 8, 1) if fast_width is None else fast_width
        fast_channels = [fast_width * c for c in (1, 1, 2, 4, 8)]  # after the pool and after each stage
        self.fast = Trunk(width=fast_width, **TRUNK_FAST)
        self.slow = Trunk(width=width, extra=[LATERAL_RATIO * c for c in fast_channels], **TRUNK_SLOW)
        self.lateral = nn.ModuleList(Lateral(c) for c in fast_channels)
        init_convolutions(self.lateral)
        self.num_features = self.slow.out_channels + self.fast.out_channels
        self.clip_spec = clip_spec
        self.layer_modules = layer_modules("slow.", first="lateral.0")
        self._set_head(num_classes)

    def _stages(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        x = check_clip(x, "vie_slowfast")
        slow, fast = self.slow.stem(x[:, :, ::SLOW_STRIDE]), self.fast.stem(x)
        slow = self.lateral[0](slow, fast)
        yield slow, fast
        for k in range(4):
            slow, fast = self.slow.stages[k](slow), self.fast.stages[k](fast)
            slow = self.lateral[k + 1](slow, fast)
            yield slow, fast

    def _finish(self, maps: tuple[Tensor, Tensor], batch: int) -> tuple[Tensor, Tensor]:
        slow, fast = maps
        return self.slow.norm(slow), self.fast.norm(fast)

    def _stage_map(self, maps: tuple[Tensor, Tensor], batch: int) -> Tensor:
        return maps[0]

    def _last_map(self, features: tuple[Tensor, Tensor]) -> Tensor:
        return features[0]

    def _unpooled(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Slow maps and, averaged over the time of each, fast maps: [B, F, T/4, H/32, W/32]."""
        slow, fast = features
        return torch.cat([slow, F.adaptive_avg_pool3d(fast, (slow.shape[2], None, None))], dim=1)

    def _pool(self, features: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat([maps.mean((2, 3, 4)) for maps in features], dim=1)
