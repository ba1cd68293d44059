"""One file over HTTP(S): with a progress bar, resumed where it broke off, whole or not at all."""

from __future__ import annotations

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from .errors import WeightsError

CHUNK = 1 << 20
ATTEMPTS = 5
TIMEOUT = 30.0  # seconds without a byte
BACKOFF = 0.5  # seconds before the second attempt, doubled for each further one


def download(url: str, path: Path, *, progress: bool = True) -> None:
    """Fetches `url` to `path`.

    What has arrived is kept in `path` + ".part" over broken connections, failures and restarts, and resumed if the server
    still has the same file (its ETag says). An attempt that gained bytes does not count against the limit of attempts.

    Raises WeightsError: the server has no such file, sends a web page, keeps breaking off, or the disk is full.
    """
    part, tag = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.etag")
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _continue(url, part, tag, progress):
                part.replace(path)
                tag.unlink(missing_ok=True)
                return
            reason = "the connection closed early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # nothing beyond what we have, or another file: begin again
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise WeightsError(
                    f"{url} answered {error.code} {error.reason}: the file is not there (any more); "
                    "see whether a newer vie_models knows another source, or pass a copy as checkpoint_path="
                ) from error
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures >= ATTEMPTS:
            raise WeightsError(
                f"cannot fetch {url}: {reason} ({failures} attempts without a new byte; {after} bytes are kept in {part} and "
                "resumed next time). Check the network and proxy settings, or pass a copy as checkpoint_path="
            )
        time.sleep(BACKOFF * 2 ** max(failures - 1, 0))


def _continue(url: str, part: Path, tag: Path, progress: bool) -> bool:
    """Appends to `part` what the server sends until it stops; True once the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    etag = tag.read_text() if have and tag.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "vie_models"})
    if etag:  # without a validator a half file cannot be trusted to be half of the same file
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", etag)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise WeightsError(
                f"{url} answered with a web page instead of a file: a login, proxy or error page? Open it in a browser, "
                "or pass a copy as checkpoint_path="
            )
        resumed = response.status == 206
        if resumed:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != have:
                part.unlink()
                return False
            total: int | None = int(span[2])
        else:
            have, total = 0, int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        new_etag = response.headers.get("ETag", "")
        tag.write_text("" if new_etag.startswith("W/") else new_etag)  # If-Range wants a strong one
        free = shutil.disk_usage(part.parent).free
        if total is not None and free < total - have:
            raise _disk_full(part, total - have, free)
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], disable=not progress)
        with part.open("ab" if resumed else "wb") as file, bar:
            while chunk := response.read(CHUNK):
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise _disk_full(
                        part, (total or have + len(chunk)) - have, shutil.disk_usage(part.parent).free, error
                    ) from error
                have += len(chunk)
                bar.update(len(chunk))
    return total is None or have == total


def _disk_full(part: Path, needed: int, free: int, error: OSError | None = None) -> WeightsError:
    what = f": {error.strerror}" if error else ""
    return WeightsError(
        f"cannot write {part}{what}: {needed / 1e6:.1f} MB are still to come, {free / 1e6:.1f} MB are free. Make room, or "
        "choose another place with TORCH_HOME or cache_dir=; what has arrived is kept and resumed"
    )
