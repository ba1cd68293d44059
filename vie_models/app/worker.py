"""A process that decodes videos and runs encoders for the page, within limits of memory and time.

Videos of strangers are decoded there, and not in the server: a file that makes the decoder crash, hang or take all memory costs
its own request an error in words, and the process is replaced. A file that takes the process over still cannot make the server
unpickle anything: see wire.py. The worker is not a jail, though. It runs as the same user as the server, without the variables
of its environment that look like secrets.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import queue
import re
import select
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from ..processes import start_python
from . import wire

Progress = Callable[[float, str], object]
"""Is called with the part that is done, 0 to 1, and what is being done."""
_CHECK = 0.02  # seconds between two looks at the worker's memory
_SPARE = 2**30  # bytes that RLIMIT_DATA allows above the limit, for what is reserved but not touched: stacks, arenas
_SECRET = re.compile("TOKEN|SECRET|PASSW|KEY|CREDENTIAL", re.IGNORECASE)


class WorkerError(ValueError):
    """The worker could not do what was asked; the text is a sentence for the person who asked."""


class Worker:
    """One process that runs functions, one after the other. It starts with the first call, and again after it was stopped.

    Args:
        memory: bytes of memory that the process may use; files that it maps do not count. Above that it is stopped.
        mapped: bytes of files that it may map besides, as the rows of an index are.
        seconds: time that a call may take, without the time that it waits for its turn.
        waiting: calls that may wait for their turn; a further one is refused.
    """

    def __init__(self, *, memory: float = 1.5e9, mapped: float = 0.0, seconds: float = 120.0, waiting: int = 16) -> None:
        if not memory >= 2e8:
            raise ValueError(f"memory must be >= 2e8 bytes, and 1e9 to run encoders, got {memory:g}")
        if not seconds > 0:
            raise ValueError(f"seconds must be > 0, got {seconds}")
        self.memory, self.mapped, self.seconds, self.waiting = memory, mapped, seconds, waiting
        self.starts = 0
        """How many processes were started so far."""
        self.peak = 0
        """Largest memory of any of them that was seen, in bytes."""
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._turns: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    def call(self, function: str, *args: object, progress: Progress | None = None, **kwargs: object) -> Any:
        """Runs a function in the process and returns its result.

        Args:
            function: its module and name, as in "package.module:function".
            args: plain data and arrays, as wire.py says; so is the result.
            progress: where the function reports to. It gets a `progress` of its own to call, if this is given.

        Raises:
            WorkerError: the function raised an error, or took too much memory or time, or its process died, or too many wait.
        """
        with self._turn():
            try:
                self._start()
                return self._run(
                    {"function": function, "args": args, "kwargs": kwargs, "progress": progress is not None}, progress
                )
            except WorkerError:
                raise
            except BaseException:  # the caller was stopped, or its progress failed: the process is in the middle of something
                self._stop()
                raise

    def start(self) -> None:
        """Starts the process, if it does not run, to save the first call the time."""
        with self._turn():
            self._start()

    def close(self) -> None:
        """Stops the process."""
        self._stop()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's id, or None if there is none."""
        return self._process.pid if self._process else None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits for those who came before."""
        mine = threading.Event()
        with self._lock:
            if len(self._turns) > self.waiting:
                raise WorkerError(f"{self.waiting} requests are waiting already; try again in a minute")
            self._turns.append(mine)
            self._turns[0].set()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._turns.popleft()
                if self._turns:
                    self._turns[0].set()

    def _start(self) -> None:
        if self._process and self._process.poll() is None:
            return
        self._stop()
        self._socket, theirs = socket.socketpair()
        environment = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        with theirs:
            handle = theirs.fileno()
            self._process = start_python(serve, handle, self.memory + self.mapped, pass_fds=[handle], environment=environment)
        self.starts += 1

    def _stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        if self._socket:
            self._socket.close()
        self._process = self._socket = None

    def _run(self, job: dict[str, object], progress: Progress | None) -> Any:
        assert self._socket
        end = time.monotonic() + self.seconds
        pieces = wire.encode(job)
        try:
            self._socket.settimeout(min(self.seconds, 1e6))
            for piece in pieces:
                self._socket.sendall(piece)
            while "result" not in (answer := self._answer(end)):
                if "error" in answer:
                    raise WorkerError(str(answer["error"]))
                if progress:
                    progress(min(max(float(answer["part"]), 0.0), 1.0), str(answer["text"]))
            return answer["result"]
        except (BrokenPipeError, ConnectionError, TimeoutError) as error:
            raise self._died() from error
        finally:
            if self._memory() > 0.7 * self.memory:  # the next call should not be stopped for what this one left behind
                self._stop()

    def _answer(self, end: float) -> dict[str, Any]:
        try:
            answer = wire.decode(lambda size: self._receive(size, end))
            if isinstance(answer, dict) and any(keys <= set(answer) for keys in ({"result"}, {"error"}, {"part", "text"})):
                return answer
        except (wire.WireError, EOFError, OSError) as error:
            raise self._died() from error
        raise self._died()

    def _died(self) -> WorkerError:
        self._stop()
        return WorkerError("the process that reads videos died; the video may be damaged in a way that no check found")

    def _receive(self, size: int, end: float) -> bytearray:
        """Returns exactly so many bytes from the process, as long as it keeps to its limits."""
        assert self._socket
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            while not select.select([self._socket], [], [], _CHECK)[0]:
                self._check(end)
            self._check(end)
            count = self._socket.recv_into(view)
            if not count:
                raise EOFError("the process ended")
            view = view[count:]
        return buffer

    def _check(self, end: float) -> None:
        if self._memory() > self.memory:
            self._stop()
            raise WorkerError(
                f"this needs more than {self.memory / 1e6:.0f} MB of memory, and was stopped; try a video with smaller frames"
            )
        if time.monotonic() > end:
            self._stop()
            raise WorkerError(f"this took more than {self.seconds:g} s, and was stopped; try a shorter video")

    def _memory(self) -> int:
        """Returns the process's memory in bytes, and 0 if it has none or the system does not tell."""
        if self._process is None:
            return 0
        memory = resident(self._process.pid)
        self.peak = max(self.peak, memory)
        return memory


