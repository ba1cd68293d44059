"""Writes TensorFlow V2 checkpoints, raw or wrong on purpose, to test the reader with."""

import struct
from pathlib import Path

import numpy as np

from vie_models.weights.crc32c import masked_crc32c
from vie_models.weights.tensor_bundle import DTYPES, TABLE_MAGIC

NUMBERS = {np.dtype(dtype): number for number, dtype in DTYPES.items()}


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    """A protobuf field; zero and empty ones are left out, as protobuf does."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value) if value else b""


def entry(dtype: int, shape: tuple[int, ...], shard: int, offset: int, size: int, crc: int, extra: bytes = b"") -> bytes:
    """BundleEntryProto."""
    dims = b"".join(field(2, field(1, n)) for n in shape)
    return (
        field(1, dtype) + field(2, dims) + field(3, shard) + field(4, offset) + field(5, size)
        + varint(6 << 3 | 5) + struct.pack("<I", crc) + extra
    )  # fmt: skip


def block(pairs: list[tuple[bytes, bytes]], kind: int = 0, restart_interval: int = 16) -> bytes:
    """Prefix-compressed entries, restart points, type byte and CRC."""
    body, restarts, previous = b"", [], b""
    for k, (key, value) in enumerate(pairs):
        shared = 0
        if k % restart_interval == 0:
            restarts.append(len(body))
        else:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    body += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts)) + bytes([kind])
    return body + struct.pack("<I", masked_crc32c(body))


def table(pairs: list[tuple[bytes, bytes]], kind: int = 0, pairs_per_block: int = 30) -> bytes:
    """A LevelDB table of the given pairs, in order."""
    out, handles = b"", []
    for k in range(0, len(pairs), pairs_per_block):
        data = block(pairs[k : k + pairs_per_block], kind)
        handles.append((pairs[min(k + pairs_per_block, len(pairs)) - 1][0], varint(len(out)) + varint(len(data) - 5)))
        out += data
    metaindex, index = block([]), block(handles, restart_interval=1)
    footer = varint(len(out)) + varint(len(metaindex) - 5) + varint(len(out) + len(metaindex)) + varint(len(index) - 5)
    return out + metaindex + index + footer.ljust(40, b"\0") + struct.pack("<Q", TABLE_MAGIC)


def write_bundle(
    prefix: Path,
    variables: dict[str, np.ndarray],
    *,
    shards: int = 1,
    gap: int = 0,
    kind: int = 0,
    header: bytes | None = None,
    entries: dict[str, bytes] | None = None,
) -> Path:
    """Writes PREFIX.index and its shards. `gap` bytes lie between variables; `entries` replace or add raw index entries."""
    paths = [prefix.with_name(f"{prefix.name}.data-{k:05d}-of-{shards:05d}") for k in range(shards)]
    files = [path.open("wb") for path in paths]
    pairs = {b"": field(1, shards) + field(3, field(1, 1)) if header is None else header}
    for k, (name, value) in enumerate(sorted(variables.items())):
        shard, data = k % shards, np.ascontiguousarray(value).tobytes()
        files[shard].write(b"\xee" * gap)
        pairs[name.encode()] = entry(
            NUMBERS[value.dtype], value.shape, shard, files[shard].tell(), len(data), masked_crc32c(data)
        )
        files[shard].write(data)
    for file in files:
        file.close()
    pairs |= {name.encode(): value for name, value in (entries or {}).items()}
    prefix.with_name(prefix.name + ".index").write_bytes(table(sorted(pairs.items()), kind))
    return prefix
