"""The code is formatted, linted and typed; what it says of itself is so."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

import vie_models as vie


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join)
def test_tool(command):
    pytest.importorskip(command[0])
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_public_names_exist():
    for name in vie.__all__:
        assert getattr(vie, name) is not None
    assert set(vie.__all__) <= set(dir(vie))


def test_imports_point_one_way():
    """models <- weights <- extract <- train, cli; video beside them (CONTRIBUTING.md)."""
    allowed = {
        "models": {"clip_spec", "models"},
        "video": {"clip_spec", "models", "video"},
        "weights": {"clip_spec", "models", "weights"},
        "train": {"clip_spec", "models", "video", "weights", "extract"},
    }
    for room, rooms in allowed.items():
        for file in (ROOT / "vie_models" / room).glob("*.py"):
            found = set(re.findall(r"^\s*from \.\.(\w+)", file.read_text(), re.MULTILINE))
            assert found <= rooms, f"{file} imports {found - rooms}"
    outside = [file for file in (ROOT / "vie_models").rglob("*.py") if file.parent.name != "train" and file.name != "cli.py"]
    assert not [file for file in outside if re.search(r"from \S*\.train\b|import train\b", file.read_text())]
