"""The interface of every VIE encoder.

B batch, C channels, T time, H height, W width, F = `num_features`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from ..clip_spec import ClipSpec
from .blocks import Block, NormAct, Stage
from .conv import Conv2d, Conv3d
from .pretrained import load_pretrained
from .tracing import Proxy, traced_function
from .weight_folder import CONFIG_KEYS, save_pretrained

OUTPUT = "output"  # the layer name of what `forward` returns
FeatureMaps = Any  # a tensor, or a tuple of tensors for several pathways: the input of `forward_head`


CARD = """---
{{ card_data }}
---

# {{ model_name | default("A VIE encoder") }}

A video encoder of Video Instance Embedding (Zhuang et al., CVPR 2020).

```python
import vie_models as vie
model = vie.from_pretrained("{{ repo_id | default("this folder or repository") }}")
```
"""
"""Template of the model card that `save_pretrained` writes if there is none."""


class Encoder(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="vie_models",
    pipeline_tag="video-classification",
    tags=["video", "self-supervised", "video-instance-embedding", "feature-extraction"],
    model_card_template=CARD,
):
    """Base class of all encoders. Takes one normalized clip tensor; returns an embedding, logits or pooled features.

    `from_pretrained`, `save_pretrained` and `push_to_hub` are those of huggingface_hub's PyTorchModelHubMixin.

    Subclasses build their trunk, call `_set_head`, and define `_stages`, `_finish`, `_pool` and `layer_modules`.
    Input is float [B, 3, T, H, W]. T, H and W may differ from `clip_spec`; only VIE-TRN fixes T.
    """

    clip_spec: ClipSpec
    """Clips that the weights are made for."""
    num_features: int
    """Length F of the pooled features, the input of the head."""
    num_classes: int | None
    """None: the head returns an embedding; 0: there is no head; N: the head returns N logits."""
    embedding_size: int = 128
    """Length of the embedding."""
    layer_modules: dict[str, str]
    """Layer name -> path of the module that outputs it (for forward hooks and `get_submodule`)."""
    stage_modules: tuple[str, ...] = ("stem.pool", "stages.0", "stages.1", "stages.2", "stages.3")
    """Paths of the modules that output the maps of `feature_info`."""
    time_reductions: tuple[int | None, ...] = (1,) * 5
    """For each map of `feature_info`, frames per step in time. None: averaged over all frames."""
    global_pool: str = "avg"
    """"avg", or "" for a model without a head that returns its last maps unpooled."""
    weights: Any = None
    """Catalog record of the loaded weight set, or None."""
    source: Mapping[str, str] = MappingProxyType({})
    """Versions of other packages that it comes from: none."""
    model_name: str
    """Registered name under which the encoder was built."""
    fused: bool = False
    """Whether the encoder is a copy made by `fuse`."""
    model_args: dict[str, Any]
    """Sizes with which the encoder was built: `create_model(model_name, num_classes=..., **model_args)` builds it again."""

    def _save_pretrained(self, save_directory: Path) -> None:
        save_pretrained(self, save_directory)

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        num_classes: int | None = None,
        **saved: Any,
    ) -> Encoder:
        """What `from_pretrained` does: strict, in evaluation mode. The mixin gives the content of config.json too."""
        known = {*CONFIG_KEYS, "proxies", "resume_download"}  # the last two are huggingface_hub 0.x's
        if unknown := sorted(set(saved) - known):
            raise TypeError(f"from_pretrained() got {unknown[0]}=: only num_classes= may differ from what was saved")
        model = load_pretrained(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            num_classes=num_classes,
        )
        if not isinstance(model, cls):
            raise ValueError(
                f"{model_id} holds {model.model_name}, a {type(model).__name__} and not a {cls.__name__}: "
                f"load it with {type(model).__name__}.from_pretrained or vie_models.from_pretrained"
            )
        return model

    def forward_features(self, x: Tensor) -> FeatureMaps:
        """Returns the last feature maps, after the final relu(norm): the input of `forward_head`."""
        for maps in self._stages(x):
            last = maps
        return self._finish(last, x.shape[0])

    def _stages(self, x: Tensor) -> Iterator[FeatureMaps]:
        """Checks and runs a clip, and yields the maps after the stem and after each of the 4 stages, before the last norm."""
        raise NotImplementedError

    def _finish(self, maps: FeatureMaps, batch: int) -> FeatureMaps:
        """What `_stages` yields last, for `batch` clips -> what `forward_features` returns."""
        raise NotImplementedError

    def _stage_map(self, maps: FeatureMaps, batch: int) -> Tensor:
        """What `_stages` yields, for `batch` clips -> one map [B, C, T', H', W']."""
        return maps

    def _last_map(self, features: FeatureMaps) -> Tensor:
        """What `forward_features` returns -> one map with the channels of the last stage."""
        return features

    def _unpooled(self, features: FeatureMaps) -> Tensor:
        """What `forward_features` returns -> one map. Its average over space and time is `_pool(features)`, except TRN's."""
        return self._last_map(features)

    def _pool(self, features: FeatureMaps) -> Tensor:
        """Feature maps -> [B, F]."""
        raise NotImplementedError

    def forward_head(self, features: FeatureMaps, pre_logits: bool = False) -> Tensor:
        """Feature maps -> what `forward` returns, or with `pre_logits` the pooled features [B, F]."""
        x = self._pool(features) if self.global_pool else self._unpooled(features)
        if pre_logits or self.num_classes == 0:
            return x
        x = self.head(x)
        return unit_norm(x) if self.num_classes is None else x

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, 128] unit-norm embedding, [B, num_classes] logits, or [B, F] pooled features."""
        return self.forward_head(self.forward_features(x))

    def forward_layers(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """Returns the activations of the named layers, each [B, C, T', H', W'], as a dict in the order given.

        The name "output" stands for what `forward` returns, from the same pass. Without it, the head is not run.

        Args:
            x: clips [B, 3, T, H, W].
            layers: names of layers: see `layer_names`.

        Raises:
            ValueError: there is no such layer.
        """
        names = self.check_layers(layers)
        features, maps = self._features_and_layers(x, [name for name in names if name != OUTPUT])
        if OUTPUT in names:
            maps[OUTPUT] = self.forward_head(features)
        return {name: maps[name] for name in names}

    def _features_and_layers(self, x: Tensor, layers: Sequence[str]) -> tuple[FeatureMaps, dict[str, Tensor]]:
        """Returns `forward_features(x)` and the maps of the named layers, from one pass."""
        with self._recording(layers) as outputs:
            features = self.forward_features(x)
        return features, {name: self._clip_maps(output, x.shape[0]) for name, output in outputs.items()}

    def _clip_maps(self, output: Tensor, batch: int) -> Tensor:
        """Output of a layer's module for `batch` clips -> [B, C, T', H', W']."""
        return output

    def check_layers(self, layers: str | Iterable[str]) -> list[str]:
        """Returns names of layers as a list. Raises ValueError for one that the encoder does not have."""
        layers = [layers] if isinstance(layers, str) else list(layers)
        if unknown := [name for name in layers if name not in self.layer_modules and name != OUTPUT]:
            raise ValueError(
                f"{self.model_name} has no layer {', '.join(map(repr, unknown))}; it has {', '.join(self.layer_modules)}"
            )
        return layers

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Returns `(forward_features(x), maps)`, as timm's models do: the maps of `feature_info`, from input to output.

        Args:
            x: clips [B, 3, T, H, W].
            indices: numbers of maps (negative ones count from the end), n for the last n, None for all.
            norm: apply the final norm to the last stage's map. All other maps are those before the norm that follows them.
            stop_early: run no stage after the last that is wanted. The first result is then its map.
            output_fmt: "NCHW" for maps [B, C, T', H', W'], "NHWC" for [B, T', H', W', C].
            intermediates_only: return the list of maps alone.

        Raises:
            ValueError: there is no such number or format.
        """
        if output_fmt not in ("NCHW", "NHWC"):
            raise ValueError(f'output_fmt must be "NCHW" (channels first) or "NHWC" (channels last), got {output_fmt!r}')
        wanted, batch, last = self.stage_indices(indices), x.shape[0], len(self.stage_modules) - 1
        end = max(wanted) if stop_early or intermediates_only else last
        maps: dict[int, Tensor] = {}
        for number, stage in enumerate(self._stages(x)):
            if number in wanted:
                maps[number] = self._stage_map(stage, batch)
            if number == end:
                break
        features = self._finish(stage, batch) if end == last else maps[end]
        if norm and last in maps:
            maps[last] = self._last_map(features)
        found = [found.movedim(1, -1) if output_fmt == "NHWC" else found for found in maps.values()]
        return found if intermediates_only else (features, found)

    def stage_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        """Returns the numbers of the maps that timm's `indices` stand for: see `forward_intermediates`."""
        count = len(self.stage_modules)
        if indices is None:
            return list(range(count))
        if isinstance(indices, int):
            if not 1 <= indices <= count:
                raise ValueError(f"a whole number asks for the last 1 to {count} maps, got {indices}; give [{indices}] for one")
            return list(range(count - indices, count))
        if not len(indices) or not all(isinstance(index, int) and -count <= index < count for index in indices):
            raise ValueError(
                f"{self.model_name} has the maps 0 to {count - 1} (see feature_info), got {list(indices)!r}; "
                "for named layers use forward_layers"
            )
        return [index % count for index in indices]

    @contextlib.contextmanager
    def _recording(self, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        outputs: dict[str, Tensor] = {}
        handles = []
        try:
            for name in set(layers):

                def record(module: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
                    outputs[name] = output

                handles.append(self.get_submodule(self.layer_modules[name]).register_forward_hook(record))
            yield outputs
        finally:
            for handle in handles:
                handle.remove()

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """What timm's `features_only=True` gives: for the map after the stem and after each stage, one dict.

        `num_chs` is C of [B, C, T', H', W'], `reduction` H / H', `reduction_time` T / T' (None: averaged over all frames), and
        `module` the path of the module that outputs it (two-pathway: the two, joined by "+").
        """
        found = zip(self._stage_channels(), (4, 4, 8, 16, 32), self.time_reductions, self.stage_modules, strict=True)
        return [dict(num_chs=c, reduction=r, reduction_time=t, module=module) for c, r, t, module in found]

    def _stage_channels(self) -> list[int]:
        """Returns the channels of each map of `feature_info`: those of the norm that comes after it."""
        norms = [self.get_submodule(self.layer_modules[f"encode_{k}"]) for k in (2, 4, 6, 8, 10)]
        return [norm.num_features for norm in norms]  # type: ignore[misc]

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers for `forward_layers`, from input to output."""
        return list(self.layer_modules)

    def get_classifier(self) -> nn.Module:
        """Returns the head: Linear(F, 128 or num_classes), or Identity if there is none."""
        return self.head

    def reset_classifier(self, num_classes: int | None, global_pool: str | None = None) -> None:
        """Replaces the head with an untrained one: N for logits, 0 for pooled features (no head), None for embeddings.

        With `num_classes=0` and `global_pool=""`, `forward` returns the last maps, [B, C, T', H', W']. "avg" pools again; None
        changes nothing about it. Slowfast's maps have all F channels, fast ones averaged over the time of each slow step.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ("avg", ""):
            raise ValueError(f'global_pool must be "avg" (pooled features) or "" (maps, without a head), got {pool!r}')
        if not pool and num_classes != 0:
            raise ValueError(
                f'global_pool="" gives maps, on which no head can work, got num_classes={num_classes}; '
                'give num_classes=0, or global_pool="avg"'
            )
        self._set_head(num_classes)
        self.global_pool = pool

    @property
    def head_hidden_size(self) -> int:
        """timm's name for `num_features`, the length of pooled features."""
        return self.num_features

    def _set_head(self, num_classes: int | None) -> None:
        if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 0):
            raise ValueError(f"num_classes must be None (embedding), 0 (no head) or a number of classes, got {num_classes!r}")
        self.num_classes = num_classes
        like = next(self.parameters())
        self.head = new_head(self.num_features, self.embedding_size if num_classes is None else num_classes).to(
            like.device, like.dtype
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes each block's activations in the backward pass of training: less memory, about a third more time."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.grad_checkpointing = enable

    def fuse(self) -> Encoder:
        """Returns a copy for inference that folds the second norm of every block into the convolution before it.

        Layers and outputs are the same up to rounding (1e-5 of the largest value). Do not change the copy's weights: inference
        on CPU does not check them for changes. The copy cannot be saved, so keep the encoder it was made of.
        """
        copied = copy.deepcopy(self).eval()
        if not copied.fused:
            for block in copied.modules():
                if isinstance(block, Block):
                    block.fuse()
        for module in copied.modules():
            if isinstance(module, Conv2d | Conv3d):
                module.constant = True
        copied.fused = True
        return copied.requires_grad_(False)

    def parameter_groups(self, weight_decay: float, bias_weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Returns the parameter groups for an optimizer: weights, biases and norms. Norms never decay.

        The reference decays everything except BatchNorm, so its `bias_weight_decay` equals its `weight_decay`.
        """
        norms = {id(p) for m in self.modules() if isinstance(m, NormAct) for p in m.parameters()}
        groups: dict[str, list[nn.Parameter]] = {"weights": [], "biases": [], "norms": []}
        for parameter in self.parameters():
            kind = "norms" if id(parameter) in norms else "biases" if parameter.ndim < 2 else "weights"
            groups[kind].append(parameter)
        decay = {"weights": weight_decay, "biases": bias_weight_decay, "norms": 0.0}
        return [{"name": k, "params": p, "weight_decay": decay[k]} for k, p in groups.items() if p]


def new_head(num_features: int, size: int) -> nn.Module:
    """Builds Linear(num_features, size) with normal weights of std 0.01 and zero bias, or Identity for size 0."""
    if size == 0:
        return nn.Identity()
    head = nn.Linear(num_features, size)
    if not head.weight.is_meta:
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return head


def unit_norm(x: Tensor) -> Tensor:
    """Divides x by its Euclidean length along axis 1. Half precision is computed and returned in float32."""
    if isinstance(x, Proxy):
        return traced_function(unit_norm, x)
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=1)


def check_clip(x: Tensor, name: str, frames: int | None = None, images: bool = False) -> Tensor:
    """Returns `x` if it is a float clip [B, 3, T, H, W] whose T, H and W are at least 1. Otherwise raises ValueError.

    Args:
        x: what `forward` was given.
        name: whose input it is, for messages.
        frames: the only T that will do. None: any.
        images: whether [B, 3, H, W] will do too; it is returned as [B, 3, 1, H, W].
    """
    if isinstance(x, Proxy):
        return traced_function(check_clip, x, name, frames, images)
    if images and x.ndim == 4:
        x = x.unsqueeze(2)
    if x.ndim != 5 or x.shape[1] != 3 or min(x.shape[2:]) < 1:
        raise ValueError(f"{name} takes clips [B, 3, T, H, W], got {list(x.shape)}; see ClipSpec and clip_transform")
    if not x.is_floating_point():
        raise ValueError(f"{name} takes normalized float clips, got {x.dtype}; pass frames through clip_transform first")
    if frames is not None and x.shape[2] != frames:
        raise ValueError(
            f"{name} takes exactly {frames} frames, got T = {x.shape[2]}; "
            f"sample {frames} frames per clip, or train one with a clip_spec of {x.shape[2]} frames"
        )
    return x
