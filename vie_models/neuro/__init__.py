"""For people who compare networks with brains: stimulus tables, and wrappers for the packages they use (extra `neuro`)."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .features import stimulus_features
    from .stimuli import Presentation, read_stimuli
    from .table import load_stimulus_features
    from .windows import layer_windows

__all__ = ["Presentation", "layer_windows", "load_stimulus_features", "read_stimuli", "stimulus_features"]
__getattr__ = lazy_names(
    __name__,
    {
        "Presentation": ".stimuli",
        "layer_windows": ".windows",
        "load_stimulus_features": ".table",
        "read_stimuli": ".stimuli",
        "stimulus_features": ".features",
    },
)
