"""The server as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support import ROOT

from vie_models.app import serve


def start(folder, *named):
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-u", "-m", "vie_models.cli", "app", "--port", "0", "--no-browser", *map(str, named)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    return process, re.search(r"http://127\.0\.0\.1:\d+", line)[0]


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_a_killed_server_leaves_nothing_behind(tmp_path, gray):
    process, address = start(tmp_path, gray)
    with urllib.request.urlopen(f"{address}/api/about") as answer:
        assert b"gray.mp4" in answer.read()
    (worker,) = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while Path(f"/proc/{worker}/stat").exists() and " Z " not in Path(f"/proc/{worker}/stat").read_text():
        time.sleep(0.01)
    assert len(list(tmp_path.glob("vie-app-*"))) == 1
    again, address = start(tmp_path, gray)
    assert len(list(tmp_path.glob("vie-app-*"))) == 1
    with urllib.request.urlopen(f"{address}/api/about"):
        pass  # it answers, so it listens to signals: a shell's background jobs ignore SIGINT until it does
    again.send_signal(signal.SIGINT)
    again.wait()
    assert list(tmp_path.glob("vie-app-*")) == []


def test_the_server_imports_no_torch():
    code = "import sys, vie_models.app.server, vie_models.app.serve; assert not {'torch', 'av', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_port_that_is_taken(gray):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="--port 0"):
            serve([gray], port=taken.getsockname()[1], browser=False)
    with pytest.raises(ValueError, match="65535, got 70000"):
        serve([gray], port=70000, browser=False)
