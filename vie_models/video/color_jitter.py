"""Color jitter of many clips at once: torchvision's arithmetic, in fewer passes over memory, on any device.

A clip's colors are nine numbers that are drawn for all of its frames; frames are processed in blocks that fit a CPU's cache.
Rounding is torchvision's, step by step, so that the results are the same.

F frames, S side, n frames of a block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..devices import to_device

STRENGTH = 0.4
"""Brightness, contrast and saturation change by up to this share, hue by up to this part of the circle."""
GRAY_SHARE = 0.3
"""How often a clip loses its colors altogether."""
_BLOCK = 1 << 17  # pixels at a time
_DEVICE_BLOCK = 1 << 24  # on a GPU: its launches cost more than its caches save
_CONTRAST = 1  # its number among the changes
_LUMA = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64, device="cpu")
_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=torch.float64, device="cpu"
)
"""Rows: brightness, and two directions of color."""


def draw_colors(generator: torch.Generator) -> list[float]:
    """Nine numbers for a clip, drawn as torchvision's ColorJitter and RandomGrayscale draw them.

    They are the order of the four changes, their amounts (brightness, contrast, saturation, hue), and whether it is gray.
    """
    order = torch.randperm(4, generator=generator, device="cpu").tolist()
    ranges = [(1 - STRENGTH, 1 + STRENGTH)] * 3 + [(-STRENGTH, STRENGTH)]
    amounts = [torch.empty(1, device="cpu").uniform_(low, high, generator=generator).item() for low, high in ranges]
    gray = torch.rand(1, generator=generator, device="cpu").item() < GRAY_SHARE
    return [*map(float, order), *amounts, float(gray)]


def change_colors(frames: Tensor, colors: Tensor) -> None:
    """Changes the colors of frames in place.

    Args:
        frames: uint8 [F, 3, S, S], the frames of one clip after the other.
        colors: float64 [clips, 9] on the CPU, what `draw_colors` gave for each; F is a multiple of `clips`.
    """
    size = frames.shape[-2] * frames.shape[-1]
    of_frame = torch.arange(len(colors), device="cpu").repeat_interleave(len(frames) // max(len(colors), 1))
    block = max((_BLOCK if frames.device.type == "cpu" else _DEVICE_BLOCK) // size, 1)
    for start in range(0, len(frames), block):
        part = frames[start : start + block]
        x = part.transpose(0, 1).float()  # [3, n, S, S]
        _change(x, colors[of_frame[start : start + block]])
        part.copy_(x.transpose(0, 1))


def change_colors_affinely(frames: Tensor, colors: Tensor) -> None:
    """Changes the colors of frames in place, almost as `change_colors` does, in less time.

    All changes of a clip become one affine map of (red, green, blue). So hue turns around the axis of grays in YIQ instead of
    HSV, values are rounded and cut off at 0 and 255 once, at the end, and contrast changes around the clip's mean, not each
    frame's. On a GPU, the mean is summed in another order than on a CPU, so a value may differ by 1.

    Args:
        frames: uint8 [F, 3, S, S], the frames of one clip after the other.
        colors: float64 [clips, 9] on the CPU, what `draw_colors` gave for each; F is a multiple of `clips`.
    """
    if not len(colors):
        return
    clips = frames.view(len(colors), -1, 3, frames.shape[-2] * frames.shape[-1])  # [clips, frames of a clip, 3, S * S]
    maps = to_device(_affine_maps(colors), frames.device)
    at_once = 1 if frames.device.type == "cpu" else max(_DEVICE_BLOCK // (clips.shape[1] * clips.shape[3]), 1)
    for part, both in zip(clips.split(at_once), maps.split(at_once), strict=True):
        x = part.float()
        matrix, of_mean = both.unbind(1)
        offset = of_mean @ x.mean((1, 3)).double()[:, :, None]  # [clips, 3, 1]
        each = len(x) * x.shape[1]
        matrix, offset = (y.float()[:, None].expand(-1, x.shape[1], -1, -1).reshape(each, 3, -1) for y in (matrix, offset))
        changed = torch.baddbmm(offset, matrix, x.flatten(0, 1)).view_as(x)
        part.copy_(changed.add_(0.5).clamp_(0, 255))


def _affine_maps(colors: Tensor) -> Tensor:
    """All changes of each clip [9] as two matrices, A and B: float64 [clips, 2, 3, 3].

    A color x of a clip whose mean color is m becomes A x + B m. Only the change of contrast needs m.
    """
    same, luma = torch.eye(3, dtype=torch.float64, device="cpu"), _LUMA.expand(3, 3)  # a color to itself, and to its gray
    brightness, contrast, saturation, hue = colors[:, 4:8, None, None].unbind(1)  # [clips, 1, 1]
    turn = torch.zeros(len(colors), 3, 3, dtype=torch.float64, device="cpu")
    cos, sin = torch.cos(2 * math.pi * hue[:, 0, 0]), torch.sin(-2 * math.pi * hue[:, 0, 0])
    turn[:, 0, 0], turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = 1, cos, -sin, sin, cos
    hue = torch.linalg.solve(_YIQ, turn @ _YIQ)
    steps = torch.stack([same * brightness, same * contrast, saturation * same + (1 - saturation) * luma, hue])
    matrix, of_mean = same.expand(len(colors), 3, 3), torch.zeros(len(colors), 3, 3, dtype=torch.float64, device="cpu")
    each = torch.arange(len(colors), device="cpu")
    for kind in colors[:, :4].long().unbind(1):
        step = steps[kind, each]
        gray = torch.where((kind == _CONTRAST)[:, None, None], (1 - contrast) * (luma @ (matrix + of_mean)), 0.0)
        matrix, of_mean = step @ matrix, step @ of_mean + gray
    maps = torch.stack([matrix, of_mean], dim=1)
    return torch.where(colors[:, 8, None, None, None] > 0, luma @ maps, maps)


def _change(x: Tensor, colors: Tensor) -> None:
    """float [3, n, S, S] of whole numbers, in place; colors float64 [n, 9].

    Frames with the same change in the same place are changed together. Which they are is known to the host, so a GPU gets
    all it needs in two copies.
    """
    groups = [
        (_CHANGES[kind], (step == kind).nonzero()[:, 0], colors[:, 4 + kind])
        for step in colors[:, :4].int().unbind(1)
        for kind in step.unique().tolist()
    ]
    groups.append((_gray, colors[:, 8].nonzero()[:, 0], colors[:, 8]))
    sizes = [len(which) for _, which, _ in groups]
    amounts = torch.cat([by[which] for _, which, by in groups])
    places = to_device(torch.cat([which for _, which, _ in groups]), x.device).split(sizes)
    shares = to_device(torch.stack([amounts, 1 - amounts]).float()[..., None, None], x.device).split(sizes, dim=1)
    for (change, _, _), place, (share, rest) in zip(groups, places, shares, strict=True):
        if len(place) == x.shape[1]:
            change(x, share, rest)
        elif len(place):
            some = x.index_select(1, place)
            change(some, share, rest)
            x.index_copy_(1, place, some)


def _luma(x: Tensor) -> Tensor:
    r, g, b = x
    return r.mul(0.2989).add_(g, alpha=0.587).add_(b, alpha=0.114).floor_()


def _blend(x: Tensor, other: Tensor, share: Tensor, rest: Tensor) -> None:
    torch.addcmul(x.mul_(share), other, rest, out=x).clamp_(0, 255).floor_()


def _brightness(x: Tensor, by: Tensor, rest: Tensor) -> None:
    x.mul_(by).clamp_(0, 255).floor_()


def _contrast(x: Tensor, by: Tensor, rest: Tensor) -> None:
    _blend(x, _luma(x).mean((-2, -1), keepdim=True), by, rest)


def _saturation(x: Tensor, by: Tensor, rest: Tensor) -> None:
    _blend(x, _luma(x), by, rest)


def _gray(x: Tensor, by: Tensor, rest: Tensor) -> None:
    x.copy_(_luma(x))


def _hue(x: Tensor, by: Tensor, rest: Tensor) -> None:
    r, g, b = x.mul_(1 / 255)
    high = torch.maximum(r, g).maximum(b)
    spread = high - torch.minimum(r, g).minimum(b)
    gray = spread == 0
    saturation = spread / high.masked_fill(gray, 1)
    spread.masked_fill_(gray, 1)
    is_red, is_green = high == r, high == g
    for channel in (r, g, b):
        torch.sub(high, channel, out=channel).div_(spread)
    hue = torch.where(is_green, (r + 2).sub_(b), (g + 4).sub_(r))
    hue = torch.where(is_red, b - g, hue)
    _wrap(hue.mul_(1 / 6).add_(1))
    _wrap(hue.add_(by))
    sector = hue.mul_(6).floor()  # 0 to 5, from red over green and blue
    rising = hue.sub_(sector).mul_(saturation)
    least = saturation.neg_().add_(1)
    falling = (1 - rising).mul_(high)
    rising.add_(least).mul_(high)
    least.mul_(high)
    middle = torch.where(sector.mul(0.5).frac_() > 0, falling, rising)
    for channel, center in ((r, 5.5), (g, 1.5), (b, 3.5)):
        away = sector.sub(center).abs_()
        if center > 3:
            away = torch.minimum(away, 6 - away)
        torch.where(away < 2, torch.where(away < 1, high, middle), least, out=channel).mul_(255.999).floor_()


def _wrap(x: Tensor) -> None:
    """x modulo 1, in place."""
    x.sub_(x.floor())


_CHANGES = (_brightness, _contrast, _saturation, _hue)
