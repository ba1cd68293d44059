"""Starts the page as a server of its own, and talks to it by raw HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import ROOT

BOUNDARY = "a-line-between-parts"


class Page:
    """A server of the page: `with Page(tmp_path) as page: page.get("/")`.

    Args:
        folder: its temporary files go there, and nowhere else.
        arguments: of `vie app`.
    """

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self.arguments = ("-m", "vie_models.cli", "app", "--port", "0", *arguments)
        self.environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}

    def __enter__(self) -> Page:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the server and waits until it serves."""
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-u", *self.arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        served = threading.Event()
        threading.Thread(target=self._listen, args=[served], daemon=True).start()
        if not served.wait(120) or self.process.poll() is not None:
            raise AssertionError("the page did not start: " + "".join(self.lines))
        self.seconds_to_start = time.monotonic() - began

    def _listen(self, served: threading.Event) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line)
            if match := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(match[1])
                served.set()
        served.set()

    def kill(self) -> None:
        """Ends the server as a power cut would."""
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def uploads(self) -> Path:
        """Its folder of uploads: of the youngest server, if some were killed."""
        return max(self.folder.glob("vie-app-*/uploads"), key=lambda path: path.stat().st_ctime)

    def on_disk(self) -> int:
        """Bytes of all its temporary files."""
        return sum(size_of(path) for path in self.folder.rglob("*"))

    def memory(self) -> dict[str, float]:
        """The largest resident memory that the server and each of its processes have had, in MB."""
        found = {}
        pids = [self.process.pid]
        while pids:
            pid = pids.pop(0)
            try:
                peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                for task in Path(f"/proc/{pid}/task").iterdir():
                    pids += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue
            name = "server" if pid == self.process.pid else f"worker {pid}"
            found[name] = int(peak[1]) / 1024 if peak else 0.0
        return found

    def request(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Sends a request as it is, with nothing tidied in its path, and returns (status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})  # type: ignore[arg-type]
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self.request("GET", path, headers=headers)

    def raw(self, head: str, body: Iterable[bytes] = ()) -> tuple[int, int]:
        """Sends bytes as long as the server takes them, and returns (status, or 0 without an answer; bytes sent)."""
        sent, answer = 0, b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(head.encode("latin-1"))
                for piece in body:
                    connection.sendall(piece)
                    sent += len(piece)
            with contextlib.suppress(OSError):
                answer = connection.recv(4096)
        match = re.match(rb"HTTP/1\.1 (\d+)", answer)
        return (int(match[1]) if match else 0), sent

    def upload(self, name: str, content: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Uploads a file as the page does and returns (status, its path on the server, or the error)."""
        form = form_head(name) + content + form_end()
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        status, answer = self.request("POST", "/gradio_api/upload", form, {**kind, **(headers or {})})
        return status, json.loads(answer)[0] if status == 200 else answer.decode()

    def config(self) -> dict:
        return json.loads(self.get("/config")[1])

    def ask(self, function: str, data: list, headers: dict[str, str] | None = None) -> dict:
        """Has the page run one of its functions, by its API name, and returns the last message about it."""
        number = next(one["id"] for one in self.config()["dependencies"] if one["api_name"] == function)
        return self.ask_number(number, data, headers)

    def ask_number(self, number: int, data: list, headers: dict[str, str] | None = None) -> dict:
        """As `ask`, by the number of the function."""
        session = uuid.uuid4().hex
        question = {"data": data, "fn_index": number, "session_hash": session, "event_data": None, "trigger_id": None}
        kind = {"Content-Type": "application/json", **(headers or {})}
        status, answer = self.request("POST", "/gradio_api/queue/join", json.dumps(question), kind)
        if status != 200:
            return {"msg": "refused", "status": status, "output": {"error": answer.decode()}}
        for message in self.messages(session, headers):
            if message["msg"] in ("process_completed", "unexpected_error", "close_stream"):
                return message
        return {"msg": "no answer"}

    def messages(self, session: str, headers: dict[str, str] | None = None) -> Iterator[dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request("GET", f"/gradio_api/queue/data?session_hash={session}", headers=headers or {})
        answer = connection.getresponse()
        try:
            for line in answer:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        finally:
            connection.close()


def form_head(name: str) -> bytes:
    """What comes before the content of an uploaded file."""
    quoted = name.replace('"', "%22")
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{quoted}"\r\nContent-Type: video/mp4\r\n\r\n'
    ).encode()


def form_end() -> bytes:
    """What comes after it."""
    return f"\r\n--{BOUNDARY}--\r\n".encode()


def file_data(path: str) -> dict[str, object]:
    """A file as Gradio's page names it in a question."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def size_of(path: Path) -> int:
    """Bytes that a file takes on the disk; 0 if it is gone."""
    try:
        return path.lstat().st_blocks * 512 if path.is_file() else 0
    except OSError:
        return 0
