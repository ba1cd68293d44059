"""Writes TensorFlow V2 checkpoints ("tensor bundles"), valid ones and deliberately broken ones.

vie_models/weights/tensorflow/bundle.py describes the format. The dtype numbers are copied here from
tensorflow/core/framework/types.proto, so that tests check the reader's table.
"""

import io
import struct
import tarfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from vie_models.weights.tensorflow.crc32c import masked_crc32c

DTYPES = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "complex64": 8, "int64": 9, "bool": 10,
    "uint16": 17, "complex128": 18, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip
STRING, BFLOAT16, RESOURCE = 7, 14, 20  # dtypes that NumPy lacks
MAGIC = 0xDB4775248B80FB57


def varint(value: int) -> bytes:
    head, rest = value & 0x7F, value >> 7
    return bytes([head | 0x80]) + varint(rest) if rest else bytes([head])


def field(number: int, value: int | bytes) -> bytes:
    """Encodes a varint or length-delimited field of a protobuf message."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def header(num_shards: int, *, big_endian: bool = False) -> bytes:
    """Encodes a BundleHeaderProto with version {producer: 1}."""
    return field(1, num_shards) + (field(2, 1) if big_endian else b"") + field(3, field(1, 1))


def entry(dtype: int, shape: Iterable[int], size: int, crc: int, *, shard: int = 0, offset: int = 0, slices: int = 0) -> bytes:
    """Encodes a BundleEntryProto. Like protobuf, omits zeros."""
    message = field(1, dtype) + field(2, b"".join(field(2, field(1, n) if n else b"") for n in shape))
    message += b"".join(field(number, value) for number, value in ((3, shard), (4, offset), (5, size)) if value)
    return message + varint(6 << 3 | 5) + struct.pack("<I", crc) + field(7, field(1, b"")) * slices


def block(pairs: Iterable[tuple[bytes, bytes]], *, restart_interval: int = 16, kind: int = 0) -> bytes:
    """Encodes a block: prefix-compressed entries, restart points, type byte (0 raw, 1 snappy) and CRC."""
    body, restarts, previous = bytearray(), [0], b""
    for k, (key, value) in enumerate(pairs):
        shared = 0
        if k % restart_interval:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        elif k:
            restarts.append(len(body))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    body += struct.pack(f"<{len(restarts)}I", *restarts) + struct.pack("<I", len(restarts)) + bytes([kind])
    return bytes(body) + struct.pack("<I", masked_crc32c(body))


def table(
    pairs: Mapping[bytes, bytes], *, per_block: int = 20, restart_interval: int = 16, snappy: Collection[int] = ()
) -> bytes:
    """Encodes a LevelDB table with `per_block` pairs per data block; blocks numbered in `snappy` claim to be compressed."""
    items, out, handles = sorted(pairs.items()), b"", []

    def append(data: bytes) -> bytes:
        """Adds a block and returns its handle: offset, and size without type byte and CRC."""
        nonlocal out
        handle = varint(len(out)) + varint(len(data) - 5)
        out += data
        return handle

    for k in range(0, len(items), per_block):
        part = items[k : k + per_block]
        data = block(part, restart_interval=restart_interval, kind=int(k // per_block in snappy))
        handles.append((part[-1][0], append(data)))
    footer = append(block([])) + append(block(handles, restart_interval=1))
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def bundle_files(
    variables: Mapping[str, np.ndarray],
    name: str = "ckpt",
    *,
    shards: int = 1,
    gap: int = 0,
    raw: Mapping[str, bytes] | None = None,
    **options,
) -> dict[str, bytes]:
    """Returns the content of each file of a checkpoint, by file name.

    Variables go to the shards in turn, each after `gap` bytes, which misalign it. `raw` index values replace those of the
    variables or are added to them ("" is the header). `options` go to `table`.
    """
    data = [bytearray() for _ in range(shards)]
    pairs = {b"": header(shards)}
    for k, key in enumerate(sorted(variables)):
        value, shard = np.ascontiguousarray(variables[key]), k % shards
        data[shard] += b"\xee" * gap
        pairs[key.encode()] = entry(
            DTYPES[value.dtype.name],
            variables[key].shape,
            value.nbytes,
            masked_crc32c(value.reshape(-1).view(np.uint8)),
            shard=shard,
            offset=len(data[shard]),
        )
        data[shard] += value.tobytes()
    pairs |= {key.encode(): value for key, value in (raw or {}).items()}
    files = {f"{name}.data-{k:05d}-of-{shards:05d}": bytes(content) for k, content in enumerate(data)}
    return {f"{name}.index": table(pairs, **options), **files}


def write_bundle(prefix: Path, variables: Mapping[str, np.ndarray], **options) -> Path:
    for name, content in bundle_files(variables, prefix.name, **options).items():
        prefix.with_name(name).write_bytes(content)
    return prefix


def tar_of(files: Mapping[str, bytes], folder: str = "", form: int = tarfile.GNU_FORMAT) -> bytes:
    """Returns an uncompressed tar of files in `folder`; with over 100 letters, GNU and pax tars use extended headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def tar_header(name: bytes, size: int = 0, kind: bytes = b"0", raw_size: bytes = b"") -> bytes:
    """Returns a tar header with a valid checksum, whatever its other fields are."""
    fields = name.ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0" + (raw_size or b"%011o\0" % size) + b"%011o\0" % 0
    return with_checksum(fields + 8 * b" " + kind + bytes(100) + b"ustar\x0000" + bytes(247))


def with_checksum(header: bytes) -> bytes:
    """Returns a 512-byte tar header with its checksum corrected."""
    return header[:148] + b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:])) + header[156:]
