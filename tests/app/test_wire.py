"""Tests the messages between the page's server and its worker."""

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vie_models.app import wire


def there_and_back(value):
    stream = io.BytesIO(b"".join(wire.encode(value)))
    decoded = wire.decode(lambda size: bytearray(stream.read(size)))
    assert stream.read() == b""
    return decoded


def message(header, content=b""):
    text = json.dumps(header).encode()
    return io.BytesIO(struct.pack(">Q", len(text)) + text + content)


def test_plain_data_arrives_as_it_was():
    value = {"a": [1, 2.5, None, True, "ä"], "dict": {"array": 0}, "nan": [float("inf")], "bytes": b"\0\1", "empty": {}}
    assert there_and_back(value) == value
    assert there_and_back((1, Path("/a"), np.float32(2))) == [1, "/a", 2.0]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
@pytest.mark.parametrize("kind", ["f4", "u1", "?", "i8", ">f8"])
def test_arrays_arrive_as_they_were(shape, kind):
    array = (np.arange(np.prod(shape, dtype=int)) % 2).astype(kind).reshape(shape)
    back = there_and_back([array])[0]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_arrays_that_are_not_contiguous_arrive_as_they_were():
    array = np.arange(24).reshape(4, 6)[::2, ::-1].T
    np.testing.assert_array_equal(there_and_back(array), array)


def test_images_arrive_as_rgb():
    back = there_and_back(Image.new("L", (3, 2), 7))
    assert back.size == (3, 2)
    assert back.getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()]), np.array(["a"]), {"a": {3}}])
def test_other_things_are_not_sent(value):
    with pytest.raises(TypeError):
        wire.encode(value)


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("what came from the worker was unpickled",))


@pytest.mark.parametrize(
    "stream",
    [
        io.BytesIO(struct.pack(">Q", 2**40)),
        message({"value": {"array": 0}, "arrays": [["|O", [1]]]}, pickle.dumps(Exploit())),
        message({"value": {"array": 0}, "arrays": [["<f8", [2**40, 2**40]]]}),
        message({"value": {"array": 0}, "arrays": [["<f8", [-1, 8]]]}),
        message({"value": {"array": 0}, "arrays": [["<f8", [2**31]]]}),
        message({"value": {"array": 1}, "arrays": []}),
        message({"value": {"array": 0, "dict": {}}, "arrays": []}),
        message({"value": {"code": "import os"}, "arrays": []}),
        message({"value": None}),
        message([]),
        message({"value": {"image": 0}, "arrays": [["<f8", [2]]]}, bytes(16)),
        io.BytesIO(struct.pack(">Q", 4) + b"\x80\x04N."),
        io.BytesIO(struct.pack(">Q", 200_000) + b"[" * 200_000),
    ],
)
def test_what_is_no_message_is_refused(stream):
    def read(size):
        assert size <= wire.MOST_BYTES, "room was made for what cannot come"
        return bytearray(stream.read(size))

    with pytest.raises(wire.WireError):
        wire.decode(read)
