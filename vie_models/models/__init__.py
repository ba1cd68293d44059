"""The encoders, the registry of their names, and the folders that their weights are kept in. Importing it imports no torch."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .errors import WeightsError
from .registry import MODELS, build_model, list_models, model_entry, pathway_slices

if TYPE_CHECKING:
    from .cost import layer_shapes, output_size
    from .encoder import Encoder
    from .twopathway import two_pathway
    from .weight_folder import hash_of_weights, save_pretrained

__getattr__, _lazy = lazy_names(
    __name__,
    {
        ".cost": ["layer_shapes", "output_size"],
        ".encoder": ["Encoder"],
        ".twopathway": ["two_pathway"],
        ".weight_folder": ["hash_of_weights", "save_pretrained"],
    },
)
__all__ = ["MODELS", "WeightsError", "build_model", "list_models", "model_entry", "pathway_slices", *_lazy]
