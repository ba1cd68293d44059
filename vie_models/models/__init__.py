"""What runs: the encoders and the registry of their names. Needs torch alone."""

from .encoder import Encoder
from .registry import MODELS, build_model, list_models, model_entry, two_pathway

__all__ = ["MODELS", "Encoder", "build_model", "list_models", "model_entry", "two_pathway"]
