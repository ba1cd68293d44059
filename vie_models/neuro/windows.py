"""What each layer sees: the part of a clip, in time, that each step of a layer's map depends on.

T number of frames of a clip, T' number of time steps of a layer's map.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..models import Encoder
from ..video import window_offsets

EMBEDDING = "embedding"
"""Name of the model's output among the layers of a table."""
_SIDE = 32  # pixels: what a layer sees in time does not depend on the size of the frames


def frames_seen(model: Encoder, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns, for each layer, bool [T', T]: whether a step of its map depends on a frame of the clip.

    A copy of the model gets positive weights only, so nothing cancels. Its input is T clips, in each of which one frame is 1
    and the others are 0. An output above 0 then means that the frame reaches that step.

    Args:
        layers: names of layers, or "embedding" for the output, which has one step.

    Raises:
        ValueError: the model has no such layer.
    """
    twin = copy.deepcopy(model).cpu().double().eval()
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.reset_parameters()
        elif isinstance(weight := getattr(module, "weight", None), nn.Parameter):
            nn.init.constant_(weight, 1 / weight[0].numel())
            if (bias := getattr(module, "bias", None)) is not None:
                nn.init.zeros_(bias)
    frames = model.clip_spec.num_frames
    x = torch.zeros(frames, 3, frames, _SIDE, _SIDE, dtype=torch.float64, device="cpu")
    x[range(frames), :, range(frames)] = 1
    seen = {}
    with torch.no_grad():
        maps = twin.forward_layers(x, [layer for layer in layers if layer != EMBEDDING])
        for layer in layers:
            if layer == EMBEDDING:
                values = twin.forward_head(twin.forward_features(x), pre_logits=True)[:, None]  # [T, 1, F]
            else:
                values = maps[layer].transpose(1, 2).flatten(2)  # [T, T', C*H*W]
            seen[layer] = (values > 0).any(2).T.numpy()
    return seen


def layer_windows(model: Encoder, layers: Sequence[str], *, window: float | None = None) -> dict[str, np.ndarray]:
    """Returns the window of time that each step of each layer sees: [T', 2], from and to, in ms after the start of the clip.

    A window lasts from the earliest frame that the step depends on to the end of the last one's place on the time grid.

    Args:
        layers: names of layers, or "embedding".
        window: length of the sliding window that holds the clip, in seconds (default: the clip's own, as in `Extractor`).

    Raises:
        ValueError: the model has no such layer, or the window is too short for the clip's frames.
    """
    spec = model.clip_spec
    length = spec.length if window is None else round(window * spec.fps)
    offsets = np.array(window_offsets(spec.num_frames, length))
    found = {}
    for layer, seen in frames_seen(model, layers).items():
        steps = [offsets[row] for row in seen]
        found[layer] = np.array([(step[0], step[-1] + 1) for step in steps]) * (1000 / spec.fps)
    return found


def windows_page(model: Encoder) -> str:
    """Returns the table that `vie neuro windows` prints: a line a layer, for the step in the middle of the clip."""
    spec = model.clip_spec
    span = spec.seconds * 1000
    lines = [
        f"{model.model_name}: {spec.num_frames} frames, {spec.frame_interval} apart at {spec.fps:g} fps: "
        f"a clip covers {span:g} ms. Times are in ms.",
        "The moment of a step is the middle of its share of the clip. The last columns are for the step in the middle.",
        "",
        f"{'layer':20}{'steps':>6}{'a step':>9}{'moment':>9}{'sees from':>11}{'to':>8}{'before':>9}{'after':>8}",
    ]
    for layer, windows in layer_windows(model, [*model.layer_names, EMBEDDING]).items():
        steps = len(windows)
        moment = (steps // 2 + 0.5) * span / steps
        first, last = windows[steps // 2]
        numbers = f"{span / steps:>9g}{moment:>9g}{first:>11g}{last:>8g}{moment - first:>9g}{last - moment:>8g}"
        lines.append(f"{layer:20}{steps:>6}{numbers}")
    return "\n".join(lines)
