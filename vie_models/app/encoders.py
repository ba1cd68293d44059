"""The encoders that the page offers: the weight sets that come with the package. Each is loaded at its first use."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ..models import model_entry
from ..weights.catalog import CATALOG

if TYPE_CHECKING:
    from ..evaluate.predict import BankPredictor
    from ..models import Encoder

DEFAULT = "vie_twopathway_tiny"
BOTH = ("appearance", "motion")
"""Names of the halves of a two-pathway embedding: the static and the dynamic pathway."""
ALL = "embedding"
"""Name of the embedding of any other encoder."""


def names() -> list[str]:
    """Names of the models whose weights come with the package, the default first, then small before large."""
    shipped = [record.model for record in CATALOG.values() if not record.url]
    return sorted(shipped, key=lambda name: (name != DEFAULT, not name.endswith("_tiny"), name))


@functools.lru_cache(maxsize=3)
def predictor(name: str) -> BankPredictor:
    """Loads an encoder of `names()` with its memory bank, or returns the loaded one.

    Raises:
        ValueError: no such weights come with the package.
    """
    if name not in names():
        raise ValueError(f"the page has the encoders {', '.join(names())}, got {name!r}")
    from ..evaluate.predict import BankPredictor, load_predictor

    found = load_predictor(name)
    assert isinstance(found, BankPredictor)  # as all sets that come with the package
    return found


def encoder(name: str) -> Encoder:
    """Loads an encoder of `names()`, or returns the loaded one."""
    return predictor(name).model.eval()


def pathways(name: str) -> tuple[str, ...]:
    """Names of the parts of a model's embedding: its two pathways, or the whole."""
    return BOTH if model_entry(name).two_pathway else (ALL,)
