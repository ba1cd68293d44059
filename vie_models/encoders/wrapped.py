"""Any nn.Module as an encoder of clips: its input is laid out as it wants it, and its layers are recorded by their names.

B batch, C channels, T time, H height, W width, N tokens, D length of an embedding.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from ..clip_spec import ClipSpec
from .protocol import OUTPUT

FRAMES = "frames"
"""Name of the layer with the embedding of each frame, [B, D, T, 1, 1], of a model that takes images."""
CHANNELS_FIRST = (_ConvNd, _NormBase, _MaxPoolNd, _AvgPoolNd, _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a module takes clips and gives maps."""

    images: bool = False
    """Takes images [B * T, 3, H, W], each frame by itself. Its embedding is the mean over the clip's frames."""
    frames_first: bool = False
    """Takes clips [B, T, 3, H, W] and not [B, 3, T, H, W]."""
    channels_last: tuple[str, ...] = ()
    """First parts of the names of layers that give maps [..., H, W, C]. Convolutions, their norms and pools never do."""
    grid: tuple[int, int, int] | None = None
    """T', H' and W' of the tokens of a clip, or 1, H' and W' of those of a frame. None: tokens have no places."""
    prefix: int = 0
    """Number of tokens before those of the grid: CLS, registers."""
    time_last: bool = False
    """Tokens of the grid go through T' fastest, not slowest."""


def first_tensor(output: Any) -> Tensor:
    """Returns the tensor of what a module returns, or its first: of a tuple, a dict or a ModelOutput of transformers."""
    while not isinstance(output, Tensor):
        values = list(output.values()) if isinstance(output, Mapping) else output
        output = next(value for value in values if value is not None)
    return output


