"""TensorFlow checkpoints without TensorFlow: a reader of V2 "tensor bundles".

A bundle is an index, `NAME.index`, and shards, `NAME.data-00000-of-0000N`. The index is a LevelDB table:

    data block ... | metaindex block | index block | footer (48 bytes)

A block is prefix-compressed entries, restart points, one type byte (0 raw, 1 snappy) and a masked CRC-32C. The index block
points at the data blocks; the footer points at metaindex and index. Entries map variable names to BundleEntryProto
(dtype, shape, shard, offset, size, CRC-32C), and "" to BundleHeaderProto. Source: tensorflow/core/util/tensor_bundle,
tensorflow/core/protobuf/tensor_bundle.proto, LevelDB's doc/table_format.md.

Everything is checked as it is read. Any error raises CheckpointError, so a damaged file never gives wrong weights.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import struct
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from .crc32c import masked_crc32c

FOOTER_SIZE = 48
TRAILER_SIZE = 5  # of a block: type byte and CRC
TABLE_MAGIC = 0xDB4775248B80FB57
# DataType of tensorflow/core/framework/types.proto -> NumPy; strings, resources, quantized and bfloat16 have no NumPy type.
DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "|u1",
    5: "<i2",
    6: "|i1",
    8: "<c8",
    9: "<i8",
    10: "|b1",
    17: "<u2",
    18: "<c16",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}


class CheckpointError(ValueError):
    """A TensorFlow checkpoint cannot be used: it is damaged, incomplete, unsupported or of another model."""


def read_checkpoint(source: str | os.PathLike[str] | IO[bytes]) -> Mapping[str, np.ndarray]:
    """Opens a V2 checkpoint: variable name -> read-only array in TensorFlow's layout.

    Arrays are read on access, and their checksums are verified each time. Files on disk, in a tar or not, are memory-mapped,
    so an array costs no memory once dropped.

    Args:
        source: a tar with one bundle inside (read by member, never extracted); a bundle's prefix ("checkpoint-3"), its
            ".index" file, or a folder with one bundle; or a seekable binary file object of such a tar.

    Raises:
        FileNotFoundError: nothing exists at that path.
        CheckpointError: damaged, incomplete, compressed or otherwise not a readable bundle.
    """
    if not isinstance(source, str | os.PathLike):
        return TensorBundle(_tar_members(source, None))
    path = Path(source)
    if path.is_file() and path.suffix != ".index":
        with path.open("rb") as file:
            return TensorBundle(_tar_members(file, path))
    if path.is_dir():
        indices = sorted(path.glob("*.index"))
        if len(indices) != 1:
            raise CheckpointError(f"{path} must hold exactly one *.index file, found {len(indices)}; name one of them")
        path = indices[0]
    elif path.suffix != ".index":
        path = path.with_name(path.name + ".index")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {source}: neither it nor {path} exists")
    shards = path.parent.glob(f"{_glob_escape(path.stem)}.data-*")
    return TensorBundle({p.name: _Region(p, None, 0, p.stat().st_size) for p in (path, *shards)})


def _glob_escape(name: str) -> str:
    return re.sub(r"([\[*?])", r"[\1]", name)


@dataclasses.dataclass(frozen=True)
class _Region:
    """A run of bytes: a file, or one member of a tar."""

    path: Path | None
    file: IO[bytes] | None
    """The open tar, if there is no path to map."""
    start: int
    size: int

    def array(self, offset: int, dtype: str, count: int) -> np.ndarray:
        """`count` values of `dtype` from byte `offset`; the caller has checked that they lie inside."""
        offset += self.start
        try:
            if self.path is not None and count:
                values: np.ndarray = np.memmap(self.path, dtype, "r", offset, (count,))
                return values if values.flags.aligned else np.array(values)
            if self.file is None:
                return np.zeros(0, dtype)
            self.file.seek(offset)
            return np.frombuffer(self.file.read(count * np.dtype(dtype).itemsize), dtype, count)
        except (OSError, ValueError) as error:  # the file has shrunk, or was closed, since it was opened
            raise CheckpointError(
                f"cannot read {count} values at byte {offset} of {self.path or 'the tar'}: {error}"
            ) from error

    def bytes(self, offset: int = 0, size: int | None = None) -> bytes:
        return self.array(offset, "|u1", self.size if size is None else size).tobytes()


class _Headers:
    """An open tar that lets tarfile read headers only. A damaged header can claim any size, which would fill memory."""

    MAX_SIZE = 1 << 16  # a long name or an extended header has a few hundred bytes

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.MAX_SIZE:
            raise CheckpointError(f"a header of the tar claims {size} bytes, the limit is {self.MAX_SIZE}: it is damaged")
        return self.file.read(size)


def _tar_members(file: IO[bytes], path: Path | None) -> dict[str, _Region]:
    """Returns the regular members of an uncompressed tar by base name, without extracting them."""
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    headers: Any = _Headers(file)
    regions: dict[str, _Region] = {}
    position = 0
    try:
        with tarfile.open(fileobj=headers, mode="r:") as tar:
            for member in tar:
                if member.offset_data <= position:  # a negative size, on which some tarfiles loop for ever
                    raise CheckpointError(f"tar member {member.name!r} lies before the previous member: the tar is damaged")
                position = member.offset_data
                name = member.name.rsplit("/", 1)[-1]
                if not member.isreg() or member.sparse is not None:
                    continue
                if member.size < 0 or member.offset_data + member.size > end:
                    raise CheckpointError(
                        f"tar member {member.name!r} needs {member.size} bytes at {member.offset_data}, but the tar has {end}: "
                        "it is cut short; download it again"
                    )
                if name in regions:
                    raise CheckpointError(f"the tar holds two members named {name!r}; it must hold one checkpoint")
                regions[name] = _Region(path, None if path else file, member.offset_data, member.size)
    except CheckpointError:
        raise
    except (tarfile.TarError, OSError, ValueError, OverflowError, IndexError, RecursionError) as error:  # tarfile, on damage
        where = path or "the file object"
        raise CheckpointError(f"{where} is not an uncompressed tar of a TensorFlow checkpoint: {error}") from error
    return regions


@dataclasses.dataclass(frozen=True)
class BundleEntry:
    """Place, type and shape of a variable, from the index."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc32c: int


