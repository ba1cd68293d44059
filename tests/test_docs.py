"""README and the documentation site: links lead somewhere, snippets and commands run, and the site builds strictly."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT
from support.videos import write_video

import vie_models as vie
from vie_models.cli import main
from vie_models.models import MODELS

README = (ROOT / "README.md").read_text()
SMALL = "--steps 2 --ir-steps 1 --lr-boundaries --batch-size 4 --clusters 2 --background 2 --workers 0 --validate-every 2"
SHORT = {"train": SMALL, "finetune": "--epochs 1 --batch-size 4 --workers 0", "eval": "--workers 0"}
"""Flags that keep a command of the README to a few seconds."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_of_the_folder_is_in_the_site(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert {path for path in pages if not (site / ("" if path.name == "index" else path) / "index.html").exists()} == set()


def test_the_api_pages_have_every_public_name(site):
    text = "".join(path.read_text() for path in (site / "api").rglob("*.html"))
    assert [name for name in vie.__all__ if f'id="vie_models.{name}"' not in text] == []


def test_the_command_line_page_has_every_command(site):
    from vie_models.cli import COMMANDS

    text = (site / "cli" / "index.html").read_text()
    assert [command for command in COMMANDS if f">vie {command}<" not in text] == []


def test_the_site_needs_no_other(site):
    """No script, style sheet, font or picture comes from elsewhere."""
    for page in site.rglob("*.html"):
        loaded = re.findall(r'(?:<script[^>]* src|<img[^>]* src|<link rel="stylesheet" href)="([^"]+)"', page.read_text())
        assert not [address for address in loaded if re.match(r"https?:|//", address)], page


def test_the_lengths_of_clips_are_those_of_the_specs():
    rows = re.findall(r"^\| `(vie_\w+)` \| .* \| ([\d.]+ s|1 frame) \|$", (ROOT / "docs/index.md").read_text(), re.MULTILINE)
    assert len(rows) == 8
    for name, length in rows:
        spec = MODELS[name].clip_spec
        assert length == ("1 frame" if spec.length == 1 else f"{spec.seconds:g} s"), name


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(file):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / file).read_text())
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder like a clone of the project, with videos of two classes and a video.mp4; the working folder."""
    for name in ("hubconf.py", "vie_models", "checkpoints", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    generator = np.random.default_rng(0)
    for i in range(12):
        frames = generator.integers(0, 256, (80, 48, 64, 3), np.uint8)
        path = tmp_path / "videos" / "ab"[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames)
    shutil.copy(tmp_path / "videos" / "a" / "0.mp4", tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readme_runs(clone, capsys):
    """Its `vie` commands and its Python, in order, each as it stands."""
    namespace: dict = {}
    commands = 0
    for kind, text in _parts(README):
        if kind == "python":
            exec(compile(text, "README.md", "exec"), namespace)
        else:
            words = shlex.split(text, comments=True)
            words = [str(path) for word in words for path in (sorted(clone.glob(word)) if "*" in word else [word])]
            assert main([*words[1:], *shlex.split(SHORT.get(words[1], ""))]) == 0, text
            commands += 1
    assert commands >= 8
    assert namespace["embedding"].shape == (1, 128)
    assert namespace["features"].arrays["embedding"].shape[1] == 128
    assert "12" in capsys.readouterr().out


def test_the_page_about_other_tools_runs(clone):
    for package in ("timm", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    namespace = _run("other-tools.md")
    assert namespace["output"].shape == (1, 128)
    assert namespace["gradient"].abs().sum() > 0


def test_the_page_about_neuroscience_runs(clone, capsys):
    for package in ("netCDF4", "xarray", "sklearn", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    (clone / "table.csv").write_text("stimulus,onset,duration\nvideo.mp4,0,2\nvideos/b/1.mp4,,\n")
    namespace: dict = {}
    for kind, text in _parts((ROOT / "docs" / "neuroscience.md").read_text()):
        if kind == "python":
            exec(compile(text, "neuroscience.md", "exec"), namespace)
            example = ["examples/ridge_regression.py", "features.nc", "--layer", "encode_7", "--picture", "scores.png"]
            subprocess.run([sys.executable, *example], check=True)
        else:
            assert main(shlex.split(text)[1:]) == 0, text
    assert namespace["features"].dims == ("presentation", "neuroid", "time_bin")
    assert "embedding                1      640      320" in capsys.readouterr().out
    assert (clone / "scores.png").stat().st_size > 1000


def test_the_page_about_search_runs(clone):
    namespace = _run("search.md")
    assert len(namespace["hits"]) == 10
    assert (clone / "found.png").exists()
    assert (clone / "segments.png").exists()
    assert len(list((clone / "clusters").glob("*.png"))) == 4


def _run(page: str) -> dict:
    """Runs a page's commands, and then its Python. Returns the names that this defined."""
    namespace: dict = {}
    for kind, text in sorted(_parts((ROOT / "docs" / page).read_text()), key=lambda part: part[0] == "python"):
        if kind == "python":
            exec(compile(text, page, "exec"), namespace)
        else:
            assert main(shlex.split(text)[1:]) == 0, text
    return namespace


def _parts(text: str) -> list[tuple[str, str]]:
    """("python", code) and ("", command line), in order."""
    found = re.finditer(r"^```python\n(.*?)^```|^    (vie [^\n]*)", text.replace("\\\n", " "), re.M | re.S)
    return [("python", part[1]) if part[1] else ("", part[2]) for part in found]
