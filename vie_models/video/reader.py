"""Reads many videos in worker processes. Decoding overlaps with the model, and a decoder that hangs or crashes fails one video.

A new interpreter forks the workers, not the caller (see processes.py). So the caller's script needs no
`if __name__ == "__main__"`. A worker gets paths through a socket and sends clips back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import recv_handle, send_handle
from typing import NoReturn

import numpy as np
import torch

from ..processes import ignore_signals, start_python
from .frames import VideoError
from .sampling import ClipRead, Reading, VideoRead, read_video
from .sources import PathOrURL

Message = ClipRead | VideoRead | VideoError | None
_ALIVE = "alive"
_NO_PIXELS = np.empty(0, np.uint8)


class VideoReader:
    """Reads videos. Iterate over it once, in a `with` statement.

    Yields (number of the path, message). Messages are what `read_video` yields, or the VideoError it raises. The messages of
    one video come in order; with several workers, those of different videos mix. Any other error stops the job: a worker's is
    raised as WorkerBugError.

    Args:
        workers: number of processes. 0 reads in this process, where a decoder that hangs or crashes takes the caller with it.
        threads: number of threads of each decoder (default: 1 in a worker; in this process, the decoder decides).
        time_limit: seconds without progress in a video, after which its worker is stopped and the video fails.
        ahead: largest number of clips that wait for the caller.
    """

    def __init__(
        self,
        paths: Iterable[PathOrURL],
        sampling: Reading,
        *,
        workers: int,
        threads: int | None = None,
        time_limit: float = 300.0,
        ahead: int = 16,
    ) -> None:
        self._jobs = iter(enumerate(paths))
        self._sampling, self._threads, self._time_limit = sampling, threads, time_limit
        self._results: queue.Queue[tuple[int, Message] | BaseException | None] = queue.Queue(ahead)
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._fork_server = _ForkServer() if workers else None
        self._workers: set[_Worker] = set()
        self._paused_since: float | None = None
        self._paused = 0.0  # seconds of earlier pauses
        self._servers = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        for server in self._servers:
            server.start()

    def __iter__(self) -> Iterator[tuple[int, Message]]:
        if self._fork_server is None:
            for number, path in self._jobs:
                try:
                    for message in read_video(path, self._sampling, threads=self._threads):
                        yield number, message
                except VideoError as error:
                    yield number, error
        left = len(self._servers)
        while left:
            item = self._results.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses the workers, to leave all cores to the caller. A worker on one core would delay all the caller's threads."""
        with self._lock:
            stopped = list(self._workers)
            self._paused_since = time.monotonic()
        for worker in stopped:
            worker.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in stopped:
                worker.signal(signal.SIGCONT)
            with self._lock:
                self._paused += time.monotonic() - self._paused_since
                self._paused_since = None

    def clock(self) -> float:
        """Returns the time in seconds, without pauses."""
        with self._lock:
            return (self._paused_since or time.monotonic()) - self._paused

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed.set()
            for worker in self._workers:
                worker.signal(signal.SIGKILL)
        if self._fork_server:
            self._fork_server.close()
        for server in self._servers:
            server.join()

    def _serve(self) -> None:
        """Runs in a thread: has one worker read one video after another, and replaces the worker if it is lost."""
        worker: _Worker | None = None
        try:
            while not self._closed.is_set():
                with self._lock:
                    number, path = next(self._jobs, (None, None))
                if number is None or path is None:
                    break
                worker = worker or self._hire()
                try:
                    for message in worker.read(path, self._time_limit, self.clock):
                        self._put((number, message))
                        if self._closed.is_set():
                            break
                except _LostError as error:
                    self._dismiss(worker)
                    worker = None
                    self._put((number, VideoError(path, str(error))))
            self._put(None)
        except BaseException as error:  # whatever it is, the caller's thread raises it
            self._put(error)
        finally:
            if worker:
                self._dismiss(worker)

    def _hire(self) -> _Worker:
        assert self._fork_server
        worker = self._fork_server.worker(self._sampling, self._threads or 1)
        with self._lock:
            if self._closed.is_set():
                worker.signal(signal.SIGKILL)
            self._workers.add(worker)
        return worker

    def _dismiss(self, worker: _Worker) -> None:
        with self._lock:
            self._workers.discard(worker)
            if not self._closed.is_set():
                worker.signal(signal.SIGKILL)
        worker.close()

    def _put(self, item: tuple[int, Message] | BaseException | None) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                return self._results.put(item, timeout=0.2)


