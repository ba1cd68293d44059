"""Checks format, lint and types of the code, and that all public names exist."""

import subprocess
import sys

import pytest
from support import ROOT

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
