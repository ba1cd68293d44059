"""The version of vie_models."""

__version__ = "0.3.0"
