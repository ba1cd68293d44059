"""Files: which are videos, atomic writes, hashes, and by what a video is known again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv .y4m".split()  # noqa: SIM905
)
"""Suffixes of containers of videos; other files are tried only if named explicitly."""
_PROBE = 1 << 16  # bytes read at the start, middle and end of a file to recognize it


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`. It replaces `path` if the block succeeds, and is deleted if the block fails."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would lock others out of a shared cache
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def identity(path: Path | str) -> tuple[int | None, str]:
    """Returns (size in bytes, fingerprint) of a video.

    The fingerprint of a folder of frames covers the names of its files and the content of the first; that of an address,
    which is text, is of the address alone, and its size is None: the server is not asked again.
    """
    if isinstance(path, str):
        return None, hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
    if path.is_dir():
        files = sorted(path.glob("*.jpg"))
        digest = hashlib.sha256("\n".join(file.name for file in files).encode("utf-8", "surrogateescape"))
        digest.update(files[0].read_bytes() if files else b"")
        return sum(file.stat().st_size for file in files), digest.hexdigest()
    if not path.is_file():  # reading a pipe could block forever
        raise FileNotFoundError(f"no file at {path}")
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for position in sorted({0, max(size // 2 - _PROBE // 2, 0), max(size - _PROBE, 0)}):
            file.seek(position)
            digest.update(file.read(_PROBE))
    return size, digest.hexdigest()


@contextlib.contextmanager
def locked(file: Path, busy: str | None) -> Iterator[None]:
    """Holds the lock `file` while the block runs; its folder is made.

    Raises:
        BlockingIOError: another process holds it; `busy` is the message. None waits for it instead.
    """
    from filelock import FileLock, Timeout

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=-1 if busy is None else 0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(busy) from None
    try:
        yield
    finally:
        lock.release()
