"""Pictures without a display."""

from __future__ import annotations

from typing import Any


def new_figure(size: tuple[float, float]) -> Any:
    """A matplotlib figure, which needs no display; ImportError where matplotlib is not there."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'vie_models[train]'") from error
    return Figure(figsize=size, layout="constrained")
