"""For people who compare networks with brains: stimulus tables, and wrappers for the packages they use (extra `neuro`)."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .features import stimulus_features
    from .stimuli import Presentation, read_stimuli
    from .table import load_stimulus_features
    from .windows import layer_windows

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".features": ["stimulus_features"],
        ".stimuli": ["Presentation", "read_stimuli"],
        ".table": ["load_stimulus_features"],
        ".windows": ["layer_windows"],
    },
)
