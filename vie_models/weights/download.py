"""Downloads one file over HTTP(S), with a progress bar. Resumes broken downloads and delivers only complete files."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tqdm import tqdm

from .. import http
from ..models import WeightsError

CHUNK = 1 << 20
ATTEMPTS = 5


def download(url: str, path: Path, *, progress: bool = True) -> None:
    """Downloads `url` to `path`.

    Received bytes stay in `path` + ".part" after broken connections, failures and restarts. The download resumes if the server
    still has the same file (same ETag). An attempt that got further than any before does not count against the limit.

    Raises:
        WeightsError: the server has no such file, sends a web page or keeps breaking off, or the disk is full or read-only.
    """
    part, tag = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.etag")
    path.parent.mkdir(parents=True, exist_ok=True)
    failures, reached = 0, _size(part)
    while True:
        try:
            if _continue(url, part, tag, progress):
                part.replace(path)
                tag.unlink(missing_ok=True)
                return
            reason = "the connection closed early"
        except http.FAILURES as error:  # of the network: disk errors are WeightsErrors already
            reason, again = http.failure(error)
            if getattr(error, "code", None) == 416:  # no bytes after ours, or another file: start again
                part.unlink(missing_ok=True)
            elif not again:
                raise WeightsError(
                    f"{url}: {reason}. Try a newer vie_models, which may know another address, or pass a copy as "
                    "checkpoint_path="
                ) from error
        have = _size(part)
        failures, reached = (0, have) if have > reached else (failures + 1, reached)
        if failures >= ATTEMPTS:
            raise WeightsError(
                f"cannot download {url}: {reason} ({failures} attempts without a new byte; {have} bytes are kept in {part} for "
                "the next try). Check the network and proxy settings, or pass a copy as checkpoint_path="
            )
        time.sleep(http.BACKOFF * 2 ** max(failures - 1, 0))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _continue(url: str, part: Path, tag: Path, progress: bool) -> bool:
    """Appends the server's bytes to `part` until they stop. Returns True once the file is complete."""
    have = _size(part)
    etag = tag.read_text() if have and tag.exists() else ""
    try:  # without an ETag, `part` may belong to another file
        answer = http.ask(url, have, etag) if etag else http.ask(url)
    except http.WebPageError:
        raise WeightsError(
            f"{url} answered with a web page instead of a file: a login, proxy or error page? Open it in a browser, "
            "or pass a copy as checkpoint_path="
        ) from None
    except http.OtherRangeError:
        part.unlink()
        return False
    with answer.response as response:
        if answer.start and answer.etag not in ("", etag):  # not the rest of what we have
            part.unlink()
            return False
        if not answer.start:
            part.unlink(missing_ok=True)  # before the tag changes: a tag never describes another file's bytes
        have, total = answer.start, answer.size
        if total is not None and shutil.disk_usage(part.parent).free < total - have:
            raise _cannot_write(part, total - have)
        try:
            if not have:
                tag.write_text("" if answer.etag.startswith("W/") else answer.etag)  # If-Range needs a strong ETag
            file = part.open("ab", buffering=0)
        except OSError as error:
            raise _cannot_write(part, total and total - have, error) from error
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], disable=not progress)
        with file, bar:
            while chunk := response.read(CHUNK):
                rest = memoryview(chunk)
                while rest:  # a disk that fills up accepts only some bytes
                    try:
                        written = file.write(rest)
                    except OSError as error:
                        raise _cannot_write(part, total and total - have, error) from error
                    rest = rest[written:]
                    have += written
                    bar.update(written)
    return total is None or have == total


def _cannot_write(part: Path, needed: int | None, error: OSError | None = None) -> WeightsError:
    what = f": {error.strerror}" if error else ""
    needs = "" if needed is None else f"{needed / 1e6:.1f} MB are still to come, "
    return WeightsError(
        f"cannot write {part}{what}: {needs}{shutil.disk_usage(part.parent).free / 1e6:.1f} MB are free. Make room, or choose "
        "another place with TORCH_HOME or cache_dir=; the part received is kept and will be resumed"
    )
