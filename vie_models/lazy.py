"""Lazy imports: a package imports each of its public names on first use, so importing the package is cheap (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_names(package: str, names: Mapping[str, Iterable[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """Returns the `__getattr__` and the `__all__` of a package that imports each of its public names on first use.

    Args:
        package: full name of the package.
        names: the public names of each of its modules (".encoder").
    """
    modules = {name: module for module, found in names.items() for name in found}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name], package), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, sorted(modules)
