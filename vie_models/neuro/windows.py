"""What each layer sees: the part of a clip, in time, that each step of a layer's map depends on.

T number of frames of a clip, T' number of time steps of a layer's map.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..encoders import OUTPUT, VideoEncoder, WrappedModule
from ..models import Encoder
from ..video import window_offsets

EMBEDDING = "embedding"
"""Name of the model's output among the layers of a table."""
_SIDE = 32  # pixels: what a layer sees in time does not depend on the size of the frames


def frames_seen(model: VideoEncoder, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns, for each layer, bool [T', T]: whether a step of its map depends on a frame of the clip.

    A copy of the model gets positive weights only, so nothing cancels. Its input is T clips, in each of which one frame is 1
    and the others are 0. An output above 0 then means that the frame reaches that step. Other packages' encoders keep their
    weights: in each of T clips one frame of noise is another, and what differs from the clip as it was depends on that frame.

    Args:
        layers: names of layers, or "embedding" for the output, which has one step.

    Raises:
        ValueError: the model has no such layer.
    """
    if not isinstance(model, Encoder):
        return _frames_that_matter(model, layers)
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


def _frames_that_matter(model: VideoEncoder, layers: Sequence[str]) -> dict[str, np.ndarray]:
    spec = model.clip_spec
    dtype = torch.float64 if isinstance(model, WrappedModule) else torch.float32  # a program has the type it was written with
    twin = copy.deepcopy(model).to("cpu", dtype).eval()
    draws = torch.Generator().manual_seed(0)
    clip = torch.rand(2, 3, spec.num_frames, spec.crop, spec.crop, generator=draws, device="cpu").to(dtype)
    names = [OUTPUT if layer == EMBEDDING else layer for layer in layers]
    seen: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for frame in range(spec.num_frames):
            changed = torch.stack([clip[0], clip[0]])  # in one batch, for the same arithmetic
            changed[1, :, frame] = clip[1, :, frame]
            maps = twin.forward_layers(changed, names)
            for layer, name in zip(layers, names, strict=True):
                found = maps[name] if maps[name].ndim == 5 else maps[name][:, :, None, None, None]
                change = (found[1] - found[0]).abs().amax((0, 2, 3))  # [T']
                seen[layer].append(change > torch.finfo(dtype).eps ** 0.6 * found[0].abs().max())
    return {layer: torch.stack(rows, 1).numpy() for layer, rows in seen.items()}


def layer_windows(model: VideoEncoder, layers: Sequence[str], *, window: float | None = None) -> dict[str, np.ndarray]:
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
