"""The interface of every VIE encoder.

B batch, C channels, T time, H height, W width, F = `num_features`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip_spec import ClipSpec
from .blocks import Block, NormAct, Stage
from .conv import Conv2d, Conv3d
from .hub_methods import HubMethods

EMBEDDING_SIZE = 128
OUTPUT = "output"  # the layer name of what `forward` returns
FeatureMaps = Any  # a tensor, or a tuple of tensors for several pathways: the input of `forward_head`


class Encoder(HubMethods, nn.Module):
    """Base class of all encoders. Takes one normalised clip tensor; returns an embedding, logits or pooled features.

    Subclasses build their trunk, call `_set_head`, and define `forward_features`, `_pool` and `layer_modules`.
    Input is float [B, 3, T, H, W]. T, H and W may differ from `clip_spec`; only VIE-TRN fixes T.
    """

    clip_spec: ClipSpec
    """Clips that the weights are made for."""
    num_features: int
    """Length F of the pooled features, the input of the head."""
    num_classes: int | None
    """None: the head returns an embedding; 0: there is no head; N: the head returns N logits."""
    layer_modules: dict[str, str]
    """Layer name -> path of the module that outputs it (for forward hooks and `get_submodule`)."""
    weights: Any = None
    """Catalog record of the loaded weight set, or None."""
    model_name: str
    """Registered name under which the encoder was built."""
    fused: bool = False
    """Whether the encoder is a copy made by `fuse`."""
    model_args: dict[str, Any]
    """Sizes with which the encoder was built: `create_model(model_name, num_classes=..., **model_args)` builds it again."""

    def forward_features(self, x: Tensor) -> FeatureMaps:
        """Returns the last feature maps, after the final relu(norm): the input of `forward_head`."""
        raise NotImplementedError

    def _pool(self, features: FeatureMaps) -> Tensor:
        """Feature maps -> [B, F]."""
        raise NotImplementedError

    def forward_head(self, features: FeatureMaps, pre_logits: bool = False) -> Tensor:
        """Feature maps -> what `forward` returns, or with `pre_logits` the pooled features [B, F]."""
        x = self._pool(features)
        if pre_logits or self.num_classes == 0:
            return x
        x = self.head(x)
        return unit_norm(x) if self.num_classes is None else x

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> [B, 128] unit-norm embedding, [B, num_classes] logits, or [B, F] pooled features."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """Returns the activations of the named layers, each [B, C, T', H', W'], in the order given.

        The name "output" stands for what `forward` returns, from the same pass. Without it, the head is not run.
        An unknown name raises ValueError.
        """
        layers = self._checked(layers)
        features, maps = self._features_and_maps(x, [name for name in layers if name != OUTPUT])
        if OUTPUT in layers:
            maps[OUTPUT] = self.forward_head(features)
        return {name: maps[name] for name in layers}

    def _features_and_maps(self, x: Tensor, layers: Sequence[str]) -> tuple[FeatureMaps, dict[str, Tensor]]:
        """Returns `forward_features(x)` and the maps of the named layers, from one pass."""
        with self._recording(layers) as outputs:
            features = self.forward_features(x)
        return features, {name: self._layer_maps(output, x.shape[0]) for name, output in outputs.items()}

    def _layer_maps(self, output: Tensor, batch: int) -> Tensor:
        """Output of a layer's module for `batch` clips -> [B, C, T', H', W']."""
        return output

    def _checked(self, layers: str | Iterable[str]) -> list[str]:
        layers = [layers] if isinstance(layers, str) else list(layers)
        if unknown := [name for name in layers if name not in self.layer_modules and name != OUTPUT]:
            raise ValueError(
                f"{self.model_name} has no layer {', '.join(map(repr, unknown))}; it has {', '.join(self.layer_modules)}"
            )
        return layers

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
    def layer_names(self) -> list[str]:
        """Names of the layers for `forward_intermediates`, from input to output."""
        return list(self.layer_modules)

    def get_classifier(self) -> nn.Module:
        """Returns the head: Linear(F, 128 or num_classes), or Identity if there is none."""
        return self.head

    def reset_classifier(self, num_classes: int | None) -> None:
        """Replaces the head with an untrained one: N for logits, 0 for pooled features (no head), None for embeddings."""
        self._set_head(num_classes)

    def _set_head(self, num_classes: int | None) -> None:
        if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 0):
            raise ValueError(f"num_classes must be None (embedding), 0 (no head) or a number of classes, got {num_classes!r}")
        self.num_classes = num_classes
        like = next(self.parameters())
        self.head = new_head(self.num_features, EMBEDDING_SIZE if num_classes is None else num_classes).to(
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
        """Returns the parameter groups for an optimiser: weights, biases and norms. Norms never decay.

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
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)


def check_clip(x: Tensor, name: str) -> Tensor:
    """Returns `x` if it is a float clip [B, 3, T, H, W] whose T, H and W are at least 1. Otherwise raises ValueError."""
    if x.ndim != 5 or x.shape[1] != 3 or min(x.shape[2:]) < 1:
        raise ValueError(f"{name} takes clips [B, 3, T, H, W], got {list(x.shape)}; see ClipSpec and clip_transform")
    if not x.is_floating_point():
        raise ValueError(f"{name} takes normalised float clips, got {x.dtype}; pass frames through clip_transform first")
    return x