def resident(pid: int) -> int:
    """Returns the resident memory of a process in bytes, or 0 if that cannot be found; on Linux without mapped files."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return sum(int(lines[key].split()[0]) for key in ("RssAnon", "RssShmem")) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        pass
    if sys.platform.startswith("linux"):
        return 0
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return int(told) * 1024 if told.isdigit() else 0


def serve(handle: int, memory: float) -> NoReturn:
    """Runs in the process: does what the server asks through a socket, until the server is gone.

    `memory` are the bytes that it may reserve; files mapped for changes that stay in memory count.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):  # elsewhere the limit counts other things
        limit = int(memory) + _SPARE
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    connection = socket.socket(fileno=handle)
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        """Ends the process as soon as the server is gone, even in the middle of a job."""
        try:
            while True:
                jobs.put(wire.decode(lambda size: _exactly(connection, size)))
        finally:
            os._exit(0)

    def send(value: object) -> None:
        for piece in wire.encode(value):
            connection.sendall(piece)

    threading.Thread(target=listen, daemon=True).start()
    said = 0.0

    def progress(part: float, text: str = "") -> None:
        nonlocal said
        if time.monotonic() - said > 0.1 or part >= 1:
            said = time.monotonic()
            send({"part": float(part), "text": text})

    while True:
        job = jobs.get()
        try:
            module, _, name = job["function"].partition(":")
            reports = {"progress": progress} if job["progress"] else {}
            send({"result": getattr(importlib.import_module(module), name)(*job["args"], **job["kwargs"], **reports)})
        except Exception as error:  # whatever it is, whoever asked is told; the process goes on
            if not isinstance(error, (ValueError, OSError)):
                traceback.print_exc()
            send({"error": sentence(error)})
        finally:
            del job
            _give_back()


def _give_back() -> None:
    """Gives memory that is not used any more back to the system, which the C library does not do by itself."""
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def sentence(error: Exception) -> str:
    """Returns the text of an error for a person who should not see this machine's folders."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "this needs more memory than is allowed, and was stopped; try a video with smaller frames"
    if isinstance(error, (ValueError, OSError)):
        path = getattr(error, "path", None) or getattr(error, "filename", None)
        text = str(error)
        return text.replace(str(path), Path(str(path)).name) if path else text
    return f"something in this program failed, not in the video: {type(error).__name__}: {error}"


def _exactly(connection: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError("the server ended")
        view = view[count:]
    return buffer
