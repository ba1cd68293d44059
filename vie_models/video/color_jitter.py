"""Color jitter of many clips at once: torchvision's arithmetic, in fewer passes over memory, on any device.

A clip's colors are nine numbers that are drawn for all of its frames; frames are processed in blocks that fit a CPU's cache.
Rounding is torchvision's, step by step, so that the results are the same.

F frames, S side, n frames of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

STRENGTH = 0.4
"""Brightness, contrast and saturation change by up to this share, hue by up to this part of the circle."""
GRAY_SHARE = 0.3
"""How often a clip loses its colors altogether."""
_BLOCK = 1 << 17  # pixels at a time
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
        colors: float64 [clips, 9], what `draw_colors` gave for each; F is a multiple of `clips`.
    """
    size = frames.shape[-2] * frames.shape[-1]
    of_frame = torch.arange(len(colors), device="cpu").repeat_interleave(len(frames) // max(len(colors), 1))
    block = max(_BLOCK // size, 1) if frames.device.type == "cpu" else max(len(frames), 1)
    for start in range(0, len(frames), block):
        part = frames[start : start + block]
        x = part.transpose(0, 1).float()  # [3, n, S, S]
        _change(x, colors[of_frame[start : start + block]])
        part.copy_(x.transpose(0, 1))


def change_colors_affinely(frames: Tensor, colors: Tensor) -> None:
    """Changes the colors of frames in place, almost as `change_colors` does, in less time.

    All changes of a clip become one affine map of (red, green, blue). So hue turns around the axis of grays in YIQ instead of
    HSV, values are rounded and cut off at 0 and 255 once, at the end, and contrast changes around the clip's mean, not each
    frame's.

    Args:
        frames: uint8 [F, 3, S, S], the frames of one clip after the other.
        colors: float64 [clips, 9], what `draw_colors` gave for each; F is a multiple of `clips`.
    """
    if not len(colors):
        return
    clips = frames.view(len(colors), -1, 3, frames.shape[-2] * frames.shape[-1])  # [clips, frames of a clip, 3, S * S]
    for clip, drawn in zip(clips, colors.cpu(), strict=True):
        x = clip.float()
        matrix, offset = _affine(drawn, x.mean((0, 2)).double().cpu())
        changed = torch.baddbmm(offset.to(x)[:, None], matrix.to(x).expand(len(x), 3, 3), x)
        clip.copy_(changed.add_(0.5).clamp_(0, 255))


def _affine(drawn: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The 3 x 3 matrix and the 3 offsets, float64, of all changes in a clip [9] whose mean color is `mean` [3]."""
    same, luma = torch.eye(3, dtype=torch.float64, device="cpu"), _LUMA.expand(3, 3)  # a color to itself, and to its gray
    matrix, offset = same, torch.zeros(3, dtype=torch.float64, device="cpu")
    amounts = drawn[4:8].tolist()

    def then(step: Tensor, shift: Tensor | float = 0.0) -> None:
        nonlocal matrix, offset
        matrix, offset = step @ matrix, step @ offset + shift

    for kind in drawn[:4].int().tolist():
        by = amounts[kind]
        if kind == 0:
            then(same * by)
        elif kind == 1:
            gray = _LUMA @ (matrix @ mean + offset)
            then(same * by, (1 - by) * gray)
        elif kind == 2:
            then(by * same + (1 - by) * luma)
        else:
            cos, sin = math.cos(2 * math.pi * by), math.sin(-2 * math.pi * by)
            turn = torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], dtype=torch.float64, device="cpu")
            then(torch.linalg.solve(_YIQ, turn @ _YIQ))
    if drawn[8] > 0:
        then(luma)
    return matrix, offset


def _change(x: Tensor, colors: Tensor) -> None:
    """float [3, n, S, S] of whole numbers, in place; colors float64 [n, 9]."""
    order = colors[:, :4].int()
    amounts = colors[:, 4:8, None, None]
    for step in order.unbind(1):
        for kind in step.unique().tolist():
            _apply(_CHANGES[kind], x, step == kind, amounts[:, kind])
    _apply(_gray, x, colors[:, 8] > 0, amounts[:, 0])


def _apply(change: Callable[[Tensor, Tensor], object], x: Tensor, chosen: Tensor, amounts: Tensor) -> None:
    """Changes the chosen frames of x, in place."""
    which = chosen.nonzero().squeeze(1)
    if len(which) == x.shape[1]:
        change(x, amounts)
    elif len(which):
        there = which.to(x.device)
        some = x.index_select(1, there)
        change(some, amounts[which])
        x.index_copy_(1, there, some)


def _luma(x: Tensor) -> Tensor:
    r, g, b = x
    return r.mul(0.2989).add_(g, alpha=0.587).add_(b, alpha=0.114).floor_()


def _blend(x: Tensor, other: Tensor, share: Tensor) -> None:
    mine, its = (value.to(x.device, torch.float32) for value in (share, 1 - share))
    torch.addcmul(x.mul_(mine), other, its, out=x).clamp_(0, 255).floor_()


def _brightness(x: Tensor, by: Tensor) -> None:
    x.mul_(by.to(x.device, torch.float32)).clamp_(0, 255).floor_()


def _contrast(x: Tensor, by: Tensor) -> None:
    _blend(x, _luma(x).mean((-2, -1), keepdim=True), by)


def _saturation(x: Tensor, by: Tensor) -> None:
    _blend(x, _luma(x), by)


def _gray(x: Tensor, by: Tensor) -> None:
    x.copy_(_luma(x))


def _hue(x: Tensor, by: Tensor) -> None:
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
    _wrap(hue.add_(by.to(x.device, torch.float32)))
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