class WrappedModule(nn.Module):
    """An encoder of clips made of any module (see `VideoEncoder`), in evaluation mode.

    Layers are its modules, by the names of `module.named_modules()`, and "frames" (see `FRAMES`) if it takes images. A module
    that is called several times in one pass gives what it returned last. Maps of an image model have the clip's frames along
    T'. Tokens lie on the grid of `layout`; without one, along W'.

    Args:
        module: takes float clips [B, 3, T, H, W], or what `layout` says. Returns [B, D], or what `read` makes of it.
        clip_spec: the clips that it takes.
        name: what manifests call it (default: the name of its class).
        layout: how it takes clips and gives maps.
        read: makes [B, D] of what the module returns ([B * T, D] of images).
        call: further arguments of the module's call.
        source: see `VideoEncoder`.
    """

    def __init__(
        self,
        module: nn.Module,
        clip_spec: ClipSpec,
        *,
        name: str | None = None,
        layout: Layout = Layout(),
        read: Callable[[Any], Tensor] = first_tensor,
        call: Mapping[str, Any] = MappingProxyType({}),
        source: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.clip_spec, self.layout, self.read = module, clip_spec, layout, read
        self.model_name = name or f"{type(module).__module__}.{type(module).__qualname__}"
        self.source, self.call = source or {}, dict(call)
        self.eval()

    @property
    def layer_names(self) -> list[str]:
        """Names of the layers for `forward_layers`."""
        names = [name for name, module in self.module.named_modules() if name and not isinstance(module, nn.ModuleList)]
        return [*names, *[FRAMES] * self.layout.images]

    def check_layers(self, layers: str | Iterable[str]) -> list[str]:
        """Returns names of layers as a list. Raises ValueError for one that the module does not have."""
        layers = [layers] if isinstance(layers, str) else list(layers)
        known = self.layer_names
        for layer in layers:
            if layer not in known and layer != OUTPUT:
                near = difflib.get_close_matches(layer, known, 5, 0.4) or known[:5]
                raise ValueError(
                    f"{self.model_name} has no layer {layer!r}; near it are {', '.join(near)} (its {len(known)} layers are the "
                    "names that `vie info` lists, those of named_modules())"
                )
        return layers

    def forward(self, x: Tensor) -> Tensor:
        """Clips [B, 3, T, H, W] -> embeddings [B, D]."""
        return self.forward_layers(x, [OUTPUT])[OUTPUT]

    def forward_layers(self, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
        """Returns the named layers of clips [B, 3, T, H, W], each [B, C, T', H', W']; "output" is the embedding, [B, D].

        Raises:
            ValueError: there is no such layer, it was not called, or what it gives is no map of clips.
        """
        names = self.check_layers(layers)
        outputs: dict[str, Tensor] = {}
        grids: dict[str, tuple[int, ...]] = {}
        handles = []
        try:
            for name in {*names} - {OUTPUT, FRAMES}:

                def record(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                    outputs[name] = first_tensor(output).clone()  # what comes after may change it in place
                    match output:
                        case Tensor(), (int(), int(), int()) as grid:  # torchvision's MViT says where its tokens are
                            grids[name] = tuple(grid)

                handles.append(self.module.get_submodule(name).register_forward_hook(record))
            found = self.read(self.module(self._input(x), **self.call))
        finally:
            for handle in handles:
                handle.remove()
        if missing := [name for name in names if name not in {*outputs, OUTPUT, FRAMES}]:
            raise ValueError(f"{self.model_name} never calls {missing[0]!r} as a module: record a module in it or around it")
        batch = x.shape[0]
        if found.ndim != 2:
            raise ValueError(
                f"{self.model_name} gives {list(found.shape)} for {batch} clips, where an embedding is [B, D]: "
                "pass read=, which makes one of it"
            )
        if self.layout.images:
            per_frame = found.unflatten(0, (batch, -1))  # [B, T, D]
            outputs[FRAMES], found = per_frame.mT[..., None, None], per_frame.mean(1)
        return {name: found if name == OUTPUT else self._maps(name, outputs[name], x, grids.get(name)) for name in names}

    def _input(self, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] -> what the module takes."""
        if self.layout.images:
            return x.transpose(1, 2).flatten(0, 1)
        return x.transpose(1, 2) if self.layout.frames_first else x

    def _maps(self, name: str, x: Tensor, clips: Tensor, grid: tuple[int, ...] | None) -> Tensor:
        """What the layer `name` gives for `clips` -> [B, C, T', H', W']."""
        batch, frames = clips.shape[0], clips.shape[2]
        if name == FRAMES:
            return x
        if x.shape[0] not in (batch, batch * frames) or x.ndim > 5:
            raise ValueError(
                f"{name!r} of {self.model_name} gives {list(x.shape)} for {batch} clips of {frames} frames, which is no map of "
                "clips or frames: record a module around it"
            )
        one_by_one = x.shape[0] == batch * frames and (self.layout.images or frames > 1)
        if x.ndim == 2:
            x = x[:, :, None, None, None]
        elif x.ndim == 3:
            x = self._on_grid(x, one_by_one, grid)
        else:
            first = isinstance(self.module.get_submodule(name), CHANNELS_FIRST)
            x = x.movedim(-1, 1) if name.startswith(self.layout.channels_last) and not first else x
            x = x if x.ndim == 5 else x[:, :, None]  # [B or B * T, C, T', H', W']
        if one_by_one:
            x = x.unflatten(0, (batch, frames)).transpose(1, 2).flatten(2, 3)  # T' = 1 of each frame, side by side
        return x

    def _on_grid(self, x: Tensor, one_by_one: bool, grid: tuple[int, ...] | None) -> Tensor:
        """Tokens [B, N, C] -> [B, C, T', H', W'], on their own grid if they have one."""
        x = x.mT
        prefixes = [self.layout.prefix, 0]
        if grid is not None:
            prefixes = [x.shape[2] - math.prod(grid)]
        elif self.layout.grid is not None:
            grid = (1, *self.layout.grid[1:]) if one_by_one else self.layout.grid
        for prefix in prefixes:
            if grid is not None and x.shape[2] - prefix == math.prod(grid):
                x = x[:, :, prefix:]
                return x.unflatten(2, (*grid[1:], grid[0])).movedim(-1, 2) if self.layout.time_last else x.unflatten(2, grid)
        return x[:, :, None, None]


def untrained(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Returns what `build` builds with random weights of a seed. The caller's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
