"""Starts the page on a machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from .guard import check_reach, launch_options

INDEXING_MEMORY, LONGEST = 16e9, 7 * 86400.0
"""Bytes and seconds that building an index may take."""
SESSIONS = 200
"""Visitors whose videos are remembered. Each takes less than a megabyte."""


def serve(
    features: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    user: str | None = None,
    password: str | None = None,
    max_bytes: float = 500e6,
    max_seconds: float = 600.0,
    proxied: bool = False,
) -> None:
    """Serves the page until it is stopped.

    Args:
        features: folder of features to search in.
        host: name or address that the page is served at. 127.0.0.1 is for this machine alone.
        port: port of the page; 0 for one that is free.
        user, password: who may see the page. Needed for any host but this machine.
        max_bytes: largest upload.
        max_seconds: how much of a video is looked at.
        proxied: the page is behind somebody's proxy, who decides who may see it, as in a Hugging Face Space.

    Raises:
        ValueError: another host without a user and a password, no such port, or `features` has no features.
        ImportError: Gradio is not installed.
    """
    if (user is None) != (password is None):
        raise ValueError(f"--user and --password-file go together, got {'a user' if user else 'a password'} alone")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, got {port}")
    login = (user, password) if user is not None and password is not None else None
    if not proxied:
        check_reach(host, login)
    from .uploads import private_folder

    folder = private_folder()
    try:
        _serve(
            folder,
            features and features.resolve(),
            max_bytes,
            max_seconds,
            host=host,
            port=port or None,
            login=login,
            proxied=proxied,
        )
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)


def _serve(folder: Path, features: Path | None, max_bytes: float, max_seconds: float, **options: Any) -> None:
    os.environ |= {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}  # Gradio reads them when imported
    try:
        from .page import build_page, looks
    except ImportError as error:
        raise ImportError(f"the page needs Gradio: pip install 'vie_models[app]' ({error})") from error
    from .studio import Studio
    from .uploads import Uploads
    from .worker import Worker

    mapped = 0
    if features is not None:
        with Worker(memory=INDEXING_MEMORY, seconds=LONGEST) as builder:  # there may be millions of moments
            moments, *_ = builder.call("vie_models.app.jobs:about_index", str(features))
            mapped = builder.call("vie_models.app.jobs:index_bytes", str(features))
        print(f"{moments} moments to search in", flush=True)
    worker = Worker(mapped=mapped)
    uploads = Uploads(worker, folder, max_bytes=max_bytes, max_seconds=max_seconds)
    try:
        page = build_page(Studio(worker, uploads), features)
        _launch(page, launch_options(uploads, **options), looks())
        threading.Thread(target=_warm, args=(worker,), daemon=True).start()
        print(f"the page: {page.local_url}  (Ctrl-C stops it)", flush=True)
        page.block_thread()
    finally:
        worker.close()
        uploads.close()


def _launch(page: Any, options: dict[str, Any], looks: dict[str, Any]) -> None:
    try:
        page.launch(quiet=True, prevent_thread_lock=True, state_session_capacity=SESSIONS, **options, **looks)
    except OSError as error:
        host, port = options["server_name"], options["server_port"]
        raise OSError(
            f"port {port} of {host} cannot be used; perhaps another program does. --port 0 finds a free one"
        ) from error


def _warm(worker: Any) -> None:
    """Starts the worker and has it load the first encoder, so that the first visitor need not wait for that."""
    with contextlib.suppress(ValueError):  # whoever asks next is told
        worker.call("vie_models.app.jobs:warm")
