"""Extracts features of many videos to a folder, on one machine or a cluster."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .extractor import Extractor
    from .folder import Features, VideoRecord, load_features, load_video_features, records_with_features
    from .ray import extract_ray

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".extractor": ["Extractor"],
        ".folder": [
            "Features",
            "VideoRecord",
            "load_features",
            "load_video_features",
            "records_with_features",
        ],
        ".ray": ["extract_ray"],
    },
)
