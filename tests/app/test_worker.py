"""Tests the page's worker process: its limits, its errors and its queue."""

import os
import pickle
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from vie_models.app.worker import Worker, WorkerError, resident, sentence
from vie_models.video.frames import VideoError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are limited on POSIX systems")
JOBS = "jobs"


@pytest.fixture(autouse=True)
def _jobs_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def worker():
    with Worker(seconds=60) as worker:
        yield worker


def gone(pid):
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "Z (zombie)" in status.read_text()


def test_runs_functions_in_one_process(worker):
    reports = []
    first = worker.call(f"{JOBS}:double", np.arange(3), progress=lambda part, text: reports.append((part, text)))
    np.testing.assert_array_equal(first["twice"], [0, 2, 4])
    assert reports == [(0.5, "half")]
    second = worker.call(f"{JOBS}:double", array=np.ones((2, 2)))
    assert second["pid"] == first["pid"] == worker.pid
    assert worker.starts == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [("ValueError", "no such layer"), ("KeyError", "in this program failed"), ("MemoryError", "more memory than")],
)
def test_errors_are_sentences_and_the_process_goes_on(worker, kind, text):
    with pytest.raises(WorkerError, match=text):
        worker.call(f"{JOBS}:fail", kind, "no such layer")
    worker.call(f"{JOBS}:wait", 0)
    assert worker.starts == 1


def test_errors_do_not_tell_the_folders_of_this_machine():
    assert sentence(VideoError("/home/me/uploads/a.mp4", "has no frames")) == "a.mp4: has no frames"
    assert "/home" not in sentence(FileNotFoundError(2, "No such file", "/home/me/a.mp4"))


def test_a_process_that_dies_is_replaced(worker):
    with pytest.raises(WorkerError, match="died"):
        worker.call(f"{JOBS}:crash")
    worker.call(f"{JOBS}:wait", 0)
    assert worker.starts == 2


@pytest.mark.parametrize("job", [("wait", 60), ("spin",)])
def test_a_call_that_takes_too_long_is_stopped(job):
    with Worker(seconds=1.0) as worker:
        worker.start()
        pid = worker.pid
        with pytest.raises(WorkerError, match="more than 1 s"):
            worker.call(f"{JOBS}:{job[0]}", *job[1:])
        assert gone(pid)


@pytest.mark.parametrize("piece", [10**6, 2 * 10**9], ids=["little by little", "at once"])
def test_a_call_that_takes_too_much_memory_is_stopped(piece):
    with Worker(memory=4e8, seconds=60) as worker:
        with pytest.raises(WorkerError, match="memory"):
            worker.call(f"{JOBS}:take_memory", 4 * 10**9, piece)
        assert worker.peak < 1.2e9
        worker.call(f"{JOBS}:wait", 0)


def test_a_large_file_can_be_mapped(tmp_path):
    """An index of millions of rows is."""
    file = tmp_path / "rows"
    file.touch()
    os.truncate(file, 15 * 10**8)
    with Worker(memory=2e8, mapped=15e8) as worker:
        assert worker.call(f"{JOBS}:map_file", str(file), 4 * 10**8) == 0
        assert worker.starts == 1
        assert worker.peak < 2e8
    with Worker(memory=2e8) as worker, pytest.raises(WorkerError, match="memory"):
        worker.call(f"{JOBS}:map_file", str(file), 0)


def test_a_call_does_not_suffer_from_what_an_earlier_one_left_behind():
    with Worker(memory=4e8) as worker:
        worker.call(f"{JOBS}:keep_memory", 28 * 10**7)
        assert worker.call(f"{JOBS}:take_memory", 2 * 10**8, 10**7) == 20
        assert worker.starts == 2


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("what came from the worker was unpickled",))


@pytest.mark.parametrize("content", [pickle.dumps(Exploit()), struct.pack(">Q", 2**60), struct.pack(">Q", 2) + b"{}", bytes(9)])
def test_a_process_that_was_taken_over_is_stopped(worker, content):
    with pytest.raises(WorkerError, match="died"):
        worker.call(f"{JOBS}:taken_over", content)
    worker.call(f"{JOBS}:wait", 0)
    assert worker.starts == 2


def test_the_process_gets_no_secrets(worker, monkeypatch):
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "VIE_APP_PASSWORD", "HARMLESS"):
        monkeypatch.setenv(name, "x")
    found = worker.call(f"{JOBS}:environment")
    assert "HARMLESS" in found
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "VIE_APP_PASSWORD"} & set(found)


def test_calls_take_turns_in_order_and_a_full_queue_refuses():
    done, errors = [], []

    def ask(number):
        try:
            worker.call(f"{JOBS}:wait", 0.3)
            done.append(number)
        except WorkerError as error:
            errors.append(str(error))

    with Worker(waiting=3) as worker:
        worker.start()
        threads = []
        for number in range(6):
            threads.append(threading.Thread(target=ask, args=[number]))
            threads[-1].start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
    assert done == [0, 1, 2, 3]
    assert len(errors) == 2
    assert "try again" in errors[0]


def test_the_process_ends_when_its_caller_gives_up_or_ends(worker):
    worker.start()
    pid = worker.pid

    def stop(part, text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.call(f"{JOBS}:double", np.ones(1), progress=stop)
    assert gone(pid)


def test_the_process_ends_when_its_server_is_killed_in_the_middle_of_a_call():
    code = "import threading, time; from vie_models.app.worker import Worker; worker = Worker(); worker.start(); "
    code += f"threading.Thread(target=worker.call, args=['{JOBS}:spin']).start(); time.sleep(1); print(worker.pid, flush=True)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as server:
        pid = int(server.stdout.readline())
        assert not gone(pid)
        server.kill()
    end = time.monotonic() + 30
    while not gone(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert gone(pid)


def test_resident_memory():
    assert resident(os.getpid()) > 10**7
    assert resident(2**22 + 1) == 0