class TensorBundle(Mapping[str, np.ndarray]):
    """A V2 checkpoint as a lazy mapping. `entries` gives dtypes and shapes without reading any variable."""

    def __init__(self, regions: Mapping[str, _Region]) -> None:
        indices = [name for name in regions if name.endswith(".index")]
        if len(indices) != 1:
            raise CheckpointError(f"expected one *.index among {sorted(regions)}, found {len(indices)}")
        self.name = indices[0].removesuffix(".index")
        values = _read_table(regions[indices[0]].bytes())
        if "" not in values:
            raise CheckpointError(f"{indices[0]} has no bundle header")
        num_shards = _parse_header(values.pop(""))
        names = [f"{self.name}.data-{k:05d}-of-{num_shards:05d}" for k in range(num_shards)]
        if missing := [name for name in names if name not in regions]:
            raise CheckpointError(f"{indices[0]} needs {num_shards} shard(s), missing: {', '.join(missing[:3])}")
        self._shards = [regions[name] for name in names]
        self.entries = {name: _parse_entry(name, value) for name, value in values.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            raise CheckpointError(f"{name} has TensorFlow DataType {entry.dtype}, which has no NumPy equivalent here")
        dtype, count = np.dtype(DTYPES[entry.dtype]), _product(entry.shape)
        if entry.size != count * dtype.itemsize:
            raise CheckpointError(
                f"{name} {list(entry.shape)} of {dtype} takes {count * dtype.itemsize} bytes, but the index says {entry.size}"
            )
        if entry.shard >= len(self._shards):
            raise CheckpointError(f"{name} lies in shard {entry.shard}, but there are {len(self._shards)} shards")
        shard = self._shards[entry.shard]
        if entry.offset + entry.size > shard.size:
            raise CheckpointError(
                f"{name} ends at byte {entry.offset + entry.size} of shard {entry.shard}, "
                f"which has {shard.size}: it is cut short"
            )
        values = shard.array(entry.offset, dtype.str, count)
        if (found := masked_crc32c(values.view(np.uint8))) != entry.crc32c:
            raise CheckpointError(
                f"{name} is damaged: its CRC-32C is {found:#010x}, the index says {entry.crc32c:#010x}; download it again"
            )
        if entry.dtype == 10 and values.view(np.uint8).max(initial=0) > 1:
            raise CheckpointError(f"{name} holds bytes that are not booleans")
        try:
            values = values.reshape(entry.shape)
        except ValueError as error:  # more axes, or longer empty ones, than NumPy allows
            raise CheckpointError(f"{name} has a shape that NumPy cannot hold, {list(entry.shape)}: {error}") from error
        values.flags.writeable = False
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:  # Python integers do not overflow, whatever a damaged index says
        count *= size
    return count


# --- the index: a LevelDB table -------------------------------------------------------------------------------------


def _read_table(data: bytes) -> dict[str, bytes]:
    """Returns all entries of a table, in order. Its blocks must fill the file without gaps."""
    if len(data) < FOOTER_SIZE:
        raise CheckpointError(f"the index has {len(data)} bytes, fewer than its footer's {FOOTER_SIZE}")
    footer = _Reader(data[-FOOTER_SIZE:])
    metaindex, index = footer.handle(), footer.handle()
    if struct.unpack("<Q", data[-8:])[0] != TABLE_MAGIC:
        raise CheckpointError("the index does not end in a table's magic number: not a V2 checkpoint, or cut short")
    end = len(data) - FOOTER_SIZE
    if (_block_end(index), _block_end(metaindex)) != (end, index[0]):
        raise CheckpointError("the index's footer does not point at its last two blocks: it is damaged")
    _read_block(data, metaindex)
    entries: dict[str, bytes] = {}
    position = 0
    for _, value in _read_block(data, index):
        reader = _Reader(value)
        handle = reader.handle()
        if handle[0] != position or not reader.done:
            raise CheckpointError("the index's blocks do not follow one another: it is damaged")
        position = _block_end(handle)
        for key, entry in _read_block(data, handle):
            name = _text(key)
            if entries and name <= next(reversed(entries)):
                raise CheckpointError("the index's keys are not in order: it is damaged")
            entries[name] = entry
    if position != metaindex[0]:
        raise CheckpointError("the index's blocks do not fill it: it is damaged")
    return entries


def _block_end(handle: tuple[int, int]) -> int:
    return handle[0] + handle[1] + TRAILER_SIZE


def _read_block(data: bytes, handle: tuple[int, int]) -> list[tuple[bytes, bytes]]:
    """Returns the (key, value) pairs of the block at (offset, size), after verifying its checksum."""
    offset, size = handle
    if _block_end(handle) > len(data) - FOOTER_SIZE or size < 4:
        raise CheckpointError(f"the index has no room for a block of {size} bytes at {offset}: it is damaged")
    stored = struct.unpack_from("<I", data, offset + size + 1)[0]
    if masked_crc32c(data[offset : offset + size + 1]) != stored:
        raise CheckpointError(f"the index block at byte {offset} is damaged: its CRC-32C does not match; download it again")
    if (kind := data[offset + size]) != 0:
        raise CheckpointError(
            f"the index block at byte {offset} is compressed (type {kind}); only raw blocks, as TensorFlow writes, are read"
        )
    num_restarts = struct.unpack_from("<I", data, offset + size - 4)[0]
    reader = _Reader(data[offset : offset + size], end=size - 4 - 4 * num_restarts)
    pairs = []
    key = b""
    while not reader.done:
        shared, unshared, length = reader.varint(), reader.varint(), reader.varint()
        if shared > len(key):
            raise CheckpointError(
                f"the index block at byte {offset} shares {shared} bytes of a {len(key)}-byte key: it is damaged"
            )
        key = key[:shared] + reader.take(unshared)
        pairs.append((key, reader.take(length)))
    return pairs


class _Reader:
    """Reads varints and byte strings from a buffer, never past its end."""

    def __init__(self, data: bytes, end: int | None = None) -> None:
        self.data, self.position = data, 0
        self.end = len(data) if end is None else end
        if self.end < 0:
            raise CheckpointError("a block's restart points do not fit in it: it is damaged")

    @property
    def done(self) -> bool:
        return self.position >= self.end

    def take(self, size: int) -> bytes:
        if size > self.end - self.position:
            raise CheckpointError(f"the index ends in the middle of a {size}-byte field: it is damaged")
        self.position += size
        return self.data[self.position - size : self.position]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise CheckpointError("the index holds a number of more than 64 bits: it is damaged")

    def handle(self) -> tuple[int, int]:
        return self.varint(), self.varint()


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yields (field number, value) of a protobuf message: int for varint and fixed, bytes for length-delimited."""
    reader = _Reader(message)
    while not reader.done:
        tag = reader.varint()
        wire = tag & 7
        if wire == 0:
            yield tag >> 3, reader.varint()
        elif wire == 1:
            yield tag >> 3, int.from_bytes(reader.take(8), "little")
        elif wire == 2:
            yield tag >> 3, reader.take(reader.varint())
        elif wire == 5:
            yield tag >> 3, int.from_bytes(reader.take(4), "little")
        else:
            raise CheckpointError(f"the index holds a protobuf field of unknown wire type {wire}: it is damaged")


def _message(message: bytes, kinds: Mapping[int, type]) -> dict[int, Any]:
    """Returns the fields of a message, the last value of each. Checks the types of those in `kinds`."""
    values = dict(_fields(message))
    for number, kind in kinds.items():
        if not isinstance(values.get(number, kind()), kind):
            raise CheckpointError(f"protobuf field {number} of the index has the wrong type: it is damaged")
    return values


def _parse_header(message: bytes) -> int:
    """Returns the number of shards from a BundleHeaderProto (num_shards 1, endianness 2)."""
    header = _message(message, {1: int, 2: int})
    if header.get(2, 0) != 0:
        raise CheckpointError("the checkpoint is big-endian, which is not supported")
    num_shards: int = header.get(1, 0)
    if not 1 <= num_shards <= 99_999:
        raise CheckpointError(f"the checkpoint says it has {num_shards} shards: it is damaged")
    return num_shards


def _parse_entry(name: str, message: bytes) -> BundleEntry:
    """Parses a BundleEntryProto: dtype 1, shape 2, shard_id 3, offset 4, size 5, crc32c 6, slices 7."""
    entry = _message(message, {1: int, 2: bytes, 3: int, 4: int, 5: int, 6: int})
    if 7 in entry:
        raise CheckpointError(f"{name} is stored in slices (a partitioned variable), which is not supported")
    shape = []
    for number, dimension in _fields(entry.get(2, b"")):  # TensorShapeProto: repeated dim 2 {size 1}, unknown_rank 3
        if number != 2 or not isinstance(dimension, bytes):
            raise CheckpointError(f"{name} has no definite shape")
        size = _message(dimension, {1: int}).get(1, 0)
        if size >= 1 << 63:
            raise CheckpointError(f"{name} has an axis of unknown length")
        shape.append(size)
    return BundleEntry(entry.get(1, 0), tuple(shape), entry.get(3, 0), entry.get(4, 0), entry.get(5, 0), entry.get(6, 0))


def _text(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"the index holds a name that is not UTF-8: {key!r}") from error