class WorkerBugError(Exception):
    """A worker met an error of this program, not of a video. The text is its traceback."""


class _LostError(Exception):
    """A worker is lost, with the video that it was reading."""


class _ForkServer:
    """A process that imports what workers need, then forks them. So torch is loaded once and its memory is shared."""

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise OSError("worker processes need a POSIX system: pass workers=0 to read videos in this process")
        self._connection, theirs = Pipe()
        no_threads = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it is going to fork
        with theirs:
            handle = theirs.fileno()
            self._process = start_python(fork_workers, handle, pass_fds=[handle], environment=no_threads)
        self._lock = threading.Lock()

    def worker(self, *settings: object) -> _Worker:
        """Starts a worker with these settings for `_serve`."""
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

    def read(self, path: PathOrURL, time_limit: float, clock: Callable[[], float]) -> Iterator[Message]:
        """Yields the messages of one video. _LostError if the process dies, or is silent for `time_limit` s of `clock`."""
        try:
            self._connection.send(path)
            message: Message = None
            while not isinstance(message, (VideoRead, VideoError)):
                began = clock()
                while not self._connection.poll(min(time_limit, 0.5)):
                    if clock() - began >= time_limit:
                        raise _LostError(f"decoding was stopped: no progress for {time_limit:g} s")
                received = self._connection.recv()
                if isinstance(received, WorkerBugError):
                    raise received
                if received == _ALIVE:
                    continue
                message = received
                if isinstance(received, _Header):
                    pixels = np.frombuffer(self._connection.recv_bytes(), received.dtype).reshape(received.shape)
                    message = dataclasses.replace(received.clip, pixels=pixels)
                yield message
        except (EOFError, OSError) as error:
            raise _LostError("decoding crashed: the worker process died") from error

    def signal(self, number: int) -> None:
        """Sends a signal. No other process gets a dead worker's id while the fork server lives, so the signal is safe."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def close(self) -> None:
        self._connection.close()


@dataclasses.dataclass
class _Header:
    """A clip whose pixels follow as a separate message of bytes."""

    clip: ClipRead
    shape: tuple[int, ...]
    dtype: np.dtype


def _serve(connection: Connection) -> NoReturn:
    """Runs a worker: reads videos until the parent dies, which raises EOFError."""
    sampling, threads = connection.recv()
    torch.set_num_threads(1)
    connection.send(os.getpid())
    said = time.monotonic()

    def progress() -> None:
        nonlocal said
        if time.monotonic() - said > 1:
            connection.send(_ALIVE)
            said = time.monotonic()

    while True:
        path = connection.recv()
        try:
            for message in read_video(path, sampling, threads=threads, progress=progress):
                if isinstance(message, ClipRead):
                    pixels = np.ascontiguousarray(message.pixels)
                    connection.send(_Header(dataclasses.replace(message, pixels=_NO_PIXELS), pixels.shape, pixels.dtype))
                    connection.send_bytes(pixels.reshape(-1).data)
                else:
                    connection.send(message)
        except VideoError as error:
            connection.send(error)
        except OSError:  # the parent died
            raise
        except Exception:  # whatever it is, the parent stops with it
            connection.send(WorkerBugError(traceback.format_exc()))


def fork_workers(handle: int) -> None:
    """Runs the fork server: forks a worker for each socket it receives. When the parent dies, it kills the workers and ends."""
    ignore_signals()
    connection = Connection(handle)
    workers = []
    try:
        while True:
            handle = recv_handle(connection)
            worker = os.fork()
            if worker == 0:
                connection.close()
                try:
                    _serve(Connection(handle))
                except (EOFError, OSError):  # the parent died
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
            workers.append(worker)
            os.close(handle)
    except (EOFError, OSError):
        for worker in workers:
            os.kill(worker, signal.SIGKILL)  # a paused worker would not notice that the parent died
