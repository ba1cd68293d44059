"""What stands between the network and Gradio: who may ask, for what, and how much.

Gradio's own server has more doors than the page needs. Some are open without a login, some fetch any address on the Internet
for whoever asks, and uploads that break off leave their files behind. So this lets through what the page asks for, and nothing
else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .uploads import Uploads

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_UPLOAD, _FILE, _STARTED = "/gradio_api/upload", "/gradio_api/file=", "/gradio_api/startup-events"
GET = re.compile(
    r"/|/config|/(gradio_api/)?theme\.css|/(assets|static|svelte)/.*|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?"
    r"|/gradio_api/(info|app_id|startup-events|upload_progress|queue/data|heartbeat/\w+|file=.*)"
)
POST = re.compile(r"/gradio_api/(upload|queue/join|cancel|reset)")
"""Paths that the page asks for. All others do not exist."""
SERVED = frozenset(
    [".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"]
    + [".gif", ".jpeg", ".jpg", ".png", ".webp", ".csv", ".json"]
)
"""Suffixes of files that are served. What a browser might run as a page is not among them."""
MOST_JSON = 4 * 2**20
MOST_UPLOADS = 4
SILENCE, LONGEST = 30.0, 900.0
"""Largest question to the page in bytes, uploads at a time (the others wait), and seconds that an upload may pause and last."""
SPARE_DISK = 10**9
HERE = frozenset({"127.0.0.1", "localhost", "::1"})


class _RefusedError(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Guard:
    """ASGI middleware around Gradio's server.

    Args:
        app: Gradio's server.
        uploads: its folder of uploads and their rules.
        login: user and password; None lets everybody in.
        hosts: names under which the page is asked for, so that pages of others in the same browser cannot ask in its place;
            None for any, behind a proxy.
        most_disk: bytes that all uploads together may take.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        uploads: Uploads,
        login: tuple[str, str] | None = None,
        hosts: frozenset[str] | None = HERE,
        most_disk: float = 5e9,
    ) -> None:
        self.app, self.uploads, self.hosts, self.most_disk = app, uploads, hosts, most_disk
        self._login = base64.b64encode(":".join(login).encode()) if login else None
        self._started = False
        self._turns = asyncio.Semaphore(MOST_UPLOADS)
        self._wrong = asyncio.Semaphore(1)
        self._coming: dict[object, int] = {}  # bytes that each upload in progress may still bring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has Gradio answer it."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return  # Gradio's page opens no web sockets
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message["headers"], *self._headers()]}
            await send(message)

        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            await self._admit(scope, headers)
            if scope["method"] == "POST" and scope["path"] == _UPLOAD:
                await self._upload(scope, headers, receive, answer)
            elif scope["method"] == "POST":
                await self.app(scope, await _checked_json(receive), answer)
            else:
                await self.app(scope, receive, answer)
        except _RefusedError as refusal:
            if not begun:
                await _say(refusal, answer)

    async def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        path, method = scope["path"], scope["method"]
        if self.hosts is not None:
            host = headers.get(b"host", b"").decode("latin-1")
            if _place(f"//{host}").hostname not in self.hosts:
                raise _RefusedError(403, "This page is not served under that name.")
            origin = headers.get(b"origin")
            if method != "GET" and origin is not None and _place(origin.decode("latin-1")).netloc != host:
                raise _RefusedError(403, "Other pages may not ask in place of this one.")
        first = path == _STARTED and not self._started  # Gradio asks itself, once
        if path == _STARTED:
            self._started = True
        if self._login and not first:
            given = headers.get(b"authorization", b"").removeprefix(b"Basic ").strip()
            if not hmac.compare_digest(given, self._login):
                if given:
                    async with self._wrong:  # one guess a second
                        await asyncio.sleep(1)
                raise _RefusedError(401, "This page needs a user and a password.")
        allowed = {"GET": GET, "HEAD": GET, "POST": POST}.get(method)
        if allowed is None or not allowed.fullmatch(path):
            raise _RefusedError(404, "There is nothing here.")
        if path.startswith(_FILE):
            self._admit_file(path.removeprefix(_FILE))

    def _admit_file(self, name: str) -> None:
        try:
            file = Path(os.path.abspath(name)).resolve()  # noqa: PTH100 - as Gradio finds it; then, what a link leads to counts
            inside = "\0" not in name and file.is_relative_to(self.uploads.folder) and file.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, or links in a circle
            inside = False
        if not inside or file.suffix.lower() not in SERVED:
            raise _RefusedError(403, "This file is not served.")

    async def _upload(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        most = self.uploads.max_bytes + 2**16  # the form around the file
        too_large = _RefusedError(413, f"At most {self.uploads.max_bytes / 1e6:.0f} MB can be uploaded.")
        length = headers.get(b"content-length", b"")
        if length and (not length.isdigit() or int(length) > most):
            raise too_large
        mine, end = object(), time.monotonic() + LONGEST
        async with self._turns:
            with self._counted(mine, int(length) if length else most):
                self._check_disk()

                async def counted() -> Message:
                    try:
                        message = await asyncio.wait_for(receive(), min(SILENCE, max(end - time.monotonic(), 0.0)))
                    except asyncio.TimeoutError as error:
                        raise _RefusedError(408, "The upload stopped for too long.") from error
                    nonlocal most
                    most -= len(message.get("body", b""))
                    if most < 0:
                        raise too_large
                    self._coming[mine] = max(self._coming[mine] - len(message.get("body", b"")), 0)
                    return message

                await self.app(scope, counted, send)

    @contextlib.contextmanager
    def _counted(self, mine: object, size: int) -> Iterator[None]:
        self._coming[mine] = size
        try:
            yield
        finally:
            del self._coming[mine]
            # Gradio moves a complete upload to a folder of its own; what is left here broke off. Others may still be growing.
            grown_since = time.time() - 2 * SILENCE
            for file in self.uploads.folder.iterdir():
                with contextlib.suppress(OSError):
                    if file.is_file() and (not self._coming or file.stat().st_mtime < grown_since):
                        file.unlink()

    def _check_disk(self) -> None:
        coming = sum(self._coming.values())
        full = self.uploads.size() + coming > self.most_disk
        if full or shutil.disk_usage(self.uploads.folder).free - coming < SPARE_DISK:
            raise _RefusedError(
                507, "There is no room for more uploads now; they are removed after a while, so try again later."
            )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]
        if self.hosts is not None:
            headers += [
                (
                    b"content-security-policy",
                    b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'",
                ),
                (b"cross-origin-resource-policy", b"same-origin"),
            ]
        return headers


