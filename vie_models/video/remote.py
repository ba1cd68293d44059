"""Videos at http(s) addresses, read through PyAV like files: in the parts that it asks for, with time-outs and new attempts.

FFmpeg can open addresses by itself, but takes a connection that broke for the end of the video, and does not check
certificates. Here a break that new attempts do not mend is an error.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import time
import urllib.parse
from typing import Any, BinaryIO, TypeGuard

from .. import http
from .frames import VideoError

ATTEMPTS = 3
_CHUNK = 1 << 20
_LONGEST = 100  # of a part of a file's name, in characters


def is_url(source: object) -> TypeGuard[str]:
    """Whether a source is an http(s) address."""
    return isinstance(source, str) and re.match(r"https?://", source, re.IGNORECASE) is not None


def url_name(url: str) -> str:
    """Returns a safe relative path for files about an address: its host and path, `example.org/videos/a.mp4`.

    Characters other than letters, digits, `.`, `_` and `-` become `_`. If this changed anything, or if there is a query, a hash
    of the address goes before the suffix, so that two addresses get two names.
    """
    parts = urllib.parse.urlsplit(url)
    path = urllib.parse.unquote(parts.path).strip("/")
    asked = [parts.netloc.rpartition("@")[2].replace(":", "_"), *path.split("/")]
    safe = [re.sub(r"[^\w.-]|^\.+", "_", part[-_LONGEST:], flags=re.ASCII) or "_" for part in asked]
    if parts.query or safe != asked:
        stem, dot, suffix = safe[-1].rpartition(".")
        digest = hashlib.sha256(urllib.parse.urldefrag(url).url.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        safe[-1] = f"{stem or suffix}.{digest}{dot if stem else ''}{suffix if stem else ''}"
    return "/".join(safe)


class RemoteFile(io.RawIOBase):
    """A file at an http(s) address, which can seek. If the server cannot send parts of it, all of it is copied to the disk.

    Attributes:
        error: why reading failed, or None. From then on the file seems to be at its end, because FFmpeg prints what `read`
            raises, and tries again.

    Raises:
        VideoError: the server refuses, sends a web page, or keeps silent or breaking off.
    """

    def __init__(self, url: str) -> None:
        if "@" in urllib.parse.urlsplit(url).netloc:
            raise VideoError(
                re.sub(r"//.*@", "//", url), "has a user name in its address: download it, or use a signed address"
            )
        self.url = url
        self.error: VideoError | None = None
        self._response: Any = None
        self._copy: BinaryIO | None = None
        self._position = self._place = 0  # of this file, and of the response in it
        self._size = 0
        self._version: tuple[str, int | None] | None = None
        self._attempt(lambda: None)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(offset + (0, self._position, self._size)[whence], 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self.error or self._position >= self._size:
            return 0
        try:
            data = self._attempt(lambda: self._receive(min(len(buffer), self._size - self._position)))
        except VideoError:
            return 0
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        for file in (self._response, self._copy):
            if file:
                file.close()
        super().close()

    def _receive(self, count: int) -> bytes:
        data = (self._copy or self._response).read(count)
        if not data:
            raise ConnectionError("the connection closed early")
        self._place += len(data)
        return data

    def _attempt(self, receive: Any) -> Any:
        """Returns `receive()` at the current position, after as many attempts as it takes and is allowed."""
        for attempt in range(ATTEMPTS):
            try:
                self._go()
                return receive()
            except VideoError as error:
                self.error = error
                raise
            except http.FAILURES as error:
                reason, again = http.failure(error)
                if not again:
                    break
            self._drop()
            if attempt + 1 < ATTEMPTS:
                time.sleep(http.BACKOFF * 2**attempt)
        else:
            reason = f"{reason} ({ATTEMPTS} attempts)"
        self.error = VideoError(self.url, f"cannot be read: {reason}")
        raise self.error

    def _drop(self) -> None:
        if self._response:
            self._response.close()
            self._response = None

    def _go(self) -> None:
        """Makes sure that what is read next comes from the current position."""
        if self._copy:
            self._copy.seek(self._position)
            return
        if self._response and self._place == self._position:
            return
        self._drop()
        try:
            answer = http.ask(self.url, self._position)
        except http.WebPageError:
            raise VideoError(self.url, "is a web page, not a video: give the address of the video file itself") from None
        except http.OtherRangeError as error:
            raise VideoError(self.url, f"cannot be read: {error}") from None
        self._response, self._place = answer.response, self._position
        if answer.response.status != 206:
            self._copy_all(answer.size)
            return
        version = (answer.etag, answer.size)
        if self._version not in (None, version):
            raise VideoError(self.url, "cannot be read: it changed while it was read")
        assert answer.size is not None  # a range has it
        self._version, self._size = version, answer.size

    def _copy_all(self, size: int | None) -> None:
        """Keeps all that the server sends, which starts at 0 because the server cannot send parts."""
        copy = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        while chunk := self._response.read(_CHUNK):
            copy.write(chunk)
        self._size = copy.tell()
        self._drop()
        if size not in (None, self._size):
            copy.close()
            raise ConnectionError(f"the connection closed after {self._size} of {size} bytes")
        copy.seek(self._position)
        self._copy = copy
