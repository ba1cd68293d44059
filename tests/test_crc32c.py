import numpy as np
import pytest

from vie_models.weights.crc32c import ROW_WORDS, crc32c, masked_crc32c

ROW = 4 * ROW_WORDS


def bitwise(message: bytes) -> int:
    """The definition, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in message:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("message", "expected"),
    [  # RFC 3720, B.4, and the check value of CRC catalogues
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_vectors(message, expected):
    assert crc32c(message) == expected


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 64, 65, 1000, ROW - 1, ROW, ROW + 1, ROW + 5])
def test_equals_the_definition_at_every_kind_of_length(length):
    message = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    assert crc32c(message) == bitwise(message)
    assert crc32c(np.frombuffer(b"x" + message, np.uint8)[1:]) == crc32c(message), "an unaligned buffer"


def test_one_flipped_bit_anywhere_changes_it():
    message = bytearray(np.random.default_rng(0).integers(0, 256, 3 * ROW + 7, np.uint8).tobytes())
    expected = masked_crc32c(message)
    for position in (0, 1, 6, 7, ROW, len(message) // 2, len(message) - 1):
        message[position] ^= 0x10
        assert masked_crc32c(message) != expected
        message[position] ^= 0x10
    assert masked_crc32c(message) == expected
