"""Registers our models with timm, now or as soon as timm is imported. Does not import timm or torch itself."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

TIMM_MODULE = "timm.models"


def register_with_timm() -> None:
    """Registers every model with timm, now or as soon as timm is imported."""
    if TIMM_MODULE in sys.modules:
        _register(sys.modules[TIMM_MODULE])
    elif not any(isinstance(finder, _WhenTimmIsImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenTimmIsImported())


class _WhenTimmIsImported(importlib.abc.MetaPathFinder):
    """Finds timm.models as the other finders do, and registers our models once it is loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != TIMM_MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            load(module)
            _register(module)

        spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec


def _register(timm_models: ModuleType) -> None:
    from .timm_registry import register

    register(timm_models)
