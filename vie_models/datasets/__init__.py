"""Datasets: list files, the annotations of real datasets, rendered videos, and re-encoding. No training here."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .encode import encode_video, shrink, write_mp4

__getattr__, __all__ = lazy_names(__name__, {".encode": ["encode_video", "shrink", "write_mp4"]})
