"""The error about an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error about an unknown name: it suggests the known name that is nearest, and lists all.

    Args:
        what: what the name should name, such as "model".
        name: the unknown name.
        known: the known names.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    perhaps = f", perhaps {near[0]}" if near else ""
    return ValueError(f"unknown {what} {name!r}{perhaps}; known {what}s are {', '.join(names)}")
