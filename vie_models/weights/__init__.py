"""Where weights come from: the catalog, folders, the Hub, TensorFlow checkpoints."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names
from .catalog import CATALOG, Metric, WeightRecord, list_weights
from .errors import WeightsError

if TYPE_CHECKING:
    from .cache import load_memory_bank
    from .folder import save_pretrained
    from .store import create_model, from_pretrained
    from .tensorflow.bundle import CheckpointError, read_checkpoint
    from .tensorflow.names import tf_to_state_dict

__all__ = [
    "CATALOG",
    "CheckpointError",
    "Metric",
    "WeightRecord",
    "WeightsError",
    "create_model",
    "from_pretrained",
    "list_weights",
    "load_memory_bank",
    "read_checkpoint",
    "save_pretrained",
    "tf_to_state_dict",
]
__getattr__ = lazy_names(
    __name__,
    {
        "CheckpointError": ".tensorflow.bundle",
        "create_model": ".store",
        "from_pretrained": ".store",
        "load_memory_bank": ".cache",
        "read_checkpoint": ".tensorflow.bundle",
        "save_pretrained": ".folder",
        "tf_to_state_dict": ".tensorflow.names",
    },
)
