"""Two-pathway models: a static and a dynamic encoder, trained separately, that see the same clip.

Source: Zhuang et al., CVPR 2020, section 3 (VIE-TwoPathway-S and -SF).

B batch, C channels, T time, H height, W width, F features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..clip_spec import ClipSpec
from .encoder import OUTPUT, Encoder, FeatureMaps, check_clip
from .resnet import VIESingle
from .resnet3d import VIESlow
from .slowfast import VIESlowfast


class VIETwoPathway(Encoder):
    """A static encoder (VIE-Single, its maps averaged over time) beside a dynamic one (VIE-Slow or VIE-Slowfast).

    The reference defines no joint embedding. Ours concatenates both pathways' unit embeddings and divides by sqrt(2): [B, 256].
    Pooled features follow the reference: the last layer of each pathway, averaged over space and time, concatenated
    (512 + 512 for Slow; 512 + 640 for Slowfast, whose fast maps enter through the last lateral).

    Args:
        static, dynamic: two encoders with their embedding heads, loaded or new. The dynamic one provides the clip_spec.
    """

    def __init__(self, static: Encoder, dynamic: Encoder, *, num_classes: int | None = None) -> None:
        super().__init__()
        for role, pathway in (("static", static), ("dynamic", dynamic)):
            if isinstance(pathway, VIETwoPathway) or pathway.num_classes is not None:
                raise ValueError(
                    f"the {role} pathway must be a one-pathway encoder with its embedding head, "
                    f"got {type(pathway).__name__} with num_classes={pathway.num_classes}"
                )
        self.static, self.dynamic = static, dynamic
        self.num_features = sum(_last_channels(pathway) for pathway in (static, dynamic))
        self.clip_spec = dynamic.clip_spec
        self.layer_modules = {
            f"{role}.{name}": f"{role}.{path}"
            for role, pathway in self._pathways().items()
            for name, path in pathway.layer_modules.items()
        }
        self._set_head(num_classes)

    def _pathways(self) -> dict[str, Encoder]:
        return {"static": self.static, "dynamic": self.dynamic}

    def forward_features(self, x: Tensor) -> tuple[FeatureMaps, FeatureMaps]:  # type: ignore[override]
        """[B, 3, T, H, W] -> the results of `static.forward_features` and `dynamic.forward_features`."""
        check_clip(x, "a two-pathway model")
        return self.static.forward_features(x), self.dynamic.forward_features(x)

    def forward_head(self, features: FeatureMaps, pre_logits: bool = False) -> Tensor:
        """Both pathways' features -> [B, 256] embedding or [B, num_classes] logits; with `pre_logits` [B, F]."""
        if self.num_classes is None and not pre_logits:
            embeddings = [p.forward_head(f) for p, f in zip((self.static, self.dynamic), features, strict=True)]
            return torch.cat(embeddings, dim=1) / 2**0.5
        return super().forward_head(features, pre_logits)  # type: ignore[arg-type]

    def _pool(self, features: tuple[FeatureMaps, FeatureMaps]) -> Tensor:  # type: ignore[override]
        maps = [f if isinstance(f, Tensor) else f[0] for f in features]  # Slowfast gives (slow, fast)
        return torch.cat([m.mean((2, 3, 4)) for m in maps], dim=1)

    def forward_intermediates(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """As `Encoder.forward_intermediates`. Only the pathways that `layers` need are run."""
        layers = self._checked(layers)
        features, maps = {}, {}
        for role, pathway in self._pathways().items():
            own = [name.removeprefix(f"{role}.") for name in layers if name.startswith(f"{role}.")]
            if own or OUTPUT in layers:
                features[role], found = pathway._features_and_maps(x, own)
                maps.update({f"{role}.{name}": m for name, m in found.items()})
        if OUTPUT in layers:
            maps[OUTPUT] = self.forward_head((features["static"], features["dynamic"]))
        return {name: maps[name] for name in layers}

    def _set_head(self, num_classes: int | None) -> None:
        """Sets the head. Embeddings come from the pathways' own heads, which logits and pooled features do without."""
        for pathway in self._pathways().values():
            if (pathway.num_classes is None) != (num_classes is None):
                pathway.reset_classifier(None if num_classes is None else 0)
        if isinstance(self.dynamic, VIESlowfast):  # only the embedding head uses the fast pathway's last norm
            self.dynamic.fast.norm.requires_grad_(num_classes is None)
        if num_classes is None:
            self.num_classes, self.head = None, nn.Identity()
        else:
            super()._set_head(num_classes)


def _last_channels(encoder: Encoder) -> int:
    """Returns the number of channels of the last layer, `encode_10`, which is a batch norm."""
    return int(encoder.get_submodule(encoder.layer_modules["encode_10"]).num_features)  # type: ignore[arg-type]


def two_pathway(static: Encoder, dynamic: Encoder) -> Encoder:
    """Joins two encoders, loaded or new, to a two-pathway model [B, 3, T, H, W] -> [B, 256]. The encoders are not copied.

    Args:
        static: a VIE-Single encoder with its embedding head.
        dynamic: a VIE-Slow or VIE-Slowfast encoder with its embedding head. It provides the clip_spec.

    Raises:
        ValueError: no registered two-pathway model is made of these two.
    """
    names = {
        ("vie_single", "vie_slow"): "vie_twopathway_slow",
        ("vie_single", "vie_slowfast"): "vie_twopathway",
        ("vie_single_tiny", "vie_slowfast_tiny"): "vie_twopathway_tiny",
        ("vie_single_small", "vie_slowfast_small"): "vie_twopathway_small",
    }
    pair = (static.model_name, dynamic.model_name)
    if pair not in names:
        known = ", ".join(f"{s} + {d}" for s, d in names)
        raise ValueError(f"no two-pathway model is made of {pair[0]} + {pair[1]}; known pairs are {known}")
    model = VIETwoPathway(static, dynamic)
    model.model_name = names[pair]
    model.model_args = {**dynamic.model_args, "static_width": static.stem.conv.out_channels}  # type: ignore[union-attr]
    return model


def with_slow(
    clip_spec: ClipSpec, *, width: int = 64, static_width: int | None = None, num_classes: int | None = None
) -> Encoder:
    """Builds VIE-Single and VIE-Slow as one untrained model."""
    static = VIESingle(_single_frame(clip_spec), width=static_width or width)
    return VIETwoPathway(static, VIESlow(clip_spec, width=width), num_classes=num_classes)


def with_slowfast(
    clip_spec: ClipSpec,
    *,
    width: int = 64,
    fast_width: int | None = None,
    static_width: int | None = None,
    num_classes: int | None = None,
) -> Encoder:
    """Builds VIE-Single and VIE-Slowfast as one untrained model."""
    static = VIESingle(_single_frame(clip_spec), width=static_width or width)
    return VIETwoPathway(static, VIESlowfast(clip_spec, width=width, fast_width=fast_width), num_classes=num_classes)


def _single_frame(clip_spec: ClipSpec) -> ClipSpec:
    return dataclasses.replace(clip_spec, num_frames=1, frame_interval=1, placement="segments")
