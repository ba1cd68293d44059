"""Two-pathway models: a static and a dynamic encoder, trained separately, that see the same clip.

Source: Zhuang et al., CVPR 2020, section 3 (VIE-TwoPathway-S and -SF).

B batch, C channels, T time, H height, W width, F features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

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

    embedding_size = 256

    def __init__(self, static: Encoder, dynamic: Encoder, *, num_classes: int | None = None) -> None:
        super().__init__()
        for role, pathway in (("static", static), ("dynamic", dynamic)):
            if isinstance(pathway, VIETwoPathway) or pathway.num_classes is not None:
                raise ValueError(
                    f"the {role} pathway must be a one-pathway encoder with its embedding head, "
                    f"got {type(pathway).__name__} with num_classes={pathway.num_classes}"
                )
        self.static, self.dynamic = static, dynamic
        self.num_features = sum(pathway._stage_channels()[-1] for pathway in (static, dynamic))
        self.clip_spec = dynamic.clip_spec
        self.layer_modules = {
            f"{role}.{name}": f"{role}.{path}"
            for role, pathway in self._pathways().items()
            for name, path in pathway.layer_modules.items()
        }
        both = zip(static.stage_modules, dynamic.stage_modules, strict=True)
        self.stage_modules = tuple(f"static.{s}+dynamic.{d}" for s, d in both)
        self.time_reductions = dynamic.time_reductions
        self._set_head(num_classes)

    def _pathways(self) -> dict[str, Encoder]:
        return {"static": self.static, "dynamic": self.dynamic}

    def forward_features(self, x: Tensor) -> tuple[FeatureMaps, FeatureMaps]:  # type: ignore[override]
        """[B, 3, T, H, W] -> the results of `static.forward_features` and `dynamic.forward_features`."""
        x = check_clip(x, "a two-pathway model")
        return self.static.forward_features(x), self.dynamic.forward_features(x)

    def _stages(self, x: Tensor) -> Iterator[tuple[FeatureMaps, FeatureMaps]]:
        x = check_clip(x, "a two-pathway model")
        yield from zip(self.static._stages(x), self.dynamic._stages(x), strict=True)

    def _finish(self, maps: tuple[FeatureMaps, FeatureMaps], batch: int) -> tuple[FeatureMaps, FeatureMaps]:
        return self.static._finish(maps[0], batch), self.dynamic._finish(maps[1], batch)

    def _stage_map(self, maps: tuple[FeatureMaps, FeatureMaps], batch: int) -> Tensor:
        return _side_by_side(self.static._stage_map(maps[0], batch), self.dynamic._stage_map(maps[1], batch))

    def _last_map(self, features: tuple[FeatureMaps, FeatureMaps]) -> Tensor:
        return _side_by_side(self.static._last_map(features[0]), self.dynamic._last_map(features[1]))

    def _stage_channels(self) -> list[int]:
        return [s + d for s, d in zip(self.static._stage_channels(), self.dynamic._stage_channels(), strict=True)]

    def forward_head(self, features: FeatureMaps, pre_logits: bool = False) -> Tensor:
        """Both pathways' features -> [B, 256] embedding or [B, num_classes] logits; with `pre_logits` [B, F]."""
        if self.num_classes is None and not pre_logits:
            embeddings = [p.forward_head(f) for p, f in zip((self.static, self.dynamic), features, strict=True)]
            return torch.cat(embeddings, dim=1) / 2**0.5
        return super().forward_head(features, pre_logits)  # type: ignore[arg-type]

    def _pool(self, features: tuple[FeatureMaps, FeatureMaps]) -> Tensor:  # type: ignore[override]
        maps = (self.static._last_map(features[0]), self.dynamic._last_map(features[1]))
        return torch.cat([m.mean((2, 3, 4)) for m in maps], dim=1)

    def forward_layers(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """As `Encoder.forward_layers`. Runs only the pathways that `layers` need."""
        names = self.check_layers(layers)
        features, maps = {}, {}
        for role, pathway in self._pathways().items():
            of_pathway = [name.removeprefix(f"{role}.") for name in names if name.startswith(f"{role}.")]
            if of_pathway or OUTPUT in names:
                features[role], found = pathway._features_and_layers(x, of_pathway)
                maps.update({f"{role}.{name}": found_map for name, found_map in found.items()})
        if OUTPUT in names:
            maps[OUTPUT] = self.forward_head((features["static"], features["dynamic"]))
        return {name: maps[name] for name in names}

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


def _side_by_side(static: Tensor, dynamic: Tensor) -> Tensor:
    """[B, C, 1, H, W], [B, c, T, H, W] -> [B, C + c, T, H, W]: the static maps stand beside every step of the dynamic ones."""
    return torch.cat([static.expand(-1, -1, dynamic.shape[2], -1, -1), dynamic], dim=1)


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
