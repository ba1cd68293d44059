"""Where weights come from: the catalog, folders, the Hub, TensorFlow checkpoints."""

from .catalog import CATALOG, Metric, WeightRecord, list_weights
from .errors import WeightsError
from .folder import save_pretrained
from .store import create_model, from_pretrained, load_memory_bank
from .tensor_bundle import CheckpointError, read_checkpoint
from .tensorflow import tf_to_state_dict

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
