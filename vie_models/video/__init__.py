"""From video files to tensors."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .clips import Clip, regular_clip, window_offsets
    from .frames import GRID_FPS, Video, VideoError
    from .reader import VideoReader
    from .remote import is_url
    from .sampling import ClipRead, Sampling, VideoRead, cropping, read_video
    from .sources import decoding, load_clip, open_video, path_or_url, random_clip
    from .transforms import ClipTransform, TrainTransform, clip_transform, train_transform

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".clips": ["Clip", "regular_clip", "window_offsets"],
        ".frames": ["GRID_FPS", "Video", "VideoError"],
        ".remote": ["is_url"],
        ".sampling": ["ClipRead", "Sampling", "VideoRead", "cropping", "read_video"],
        ".sources": ["decoding", "load_clip", "open_video", "path_or_url", "random_clip"],
        ".transforms": ["ClipTransform", "TrainTransform", "clip_transform", "train_transform"],
        ".reader": ["VideoReader"],
    },
)
