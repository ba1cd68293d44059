"""A page to look at videos with an encoder, for the machine that it runs on (extra `app`)."""

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .library import EXAMPLE
    from .serve import serve

__getattr__, __all__ = lazy_names(__name__, {".library": ["EXAMPLE"], ".serve": ["serve"]})
