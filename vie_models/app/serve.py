"""Starts the page on this machine."""

from __future__ import annotations

import socket
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

HOST = "127.0.0.1"


def serve(
    named: Sequence[Path] = (),
    *,
    port: int = 7860,
    browser: bool = True,
    proxied: bool = False,
    max_bytes: float = 2e9,
) -> None:
    """Serves the page until it is stopped.

    Args:
        named: videos, folders of videos, and folders of features. Nothing: the example.
        port: port of the page; 0 for one that is free.
        browser: open the page in the browser.
        proxied: the page is behind a proxy that decides who may see it, as in a Hugging Face Space: listen to all.
        max_bytes: largest video that can be dropped on the page.

    Raises:
        FileNotFoundError: something named is not there.
        ValueError: a folder has neither videos nor features, or there is no such port.
        OSError: the port is taken.
        ImportError: Starlette or uvicorn is not installed.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, got {port}")
    try:
        import uvicorn

        from .server import HOSTS, Site, build
    except ImportError as error:
        raise ImportError(f"the page needs Starlette and uvicorn: pip install 'vie_models[app]' ({error})") from error
    from .library import Library, Scratch

    library = Library(named)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("0.0.0.0" if proxied else HOST, port))
        listener.listen(128)  # who comes before the server is ready waits
    except OSError as error:
        raise OSError(f"port {port} cannot be used; perhaps another program does. --port 0 finds a free one") from error
    scratch = Scratch()
    try:
        site = Site(library, scratch, max_bytes=max_bytes, shared=proxied)
        app = build(site, hosts=["*"] if proxied else HOSTS, framed=proxied)
        address = f"http://{HOST}:{listener.getsockname()[1]}"
        print(f"the page: {address}  (Ctrl-C stops it)", flush=True)
        if browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1, server_header=False)

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                site.worker.end()  # or the pages' connections would stay open
                super().handle_exit(sig, frame)

        Server(config).run(sockets=[listener])
    finally:
        listener.close()
        scratch.close()
