"""CRC-32C (Castagnoli) in NumPy: TensorFlow's checksum, fast enough for checkpoints of hundreds of megabytes.

A message is a polynomial over GF(2), and its CRC is linear in it. So the message is laid out in rows of 32-bit words. Each
row is multiplied by x^(bits in a row) and added to the next, all columns at once. The last row is folded in half until one
word is left. That word times x^32, modulo the polynomial, is the CRC. Bits are reflected, as CRC-32C defines.
"""

from __future__ import annotations

import functools

import numpy as np

POLYNOMIAL = 0x82F63B78  # x^31 ... x^0 of the Castagnoli polynomial, reflected
ONE = 0x80000000  # the polynomial 1, reflected
ROW_WORDS = 1 << 14  # 64 KiB a row: long enough for NumPy, short enough for the cache


def crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """Returns the CRC-32C of a contiguous buffer."""
    message = np.frombuffer(data, np.uint8)
    initial = _multiply(0xFFFFFFFF, _power(8 * message.size)) if message.size else 0xFFFFFFFF
    return _remainder(message) ^ initial ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview | np.ndarray) -> int:
    """Returns the CRC as LevelDB and TensorFlow store it: rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(message: np.ndarray) -> int:
    """message * x^32 modulo the polynomial, for uint8 [n]."""
    row_words = min(ROW_WORDS, 1 << max(message.size // 4, 1).bit_length())
    head = message.size % (4 * row_words)
    row = np.zeros(row_words, np.uint32)  # leading zeros do not change a remainder
    if head:
        row.view(np.uint8)[-head:] = message[:head]
    rows = message[head:].reshape(-1, 4 * row_words)
    for words in rows:
        row = _multiply_words(row, 32 * row_words)
        row ^= words.view("<u4")
    while row.size > 1:
        half = row.size // 2
        row = _multiply_words(row[:half], 32 * half) ^ row[half:]
    return int(_multiply_words(row, 32)[0])


def _multiply_words(words: np.ndarray, bits: int) -> np.ndarray:
    """Each uint32 word times x^bits, modulo the polynomial."""
    table = _tables(bits)
    product = table[0][words & 0xFF]
    for k in (1, 2, 3):
        product ^= table[k][(words >> (8 * k)) & 0xFF]
    return product


@functools.lru_cache(maxsize=64)
def _tables(bits: int) -> np.ndarray:
    """uint32 [4, 256]: products with x^bits of all words whose set bits lie in byte k; 4 KiB, small beside any checkpoint."""
    factor = _power(bits)
    tables = []
    for k in range(4):
        table = np.zeros(1, np.uint32)
        for bit in range(8):
            table = np.concatenate([table, table ^ np.uint32(_multiply(1 << (8 * k + bit), factor))])
        tables.append(table)
    return np.stack(tables)


@functools.lru_cache(maxsize=1024)
def _power(exponent: int) -> int:
    """x^exponent modulo the polynomial, by squaring."""
    if exponent == 0:
        return ONE
    half = _power(exponent // 2)
    square = _multiply(half, half)
    return _multiply(square, ONE >> 1) if exponent % 2 else square


def _multiply(a: int, b: int) -> int:
    """Product of two polynomials of degree < 32, modulo the polynomial."""
    product = 0
    for bit in range(31, -1, -1):  # from x^0 upwards
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (POLYNOMIAL if b & 1 else 0)
    return product
