"""The process that decodes videos and runs encoders for the page, as its server sees it: jobs go in, events come out.

Both directions are lines of JSON, so a file that takes the process over still cannot make the server unpickle anything. If the
process dies, hangs or takes too much memory, its jobs end with a sentence, and the next job starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..processes import start_python
from .tasks import main

SILENCE = 120.0
"""Seconds without a word from the process after which it is taken to hang."""
ALONE = 20.0
"""Seconds after which a job that nobody listens to is stopped: the page was closed."""
_LONGEST_LINE = 2**26
_SECRET = re.compile("TOKEN|SECRET|PASSW|KEY|CREDENTIAL", re.IGNORECASE)
DIED = "The process that reads videos died and was replaced; the video may be damaged in a way that no check found."
HUNG = f"Nothing came for {SILENCE:.0f} s, so the process that reads videos was replaced."


class JobError(ValueError):
    """A job failed; the text is a sentence for whoever asked."""


class Job:
    """Something the process does, and what it has said of it so far."""

    def __init__(self, number: int, stop: Callable[[Job], None]) -> None:
        self.number, self.events = number, list[str]()
        self.error: str | None = None
        self.ended = self.stopped = False
        self.listeners = 0
        self._stop, self._news = stop, asyncio.Event()

    def tell(self, event: str) -> None:
        """Adds an event, JSON as text."""
        self.events.append(event)
        self._news.set()

    def end(self, error: str | None = None) -> None:
        """Ends the job."""
        self.ended, self.error = True, error
        self._news.set()

    def stop(self) -> None:
        """Stops the job; what it has said stays."""
        if not self.ended:
            self.stopped = True
            self._stop(self)

    async def follow(self, first: int = 0) -> AsyncIterator[tuple[int, str]]:
        """Yields (number, event), those that came already and those to come. Raises JobError if the job fails."""
        self.listeners += 1
        try:
            while True:
                self._news.clear()
                while first < len(self.events):
                    yield first, self.events[first]
                    first += 1
                if self.ended:
                    break
                await self._news.wait()
            if self.error:
                raise JobError(self.error)
        finally:
            self.listeners -= 1
            if not self.ended:
                asyncio.get_running_loop().call_later(ALONE, self._stop_if_alone)

    def _stop_if_alone(self) -> None:
        if not self.listeners:
            self.stop()

    async def result(self) -> dict[str, Any]:
        """Returns the last event, when the job is done."""
        events = [event async for _, event in self.follow()]
        return json.loads(events[-1])


class Worker:
    """One process for all jobs. It starts with the first, and again after it was lost."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.starts = 0
        """How many processes were started so far."""
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._starting = asyncio.Lock()
        self._number = 0
        self._heard = 0.0

    async def start(self) -> None:
        """Starts the process, unless it runs."""
        async with self._starting:
            if self._process is not None:
                return
            environment = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
            ours, theirs = socket.socketpair()
            with theirs:
                handle = theirs.fileno()
                self._process = start_python(main, handle, pass_fds=[handle], environment=environment)
            reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_LINE)
            self.starts += 1
            self._heard = time.monotonic()
            process = self._process
            self._tasks = [asyncio.create_task(self._listen(process, reader)), asyncio.create_task(self._watch(process))]

    @property
    def pid(self) -> int | None:
        """The process's id, or None if there is none."""
        return self._process.pid if self._process else None

    async def do(self, what: str, **arguments: object) -> Job:
        """Starts a job: a function of tasks.py with its arguments."""
        await self.start()
        self._number += 1
        job = self.jobs[self._number] = Job(self._number, self._cancel)
        self._heard = time.monotonic()
        self._send({"job": job.number, "do": what, "arguments": arguments})
        return job

    def end(self) -> None:
        """Ends the process and all jobs."""
        self._lose("The server was stopped.")

    async def close(self) -> None:
        """Ends the process, and what listens to it."""
        self.end()
        for task in self._tasks:
            task.cancel()

    def _cancel(self, job: Job) -> None:
        self._send({"cancel": job.number})

    def _send(self, message: dict[str, object]) -> None:
        if self._writer and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ValueError, OSError):  # a line too long or no JSON: it is not ours any more
            while line := await reader.readline():
                self._heard = time.monotonic()
                number, _, text = line.decode().partition(" ")
                job = self.jobs.get(int(number))
                if job is None:
                    continue
                if text.startswith('{"end"'):
                    del self.jobs[job.number]
                    job.end(json.loads(text)["end"])
                else:
                    job.tell(text.rstrip())
        if process is self._process:
            self._lose(DIED)

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process is self._process:
            await asyncio.sleep(1)
            if self.jobs and time.monotonic() - self._heard > SILENCE and process is self._process:
                self._lose(HUNG)

    def _lose(self, why: str) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
        if self._writer:
            self._writer.close()
        for job in list(self.jobs.values()):
            job.end(why)
        self.jobs.clear()
