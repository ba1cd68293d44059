"""An encoder whose layers are submodules of their own names, for packages that record layers by forward hooks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..models import Encoder
from .windows import EMBEDDING


class NamedLayers(nn.Module):
    """Runs an encoder, and passes each layer's maps [B, C, T', H', W'] through a submodule that has the layer's name.

    A hook on "encode_3" or "static.encode_3" sees what `forward_layers` returns, with one row per clip; a hook on
    "embedding" sees the output. Only layers with hooks are computed. An image is taken for a clip that stands still.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.eval()
        self.layer_names = [*encoder.layer_names, EMBEDDING]
        for name in self.layer_names:
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.add_module(last, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Normalized clips [B, 3, T, H, W] or images [B, 3, H, W] -> [B, D], what the encoder returns."""
        if x.ndim == 4:
            x = x.unsqueeze(2).expand(-1, -1, self.encoder.clip_spec.num_frames, -1, -1)
        points: dict[str, Any] = {name: self.get_submodule(name) for name in self.layer_names}
        hooked = [name for name, point in points.items() if point._forward_hooks and name != EMBEDDING]
        maps = self.encoder.forward_layers(x, [*hooked, "output"])
        for name in hooked:
            points[name](maps[name].contiguous())  # thingsvision flattens with `view`
        return points[EMBEDDING](maps["output"])  # type: ignore[no-any-return]
