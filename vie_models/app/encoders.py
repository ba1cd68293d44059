"""The encoders that the page offers: the weight sets that come with the package. Each is loaded at its first use."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ..models import pathway_slices
from ..weights import CATALOG

if TYPE_CHECKING:
    from ..evaluate import BankPredictor
    from ..features import Extractor
    from ..models import Encoder
    from ..search import Index

DEFAULT = "vie_twopathway_small"
STRIDE = 0.5
"""Seconds from one moment to the next, as in `vie segment`."""
PARTS = {"static": "appearance", "dynamic": "motion"}
"""What the page calls the pathways."""
BATCH, THREADS = 4, 2
"""Moments of a batch, and threads of a decoder: each holds some frames, and a 4K frame takes 12 MB."""


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
    from ..evaluate import BankPredictor, load_predictor

    if name not in names():
        raise ValueError(f"the page has the encoders {', '.join(names())}, got {name!r}")
    found = load_predictor(name)
    assert isinstance(found, BankPredictor)  # as all sets that come with the package
    return found


def encoder(name: str) -> Encoder:
    """Loads an encoder of `names()`, or returns the loaded one."""
    from ..models import Encoder

    model = predictor(name).model.eval()
    assert isinstance(model, Encoder)  # all that come with the package are
    return model


def extractor(name: str) -> Extractor:
    """Returns what embeds the moments of a video, one every `STRIDE` seconds."""
    from ..features import Extractor

    return Extractor(encoder(name), stride=STRIDE, batch_size=BATCH, workers=0)


@functools.lru_cache
def about(name: str) -> dict[str, Any]:
    """Returns what the page needs to know of an encoder: the parts of its embedding, and what random pairs have."""
    from ..search import random_cosines

    net = encoder(name)
    rows = predictor(name).rows.numpy()
    slices = pathway_slices(name, rows.shape[1])
    spans = {PARTS[part]: (s.start, s.stop) for part, s in slices.items()} or {"likeness": (0, rows.shape[1])}
    random = {part: random_cosines(rows[:, low:high]).tolist() for part, (low, high) in spans.items()}
    pathways = [{"name": part, "span": span, "random": random[part]} for part, span in spans.items()]
    all_random = random_cosines(rows).tolist()
    return {"encoder": name, "window": net.clip_spec.seconds, "stride": STRIDE, "pathways": pathways, "random": all_random}


@functools.lru_cache(maxsize=2)
def index_of(features: str) -> Index:
    """Opens the index of a folder of features, and builds it if there is none."""
    from ..search import build_index, open_index

    try:
        return open_index(features)
    except FileNotFoundError:
        return build_index(features)


def maker_of(index: Index) -> str | None:
    """Returns the encoder of `names()` whose embeddings an index holds; None if it is another, or has other weights."""
    from ..weights import hash_of_weights

    name = index.settings["model"]
    if index.array != "embedding" or name not in names() or hash_of_weights(encoder(name)) != index.settings["weights"]:
        return None
    return str(name)
