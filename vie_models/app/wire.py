"""Messages between the server and its worker: JSON and raw arrays. Nothing is pickled.

The worker decodes videos of strangers. A hostile file that takes it over can send whatever it likes, and unpickling that would
run it in the server. So a message is a length, JSON of that length, and the bytes of the arrays that the JSON announces. The
receiver checks every length and type against limits before it makes room.

Values are None, bool, int, float, str, bytes, arrays of numbers, PIL images (sent as RGB), and lists and dicts of these with
text as keys. Paths arrive as text, tuples as lists.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MOST_JSON = 16 * 2**20
MOST_BYTES = 128 * 2**20
"""Largest sizes of a message: of its JSON, and of all its arrays."""


class WireError(Exception):
    """What came is not a message."""


def encode(value: object) -> list[bytes]:
    """Returns the message of a value, in pieces to send one after the other. TypeError if the value is not plain data."""
    arrays: list[np.ndarray] = []
    tree = _plain(value, arrays)
    text = json.dumps({"value": tree, "arrays": [[array.dtype.str, array.shape] for array in arrays]}).encode()
    size = sum(array.nbytes for array in arrays)
    if len(text) > MOST_JSON or size > MOST_BYTES:
        raise ValueError(
            f"a result of {(len(text) + size) / 1e6:.0f} MB is too large to hand over: at most {MOST_BYTES // 10**6} MB"
        )
    return [
        struct.pack(">Q", len(text)),
        text,
        *(array.tobytes() for array in arrays),
    ]


def decode(read: Callable[[int], bytearray]) -> Any:
    """Returns the value of the message that `read(size)` returns the bytes of. WireError if it breaks a rule."""
    (length,) = struct.unpack(">Q", read(8))
    if length > MOST_JSON:
        raise WireError(f"{length} bytes of JSON are announced")
    try:
        message = json.loads(bytes(read(length)))
        kinds = [(np.dtype(str(kind)), tuple(int(n) for n in shape)) for kind, shape in message["arrays"]]
        sizes = [kind.itemsize * math.prod(shape) for kind, shape in kinds]
        wrong = [kind for kind, shape in kinds if kind.kind not in "biuf" or kind.fields or min(shape, default=0) < 0]
        if wrong or sum(sizes) > MOST_BYTES:
            raise WireError(f"arrays of {wrong or sum(sizes)} are announced")
        arrays = [np.frombuffer(read(size), kind).reshape(shape) for size, (kind, shape) in zip(sizes, kinds, strict=True)]
        return _restored(message["value"], arrays)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise WireError(f"not a message: {type(error).__name__}") from error


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """Returns a value as JSON. Dicts are tagged, so that nobody's dict is taken for an array."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, arrays) for item in value]
    if isinstance(value, dict):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"keys must be text, got {wrong[0]!r}")
        return {"dict": {key: _plain(item, arrays) for key, item in value.items()}}
    if isinstance(value, (bytes, bytearray)):
        arrays.append(np.frombuffer(value, np.uint8))
        return {"bytes": len(arrays) - 1}
    tag = "array"
    if hasattr(value, "convert") and hasattr(value, "getbands"):  # a PIL image, without importing PIL
        tag, value = "image", np.asarray(value.convert("RGB"))
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        return {tag: len(arrays) - 1}
    raise TypeError(f"only plain data and arrays of numbers can be handed over, got {type(value).__name__}")


def _restored(tree: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(tree, list):
        return [_restored(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((tag, content),) = tree.items()
    if tag == "dict":
        return {key: _restored(item, arrays) for key, item in content.items()}
    array = arrays[content]
    if tag == "bytes":
        return array.tobytes()
    if tag == "image":
        from PIL import Image

        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise WireError("an image is not RGB")
        return Image.fromarray(array)
    if tag == "array":
        return array
    raise WireError(f"unknown kind of value: {tag!r}")
