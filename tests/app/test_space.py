"""The folder of the Hugging Face Space."""

import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request

import pytest
from support import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 or newer reads pyproject.toml")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
SPACE = ROOT / "space"
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def front_matter():
    return yaml.safe_load((SPACE / "README.md").read_text().split("---\n")[1])


def test_the_front_matter_is_what_spaces_take(front_matter):
    for field in ("title", "emoji", "license"):
        assert front_matter[field]
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= COLORS
    assert front_matter["sdk"] == "gradio"
    assert isinstance(front_matter["sdk_version"], str), "6.31 without quotes would be a number"
    assert isinstance(front_matter["python_version"], str)
    assert len(front_matter["short_description"]) <= 60
    assert front_matter["pinned"] in (True, False)
    assert (SPACE / front_matter["app_file"]).is_file()
    assert front_matter["license"] == PROJECT["license"]["text"].lower()


def test_the_versions_are_those_of_the_package(front_matter):
    packaging = pytest.importorskip("packaging.requirements", reason="packaging is not installed")
    (gradio,) = map(packaging.Requirement, PROJECT["optional-dependencies"]["app"])
    assert gradio.name == "gradio"
    assert gradio.specifier.contains(front_matter["sdk_version"])
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["app"]]
    assert (SPACE / "requirements.txt").read_text().splitlines() == wanted
    least = PROJECT["requires-python"].removeprefix(">=")
    assert tuple(map(int, front_matter["python_version"].split("."))) >= tuple(map(int, least.split(".")))


def test_it_serves_the_page_from_a_folder_of_its_own(tmp_path):
    """Beside `vie_models` and `checkpoints`, as its README says, in a process that has no other copy of the package."""
    pytest.importorskip("gradio", reason="the page needs gradio")
    folder = tmp_path / "space"
    shutil.copytree(SPACE, folder)
    for name in ("vie_models", "checkpoints"):
        (folder / name).symlink_to(ROOT / name)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PORT": "0", "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-u", "app.py"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        address = next((found[1] for line in process.stdout if (found := re.search(r"http://[\w.]+:(\d+)", line))), None)
        assert address, "it did not start"
        request = urllib.request.Request(f"http://127.0.0.1:{address}/", headers={"Host": "me-my-space.hf.space"})
        with urllib.request.urlopen(request) as answer:
            assert "What a video encoder sees" in answer.read().decode()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
