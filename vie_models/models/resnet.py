"""Encoders that see single frames: VIE-Single and VIE-TRN.

Source: Zhuang et al., CVPR 2020, section 3; TRN after Zhou et al., "Temporal Relational Reasoning in Videos", ECCV 2018.

B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ..clip_spec import ClipSpec
from .blocks import Trunk, layer_modules
from .encoder import Encoder, check_clip


class _FrameEncoder(Encoder):
    """A 2-D ResNet-18 on each frame. A hook on one of its modules sees all frames of the batch: [B*T, C, H', W']."""

    def __init__(self, clip_spec: ClipSpec, width: int) -> None:
        super().__init__()
        trunk = Trunk(width=width, stem_kernel=(7, 7), stem_stride=(2, 2), pool_kernel=(3, 3), pool_stride=(2, 2))
        self.stem, self.stages, self.norm = trunk.stem, trunk.stages, trunk.norm
        self.num_features = trunk.out_channels
        self.clip_spec = clip_spec
        self.layer_modules = layer_modules()

    def _check_clip(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _stages(self, x: Tensor) -> Iterator[Tensor]:
        x = self.stem(self._check_clip(x).transpose(1, 2).flatten(0, 1))  # [B*T, C, H', W'], each frame on its own
        yield x
        for stage in self.stages:
            x = stage(x)
            yield x

    def _finish(self, maps: Tensor, batch: int) -> Tensor:
        return self._clip_maps(self.norm(maps), batch)

    def _stage_map(self, maps: Tensor, batch: int) -> Tensor:
        return self._clip_maps(maps, batch)


class VIESingle(_FrameEncoder):
    """VIE-Single: a 2-D ResNet-18 on each frame. The feature maps of a clip's frames are averaged over time.

    Takes [B, 3, T, H, W] or single frames [B, 3, H, W]. Feature maps keep a time axis of length 1.
    Last maps: [B, 8 * width, 1, H/32, W/32].
    """

    time_reductions = (None,) * 5

    def __init__(self, clip_spec: ClipSpec, *, width: int = 64, num_classes: int | None = None) -> None:
        super().__init__(clip_spec, width)
        self._set_head(num_classes)

    def _check_clip(self, x: Tensor) -> Tensor:
        return check_clip(x, "vie_single", images=True)

    def _pool(self, features: Tensor) -> Tensor:
        return features.mean((2, 3, 4))

    def _clip_maps(self, output: Tensor, batch: int) -> Tensor:
        return _clips(output, batch).mean(2, keepdim=True)


class VIETRN(_FrameEncoder):
    """VIE-TRN: a 2-D ResNet-18 on each of `clip_spec.num_frames` frames. Pooled frames are concatenated in time order.

    T must be `clip_spec.num_frames`. Last maps: [B, 8 * width, T, H/32, W/32].
    """

    def __init__(self, clip_spec: ClipSpec, *, width: int = 64, num_classes: int | None = None) -> None:
        super().__init__(clip_spec, width)
        self.num_features *= clip_spec.num_frames
        self._set_head(num_classes)

    def _check_clip(self, x: Tensor) -> Tensor:
        return check_clip(x, "vie_trn", frames=self.clip_spec.num_frames)

    def _pool(self, features: Tensor) -> Tensor:
        return features.mean((3, 4)).transpose(1, 2).flatten(1)  # [B, T*C], time order

    def _clip_maps(self, output: Tensor, batch: int) -> Tensor:
        return _clips(output, batch)


def _clips(frames: Tensor, batch: int) -> Tensor:
    """[B*T, C, H, W] -> [B, C, T, H, W]."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)
