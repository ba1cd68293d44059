"""Many videos, read by processes of their own, so that decoding overlaps with the model and a decoder that hangs or crashes is
one video's failure.

Workers are forked by a fresh Python process (`nurse`), not by the caller: its threads and its
accelerator are left alone, and its script needs no `if __name__ == "__main__"`. A worker gets paths through a socket and sends
back clips.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path

import numpy as np
import torch

from .frames import VideoError
from .sampling import ClipRead, Sampling, VideoRead, read_video

Message = ClipRead | VideoRead | VideoError | None
_NO_PIXELS = np.empty(0, np.uint8)
_NICENESS = 10  # workers beside a model on the same cores fill the gaps it leaves


def read_videos(
    paths: Iterable[Path],
    sampling: Sampling,
    *,
    workers: int,
    threads: int | None = None,
    time_limit: float = 300.0,
    ahead: int = 16,
    nice: bool = False,
) -> Iterator[tuple[int, Message]]:
    """(number of the path, message) for each video: what `read_video` yields, or the VideoError it raises.

    The messages of a video are in order; videos overlap where there are several workers.

    Args:
        workers: processes; 0: read here, where a decoder that hangs or crashes takes the caller with it.
        threads: of each decoder (default: 1 in a worker, as many as it finds useful here).
        time_limit: seconds that a worker may take for the next clip of a video before it is stopped and the video given up.
        ahead: how many clips may wait to be taken.
        nice: whether workers leave the cores to the caller when it wants them.
    """
    if workers == 0:
        for number, path in enumerate(paths):
            try:
                for message in read_video(path, sampling, threads=threads):
                    yield number, message
            except VideoError as error:
                yield number, error
        return
    nursery = _Nursery()
    jobs = iter(enumerate(paths))
    results: queue.Queue[tuple[int, Message] | BaseException | None] = queue.Queue(ahead)
    lock, stop = threading.Lock(), threading.Event()
    running: list[_Worker] = []

    def put(item: tuple[int, Message] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return results.put(item, timeout=0.2)
            except queue.Full:
                continue

    def serve() -> None:
        worker: _Worker | None = None
        try:
            while not stop.is_set():
                with lock:
                    number, path = next(jobs, (None, None))
                if number is None or path is None:
                    break
                if worker is None:
                    worker = nursery.worker(sampling, threads or 1, _NICENESS if nice else 0)
                    running.append(worker)
                try:
                    for message in worker.read(path, time_limit):
                        put((number, message))
                except _LostError as error:
                    worker.kill()
                    running.remove(worker)
                    worker = None
                    put((number, VideoError(path, str(error))))
            put(None)
        except BaseException as error:  # whatever it is, the caller's thread raises it
            put(error)

    servers = [threading.Thread(target=serve, daemon=True) for _ in range(workers)]
    for server in servers:
        server.start()
    try:
        left = len(servers)
        while left:
            item = results.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stop.set()
        for worker in running.copy():
            worker.kill()
        nursery.close()
        for server in servers:
            server.join()


class _LostError(Exception):
    """A worker is gone, with the video that it had."""


class _Nursery:
    """A process that has imported what workers need, and forks them: torch is loaded once, and its memory shared."""

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise OSError("worker processes need a POSIX system: pass workers=0 to read videos in this process")
        self._connection, theirs = Pipe()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",  # no threads of its own: it is going to fork
        }
        command = [sys.executable, "-c", f"from {__name__} import nurse; nurse({theirs.fileno()})"]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL)
        theirs.close()
        self._lock = threading.Lock()

    def worker(self, *settings: object) -> _Worker:
        """A new worker with these settings for `_serve`."""
        ours, theirs = Pipe()
        try:
            with self._lock, theirs:
                send_handle(self._connection, theirs.fileno(), self._process.pid)
            ours.send(settings)
            return _Worker(ours, pid=ours.recv())
        except (EOFError, OSError) as error:
            raise OSError("a worker process could not start; pass workers=0 to read videos in this process") from error

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, connection: Connection, pid: int) -> None:
        self._connection, self._pid = connection, pid

    def read(self, path: Path, time_limit: float) -> Iterator[Message]:
        """The messages of one video. _LostError, and the process is gone, where it dies or takes too long."""
        try:
            self._connection.send(path)
            message: Message = None
            while not isinstance(message, (VideoRead, VideoError)):
                if not self._connection.poll(time_limit):
                    raise _LostError(f"decoding was stopped: it took more than {time_limit:g} s for the next clip")
                message = self._connection.recv()
                if isinstance(message, _Header):
                    pixels = np.frombuffer(self._connection.recv_bytes(), np.uint8).reshape(message.shape)
                    message = dataclasses.replace(message.clip, pixels=pixels)
                yield message
        except (EOFError, OSError) as error:
            raise _LostError("decoding crashed: the worker process is gone") from error

    def kill(self) -> None:
        """Ends the process, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


@dataclasses.dataclass
class _Header:
    """A clip whose pixels follow as bytes."""

    clip: ClipRead
    shape: tuple[int, ...]


def _serve(connection: Connection) -> None:
    """A worker: reads videos until the parent is gone."""
    sampling, threads, niceness = connection.recv()
    os.nice(niceness)
    torch.set_num_threads(1)
    connection.send(os.getpid())
    while True:
        path = connection.recv()
        try:
            for message in read_video(path, sampling, threads=threads):
                if isinstance(message, ClipRead):
                    pixels = np.ascontiguousarray(message.pixels)
                    connection.send(_Header(dataclasses.replace(message, pixels=_NO_PIXELS), pixels.shape))
                    connection.send_bytes(pixels.reshape(-1).data)
                else:
                    connection.send(message)
        except VideoError as error:
            connection.send(error)


def nurse(handle: int) -> None:
    """The nursery: forks a worker for every socket that it is sent, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # and the dead need no burial
    connection = Connection(handle)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            handle = recv_handle(connection)
            if os.fork() == 0:
                connection.close()
                _serve(Connection(handle))
            os.close(handle)
