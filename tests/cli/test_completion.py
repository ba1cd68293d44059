"""The completion scripts, run by the shells themselves."""

import shutil
import subprocess

import pytest

import vie_models as vie
from vie_models import cli
from vie_models.train import RECIPES

PROBES = {
    ("vie", "ex"): ["extract", "export"],
    ("vie", "train", ""): list(RECIPES),
    ("vie", "train", "vie_slow", "--lr"): ["--lr", "--lr-boundaries"],
    ("vie", "extract", "a.mp4", "--format", ""): ["npz", "parquet"],
    ("vie", "program", "--format", ""): ["pt2", "onnx"],
    ("vie", "program", "--pix"): ["--pixels"],
    ("vie", "neuro", ""): ["features", "windows"],
    ("vie", "neuro", "features", "t.csv", "--proj"): ["--project"],
    ("vie", "extract", "a.mp4", "--dry"): ["--dry-run"],
    ("vie", "seg"): ["segment"],
    ("vie", "search", "f", "a.mp4", "--an"): ["--and"],
    ("vie", "search", "f", "a.mp4", "--pathway", ""): ["static", "dynamic"],
    ("vie", "index", "f", "--kind", "h"): ["hnsw"],
    ("vie", "eval", "knn", "vie_single_t"): [
        name for name in [*vie.list_models(), *vie.list_weights()] if name.startswith("vie_single_t")
    ],
    ("vie", "eval", "knn", "vie_single", "--neig"): ["--neighbors"],
    ("vie", "data", "photo-motion", "x", "--lev"): ["--level"],
    ("vie", "--install-completion", "f"): ["fish"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def script(home, monkeypatch, capsys):
    """Writes the script of a shell and returns its path."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))

    def write(shell):
        assert cli.main(["--install-completion", shell]) == 0
        said = capsys.readouterr().out
        path = said.removeprefix("wrote ").partition(";")[0]
        assert path.startswith(str(home))
        assert shell == "fish" or f"add this line to ~/.{shell}rc: source {path}" in said
        return path

    return write


def run(shell, code):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_bash(script):
    code = f"source {script('bash')}\n"
    for words in PROBES:
        quoted = " ".join(f"'{word}'" for word in words)
        code += f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMPREPLY=(); _vie; echo "${{COMPREPLY[*]}}"\n'
    assert run("bash", code) == list(PROBES.values())


def test_fish(script):
    code = f"source {script('fish')}\n"
    for words in PROBES:
        code += f"echo (complete -C '{' '.join(words)}' | string match -v '*/*')\n"
    for found, expected in zip(run("fish", code), PROBES.values(), strict=True):
        assert set(expected) <= set(found)


def test_zsh(script):
    path = script("zsh")
    assert run("zsh", f"source {path}; echo $_comps[vie]") == [["_bash_complete", "-o", "default", "-F", "_vie"]]


def test_an_unknown_shell(monkeypatch, capsys):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert cli.main(["--install-completion"]) == 2
    assert "takes one of bash, zsh, fish, got 'tcsh'" in capsys.readouterr().err
