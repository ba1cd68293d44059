"""Where weights come from: the catalog, folders, the Hub, TensorFlow checkpoints."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from ..models import WeightsError
from .catalog import CATALOG, Metric, WeightRecord, list_weights

if TYPE_CHECKING:
    from ..models import hash_of_weights, save_pretrained
    from .cache import load_memory_bank
    from .card import CITATION
    from .programs import export_model
    from .store import create_model, from_pretrained
    from .tensorflow.bundle import CheckpointError, read_checkpoint
    from .tensorflow.names import tf_to_state_dict

__getattr__, _lazy = lazy_names(
    __name__,
    {
        ".cache": ["load_memory_bank"],
        ".card": ["CITATION"],
        "..models": ["hash_of_weights", "save_pretrained"],
        ".programs": ["export_model"],
        ".store": ["create_model", "from_pretrained"],
        ".tensorflow.bundle": ["CheckpointError", "read_checkpoint"],
        ".tensorflow.names": ["tf_to_state_dict"],
    },
)
__all__ = ["CATALOG", "Metric", "WeightRecord", "WeightsError", "list_weights", *_lazy]
