"""Matplotlib figures that need no display."""

from __future__ import annotations

from typing import Any


def new_figure(size: tuple[float, float]) -> Any:
    """Returns a matplotlib figure of `size` (width, height) in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'vie_models[train]'") from error
    return Figure(figsize=size, layout="constrained")
