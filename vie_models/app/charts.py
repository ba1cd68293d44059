"""Charts as HTML that follows the page's colors, light or dark, and its width. Every picture has a text for who cannot see it.

The fragments hold numbers and names of ours. Any other text is escaped.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..colors import viridis


def picture(pixels: np.ndarray, kind: str = "png") -> str:
    """Returns a picture, uint8 [H, W, 3], as the address of an HTML image, with the picture in it."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **({"quality": 85} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def matrix(values: np.ndarray, title: str, down: np.ndarray, right: np.ndarray) -> str:
    """Draws similarities, [M, N], as a colored rectangle.

    Args:
        values: cosine similarities of M moments (downwards) and N moments (to the right).
        title: what they are.
        down, right: times of the moments in seconds, [M] and [N].
    """
    low, high = float(values.min()), float(values.max())
    least, most = (number(value, high - low) for value in (low, high))
    text = f"{title}: similarity of {values.shape[0]} by {values.shape[1]} moments, from {least} to {most}"
    ramp = picture(viridis(np.linspace(0, 1, 64)[None], 0, 1))
    return (
        f'<figure class="vie-matrix"><figcaption>{html.escape(title)}</figcaption><div class="vie-plot">'
        f'<div class="vie-axis vie-down"><span>{down[0]:.1f} s</span><span>{down[-1]:.1f} s</span></div>'
        f'<img class="vie-pick" data-from="{down[0]:.3f}" data-to="{down[-1]:.3f}" data-down="1" '
        f'alt="{html.escape(text)}" src="{picture(viridis(values, low, high))}"></div>'
        f'<div class="vie-axis vie-right"><span>{right[0]:.1f} s</span><span>{right[-1]:.1f} s</span></div>'
        f'<div class="vie-scale"><span>{least}</span><img alt="" src="{ramp}"><span>{most}</span></div></figure>'
    )


def number(value: float, span: float) -> str:
    """Returns a similarity with 2 decimals, or 4 where all that it is compared with lie in a `span` of less than 0.05."""
    return f"{value:.{2 if span >= 0.05 else 4}f}"


def side_by_side(figures: Sequence[str]) -> str:
    """Puts figures beside one another, or below where the page is narrow."""
    columns = 2 if len(figures) in (1, 2, 4) else 3
    return f'<div class="vie-side" style="--columns:{columns}">{"".join(figures)}</div>'


def film(strip: Sequence[np.ndarray], duration: float) -> str:
    """Draws pictures of a video, uint8 [H, W, 3], evenly spaced, from left to right over its time."""
    return (
        f'<figure class="vie-timeline">{_film(strip, duration)}'
        f'<div class="vie-axis"><span>0 s</span><span>{duration / 2:.1f} s</span><span>{duration:.1f} s</span></div></figure>'
    )


def timeline(
    strip: Sequence[np.ndarray], times: np.ndarray, change: np.ndarray, marks: Sequence[float], duration: float
) -> str:
    """Draws a video from left to right: pictures, and below them how much it changes, with marks at some moments.

    Args:
        strip: pictures, uint8 [H, W, 3], evenly spaced.
        times, change: times of the moments in seconds and the change around each, from 0 to 1, both [M].
        marks: times that are marked.
        duration: length of the video in seconds.
    """
    points = " ".join(f"{1000 * t / duration:.1f},{100 - 96 * c:.1f}" for t, c in zip(times, change, strict=True))
    ends = (1000 * times[0] / duration, 1000 * times[-1] / duration)
    dots = "".join(f'<i style="left:{100 * mark / duration:.2f}%"></i>' for mark in marks)
    said = ", ".join(f"{mark:.1f}" for mark in marks)
    peak = float(times[int(np.argmax(change))])
    return (
        f'<figure class="vie-timeline">{_film(strip, duration)}'
        f'<div class="vie-curve vie-pick" data-from="0" data-to="{duration:.3f}">'
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        f'aria-label="How much the video changes; most at {peak:.1f} seconds">'
        f'<polygon points="{ends[0]:.1f},100 {points} {ends[1]:.1f},100"/></svg>'
        f'<div class="vie-marks" role="img" aria-label="Moments that stand out, in seconds: {said}">{dots}</div></div>'
        f'<div class="vie-axis"><span>0 s</span><span>{duration / 2:.1f} s</span><span>{duration:.1f} s</span></div>'
        "<figcaption>Curve: how much the video changes. Dots: moments that stand out.</figcaption></figure>"
    )


def _film(strip: Sequence[np.ndarray], duration: float) -> str:
    return (
        f'<img class="vie-film vie-pick" data-from="0" data-to="{duration:.3f}" '
        f'alt="{len(strip)} pictures of the video, evenly spaced" src="{picture(np.concatenate(strip, axis=1), "jpeg")}">'
    )


def pictures(strip: Sequence[np.ndarray | str], title: str, text: str) -> str:
    """Draws a few pictures in a row.

    Args:
        strip: the pictures, by time: uint8 [H, W, 3], or what `picture` made of it.
        title: what they are.
        text: what they show, for who cannot see them; each gets its number.
    """
    addresses = [one if isinstance(one, str) else picture(one, "jpeg") for one in strip]
    shown = "".join(
        f'<img alt="{html.escape(text)}, {place} of {len(strip)}" src="{address}">'
        for place, address in enumerate(addresses, 1)
    )
    return f'<figure class="vie-row"><figcaption>{html.escape(title)}</figcaption><div>{shown}</div></figure>'


PICK = """
element.addEventListener('click', event => {
  const place = event.target.closest('.vie-pick');
  if (!place) return;
  const box = place.getBoundingClientRect();
  const share = place.dataset.down ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
  const from = parseFloat(place.dataset.from), to = parseFloat(place.dataset.to);
  trigger('select', {value: from + Math.min(Math.max(share, 0), 1) * (to - from)});
});
"""
"""Script of a component that shows charts: a click on one picks a time, in seconds."""
