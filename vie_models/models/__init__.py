"""The encoders and the registry of their names. Depends on torch only, and imports it when an encoder is built."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .registry import MODELS, build_model, list_models, model_entry

if TYPE_CHECKING:
    from .cost import layer_shapes, output_size
    from .encoder import Encoder
    from .twopathway import two_pathway

__getattr__, _lazy = lazy_names(
    __name__, {".cost": ["layer_shapes", "output_size"], ".encoder": ["Encoder"], ".twopathway": ["two_pathway"]}
)
__all__ = ["MODELS", "build_model", "list_models", "model_entry", *_lazy]
