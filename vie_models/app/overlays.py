"""Where in the picture a layer responds, and where the gradient of a match lies: heat over the frames of a moment.

T frames of a clip, C channels, T', H', W' the size of a layer's map, K pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .. import colors
from ..clip_spec import ClipSpec
from ..datasets import shrink
from ..models import Encoder
from ..video import Clip, Video, clip_transform, open_video, window_offsets
from .encoders import THREADS

PICTURES, SHORT_SIDE = 4, 160
"""Largest number of pictures of a moment, and their largest short side in pixels."""
CHANNELS = 8
"""Channels that are named as the strongest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerMaps:
    """What a layer responds to at a moment."""

    pictures: list[np.ndarray]
    """Frames with the layer's response as heat, uint8 [H, W, 3], by time."""
    shape: tuple[int, ...]
    """Size of the layer's map: C, T', H', W'."""
    strongest: list[int]
    """Channels whose response varies most over space and time, most first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchMaps:
    """Where the gradient of the similarity of two moments lies."""

    first: list[np.ndarray]
    """Frames of the first moment with the size of the gradient as heat, uint8 [H, W, 3], by time."""
    second: list[np.ndarray]
    similarity: float


def layer_maps(source: str | Path, second: float, net: Encoder, layer: str, channel: int | None = None) -> LayerMaps:
    """Shows where a layer responds at the moment with this middle.

    Args:
        source: the video.
        second: the middle of the moment, in seconds.
        net: the encoder.
        layer: name of a layer of it.
        channel: one channel of the layer. None: the mean of the squares of all.

    Raises:
        VideoError: the video cannot be read.
        ValueError: there is no such layer or channel.
    """
    if layer not in net.layer_names:
        raise ValueError(f"layer must be one of {', '.join(net.layer_names)}, got {layer!r}")
    frames, clip = moment_frames(source, second, net.clip_spec)
    with torch.inference_mode():
        maps = net.forward_layers(clip_transform(net)(clip)[None], [layer])[layer][0]  # [C, T', H', W']
    if channel is not None and not 0 <= channel < len(maps):
        raise ValueError(f"{layer} has the channels 0 to {len(maps) - 1}, got {channel}")
    heat = maps.square().mean(0) if channel is None else maps[channel]
    strongest = maps.flatten(1).var(1, correction=0).topk(min(CHANNELS, len(maps))).indices.tolist()
    return LayerMaps(
        pictures=overlaid(frames, heat.float().numpy(), net.clip_spec), shape=tuple(maps.shape), strongest=strongest
    )


def match_maps(sources: tuple[str, str], seconds: tuple[float, float], net: Encoder, pathway: int, pathways: int) -> MatchMaps:
    """Shows which pixels two moments' similarity depends on: the size of its gradient, in each frame.

    Args:
        sources: the videos of the two moments.
        seconds: their middles.
        net: the encoder.
        pathway, pathways: number of the part of the embedding that counts, and how many there are.

    Raises:
        VideoError: the video cannot be read.
    """
    read = [moment_frames(source, second, net.clip_spec) for source, second in zip(sources, seconds, strict=True)]
    with torch.enable_grad():
        clips = torch.stack([clip_transform(net)(clip) for _, clip in read]).requires_grad_()  # [2, 3, T, H, W]
        halves = net(clips).chunk(pathways, dim=1)[pathway]
        units = F.normalize(halves, dim=1)
        similarity = (units[0] * units[1]).sum()
        (gradient,) = torch.autograd.grad(similarity, clips)
    heat = gradient.abs().sum(1)  # [2, T, H, W]
    for _ in range(2):
        heat = F.avg_pool2d(heat, 5, 1, 2, count_include_pad=False)
    first, other = (overlaid(frames, h.numpy(), net.clip_spec) for (frames, _), h in zip(read, heat, strict=True))
    return MatchMaps(first=first, second=other, similarity=similarity.item())


def moment_frames(source: str | Path, second: float, spec: ClipSpec) -> tuple[np.ndarray, np.ndarray]:
    """Reads a moment: small frames to show, uint8 [T, h, w, 3], and those to crop for the encoder, uint8 [T, H, W, 3]."""

    def read(video: Video) -> tuple[np.ndarray, np.ndarray]:
        (clip,) = video.read([indices_at(second, video.num_frames, spec)], lambda frame: shrink(frame, 2 * spec.short_side))
        return np.stack([shrink(frame, SHORT_SIDE) for frame in clip]), clip

    with open_video(source, spec.fps, threads=THREADS) as video:
        return video.retrying(lambda: read(video))


def indices_at(second: float, num_frames: int, spec: ClipSpec) -> tuple[int, ...]:
    """Returns the grid indices of the frames that an encoder sees of the moment with this middle. A short video is repeated."""
    first = min(max(round(second * spec.fps - spec.length / 2), 0), max(num_frames - spec.length, 0))
    return Clip.of([first + offset for offset in window_offsets(spec.num_frames, spec.length)], num_frames).indices


def overlaid(frames: np.ndarray, heat: np.ndarray, spec: ClipSpec, most: int = PICTURES) -> list[np.ndarray]:
    """Lays heat over gray frames: uint8 [T, h, w, 3], float [T', H', W'] -> at most `most` pictures, uint8 [h, w, 3].

    A picture stands for its share of the moment: heat is averaged over it. Where the encoder does not look, outside the square
    crop, frames are dark. One scale holds for all pictures of a moment.
    """
    parts = [part.mean(0) for part in np.array_split(heat, min(most, len(heat)))]
    low, high = np.percentile(np.stack(parts), (5, 99.5))
    top, left, side = crop_of(frames.shape[1:3], spec)
    pictures = []
    for number, part in enumerate(parts):
        frame = frames[int((number + 0.5) * len(frames) / len(parts))].astype(np.float32)
        gray = np.repeat(frame.mean(2, keepdims=True), 3, 2)
        scaled = np.clip((part - low) / max(float(high - low), 1e-12), 0, 1).astype(np.float32)
        warm = np.asarray(Image.fromarray(scaled).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
        here = np.s_[top : top + side, left : left + side]
        share = 0.85 * warm[..., None]
        picture = 0.3 * gray
        picture[here] = (1 - share) * gray[here] + share * colors.heat(warm)
        pictures.append(picture.round().astype(np.uint8))
    return pictures


def crop_of(size: Sequence[int], spec: ClipSpec) -> tuple[int, int, int]:
    """Returns (top, left, side) of what an encoder sees of a frame of `size` (height, width), in pixels."""
    height, width = size
    side = max(round(min(height, width) * spec.crop / spec.short_side), 1)
    return (height - side) // 2, (width - side) // 2, side