def _place(address: str) -> SplitResult:
    """Returns the parts of an address, all empty if it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


async def _checked_json(receive: Receive) -> Receive:
    """Reads a question whole, refuses one that is large or names files on the Internet, and returns what gives it to Gradio."""
    body, more = b"", True
    while more:
        try:
            message = await asyncio.wait_for(receive(), SILENCE)
        except asyncio.TimeoutError as error:
            raise _RefusedError(408, "The question stopped for too long.") from error
        if message["type"] != "http.request":
            raise _RefusedError(400, "The question broke off.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_JSON:
            raise _RefusedError(413, "The question is too long.")
    try:
        tree = json.loads(body)
        addresses = any("://" in path or path.startswith(("//", "\\\\")) for path in _paths(tree))
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, "The question is not JSON.") from error
    if addresses:
        raise _RefusedError(400, "This page takes files, not addresses of files.")
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _paths(tree: object) -> Iterator[str]:
    """Yields what a question calls the path of a file, at any depth."""
    if isinstance(tree, dict):
        if isinstance(tree.get("path"), str):
            yield tree["path"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from _paths(item)


async def _say(refusal: _RefusedError, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Basic realm="vie_models", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.sentence.encode()})


def check_reach(host: str, login: tuple[str, str] | None) -> None:
    """Checks that other machines reach the page only with a login. ValueError if not."""
    if host not in HERE and login is None:
        raise ValueError(f"other machines would see the page at {host}: add --user and --password-file")
    if login and (":" in login[0] or not all(login)):
        raise ValueError(f"user and password must not be empty, and the user must not hold a colon, got user {login[0]!r}")


def launch_options(
    uploads: Uploads,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    login: tuple[str, str] | None = None,
    proxied: bool = False,
    most_disk: float = 5e9,
) -> dict[str, Any]:
    """Returns the arguments of `gradio.Blocks.launch` that serve a page behind the guard.

    Before the page is built, `os.environ["GRADIO_TEMP_DIR"]` must name the folder of uploads, because components look there.

    Args:
        uploads: the folder of uploads and its rules.
        host: address to serve at. One that other machines reach needs a login.
        port: port to serve at (default: a free one).
        login: user and password.
        proxied: whether the page is served behind somebody's proxy, as in a Hugging Face Space.
        most_disk: as for `Guard`.

    Raises:
        ValueError: other machines could reach the page and there is no login.
    """
    from starlette.middleware import Middleware

    if not proxied:
        check_reach(host, login)
    hosts = HERE if host in HERE else None
    guard = Middleware(
        Guard,  # type: ignore[arg-type]
        uploads=uploads,
        login=login,
        hosts=None if proxied else hosts,
        most_disk=most_disk,
    )
    return {
        "server_name": host,
        "server_port": port,
        "max_file_size": uploads.max_bytes,
        "allowed_paths": [],
        "app_kwargs": {"middleware": [guard]},
        "show_error": False,
        "share": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "pwa": False,
    }
