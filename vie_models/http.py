"""Asks an HTTP(S) server for a file from a byte on, and says what a failure means: for downloads, and videos at addresses."""

from __future__ import annotations

import dataclasses
import http.client
import re
import urllib.error
import urllib.request
from typing import Any

TIMEOUT = 20.0
"""Seconds that a server may be silent."""
BACKOFF = 0.5
"""Seconds before the second attempt, doubled for each further one."""
FAILURES = (OSError, http.client.HTTPException)
"""What the network raises: `urllib.error.HTTPError` is an OSError."""


class WebPageError(ValueError):
    """The address gives a web page, not a file."""


class OtherRangeError(ValueError):
    """The server sent another part of the file than it was asked for."""


@dataclasses.dataclass
class Answer:
    """What the server sends."""

    response: Any
    """To be read and closed."""
    start: int
    """First byte that comes: 0 if the server sends all of the file."""
    size: int | None
    """Size of the file in bytes, if the server says it."""
    etag: str
    """Version of the file, or ""."""


def ask(url: str, start: int | None = None, if_range: str = "") -> Answer:
    """Asks for a file, from byte `start` on if given, and if `if_range` is given only of the version with that ETag.

    Raises:
        WebPageError, OtherRangeError: the answer is of no use.
        OSError, http.client.HTTPException: there is none. See `failure`.
    """
    headers = {"User-Agent": "vie_models", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start is not None else {}
    headers |= {"If-Range": if_range} if if_range else {}
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    try:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise WebPageError(url)
        etag = response.headers.get("ETag", "")
        if response.status != 206:
            length = response.headers.get("Content-Length")
            return Answer(response, 0, None if length is None else int(length), etag)
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != start:
            raise OtherRangeError(f"the server sent {span and span[0]}, not bytes {start}-")
        return Answer(response, int(span[1]), int(span[2]), etag)
    except ValueError:
        response.close()
        raise


def failure(error: Exception) -> tuple[str, bool]:
    """Returns the reason of one of `FAILURES`, and whether another attempt may help."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"the server answers {error.code} {error.reason}", error.code >= 500 or error.code in (408, 429)
    reason = str(getattr(error, "reason", error)) or type(error).__name__
    if isinstance(error, TimeoutError) or "timed out" in reason:
        reason = f"the server is silent for {TIMEOUT:g} s"
    return reason, True
