"""README and the documentation site: links lead somewhere, snippets and commands run, and the site builds strictly."""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import tyro
from support import REFERENCE, ROOT
from support.servers import HubServer
from support.videos import write_video

import vie_models as vie
from vie_models.cli import COMMANDS, main
from vie_models.models import MODELS, pretrained

README = (ROOT / "README.md").read_text()
PAGES = {"README.md": README, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text()}
PAGES |= {file.relative_to(ROOT / "docs").as_posix(): file.read_text() for file in sorted((ROOT / "docs").rglob("*.md"))}
SMALL = "--steps 2 --ir-steps 1 --lr-boundaries --batch-size 4 --clusters 2 --background 2 --workers 0 --validate-every 2"
SHORT = {"train": SMALL, "finetune": "--epochs 1 --batch-size 4 --workers 0", "eval": "--workers 0"}
SHORT["probe"] = "--workers 0 --clips 1"
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
    assert len(README.splitlines()) <= 125


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(file):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / file).read_text())
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder like a clone of the project, with videos of two classes and a video.mp4; the working folder."""
    for name in ("hubconf.py", "vie_models", "checkpoints", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "path/to").mkdir(parents=True)
    for name in ("clone", "vie_models"):
        (tmp_path / "path/to" / name).symlink_to(ROOT)
    generator = np.random.default_rng(0)
    for i in range(12):
        frames = generator.integers(0, 256, (80, 48, 64, 3), np.uint8)
        path = tmp_path / "videos" / "ab"[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames)
    shutil.copy(tmp_path / "videos" / "a" / "0.mp4", tmp_path / "video.mp4")
    shutil.copytree(tmp_path / "videos" / "b", tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readme_runs(clone, capsys):
    """Its `vie` commands and its Python, in order, each as it stands and by itself."""
    names: dict = {}
    commands = 0
    for kind, text in _parts(README):
        if kind == "python":
            alone: dict = {}
            exec(compile(text, "README.md", "exec"), alone)
            names |= alone
        else:
            words = shlex.split(text, comments=True)
            words = [str(path) for word in words for path in (sorted(clone.glob(word)) if "*" in word else [word])]
            assert main([*words[1:], *shlex.split(SHORT.get(words[1], ""))]) == 0, text
            commands += 1
    assert commands >= 8
    assert names["embedding"].shape == (1, 256)
    assert names["features"].arrays["embedding"].shape[1] == 128
    assert "12" in capsys.readouterr().out


FIRST = 'vie.create_model("vie_twopathway_small", pretrained=True)'
"""How the first snippet of README gets its model."""


@pytest.mark.parametrize("other", re.findall(r"^\| `([^`]+\))` \|", README, re.M))
def test_readme_embeds_with_every_model_that_it_names(other, clone):
    snippet = next(text for kind, text in _parts(README) if FIRST in text)
    names: dict = {}
    exec(compile(snippet.replace(FIRST, other), "README.md", "exec"), names)
    assert names["embedding"].shape == (1, 128)
    assert len(names["maps"]) == 3


WAYS = re.findall(r"`((?:vie|torch\.hub|timm)\.\w+\([^`]+\))`", PAGES["quickstart.md"])
DOWNLOADS = 'vie.create_model("vie_3dresnet", pretrained=True)'


@pytest.mark.parametrize("way", [way for way in WAYS if way != DOWNLOADS])
def test_every_way_of_the_quickstart_loads(way, clone, monkeypatch):
    timm = pytest.importorskip("timm", minversion="1.0", reason="timm 1.0 or newer is not installed")

    folder = ROOT / "checkpoints" / "vie_single_tiny.natural"
    (clone / "folder").symlink_to(folder)
    if "weights.safetensors" in way:
        vie.save_pretrained(vie.create_model("vie_slow"), clone)
        (clone / "model.safetensors").rename(clone / "weights.safetensors")
    importlib.import_module("vie_models.timm")
    importlib.import_module("vie_models.timm")
    monkeypatch.setattr(pretrained, "repository_files", lambda repo, names, **options: [folder / name for name in names])
    assert isinstance(eval(way, {"vie": vie, "torch": torch, "timm": timm}), vie.Encoder)


BEFORE = {
    "index.md": [],
    "quickstart.md": ["extract vie_twopathway_tiny videos/ --layers static.encode_10 -o two_pathways/"],
    "features.md": ["extract vie_3dresnet_tiny videos/ --layers encode_6 encode_10 -o features/"],
    "weights.md": ["convert vie_3dresnet checkpoint-1450000.tar weights/"],
    "fine-tuning.md": [],
    "compare.md": [],
}
"""Pages whose Python runs here, and the commands of theirs that it needs. Other pages have a test of their own."""


@pytest.mark.parametrize("page", BEFORE)
def test_the_python_of_a_page_runs(page, clone):
    (clone / "checkpoint-1450000.tar").symlink_to(REFERENCE / "checkpoint-3.tar")
    for command in BEFORE[page]:
        assert f"    vie {command}" in PAGES[page]
        assert main(shlex.split(command)) == 0
    _python(page)


ELSEWHERE = {"publishing.md", "other-tools.md", "neuroscience.md", "search.md", "README.md"}


def test_all_python_of_the_pages_runs_somewhere():
    assert {page for page, text in PAGES.items() if "```python" in text} == {*BEFORE, *ELSEWHERE}


def test_the_page_about_publishing_runs(clone):
    """With a Hub of ours; what a GitHub release needs is tested in tests/weights/test_publish.py."""
    pytest.importorskip("timm", minversion="1.0", reason="timm 1.0 or newer is not installed")
    code = [text for kind, text in _parts(PAGES["publishing.md"]) if kind == "python" and "github.com" not in text]
    assert len(code) == 4
    vie.save_pretrained(vie.create_model("vie_slow", width=8), clone / "mydata")
    with HubServer() as hub:
        files = {name: (clone / "mydata" / name).read_bytes() for name in ("config.json", "model.safetensors")}
        for revision in ("main", "v1"):
            hub.put("org/vie_slow.mydata", files, revision=revision)
        away = {"HF_ENDPOINT": hub.url, "HF_HOME": str(clone / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment = {**os.environ, **away, "PYTHONPATH": os.pathsep.join(path or str(ROOT) for path in sys.path)}
        (clone / "page.py").write_text("\n".join(code))
        done = subprocess.run([sys.executable, "page.py"], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "main" in hub.refs["org/vie_slow.actions"]


# --- what the pages name is there ---------------------------------------------------------------------------------------


class Parsed(Exception):  # noqa: N818
    """Raised where a command line was understood, in place of running the command."""


def stop(parse):
    def parse_and_stop(*args, **options):
        parse(*args, **options)
        raise Parsed

    return parse_and_stop


def _command_lines(text: str) -> list[str]:
    """Arguments of the lines of code that run `vie`, also by torchrun."""
    text = re.sub(r" *\\\n *", " ", text)
    variables = re.findall(r'^    ([A-Z]+)="(.*)"$', text, re.M)
    lines = re.findall(r"^    (?:vie|torchrun .*-m vie_models\.cli) (.*)$", text, re.M)
    for name, value in variables:
        lines = [line.replace(f"${name}", value) for line in lines]
    return lines


LINES = [(page, line) for page, text in PAGES.items() for line in _command_lines(text) if not line.startswith("--")]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}-{i}" for i, (page, _) in enumerate(LINES)])
def test_a_command_line_is_understood(page, line, monkeypatch):
    monkeypatch.setattr(tyro, "cli", stop(tyro.cli))
    with pytest.raises(Parsed):
        main(shlex.split(line, comments=True))


def test_the_flags_that_pages_name_are_there():
    """Fields of settings in the package, or flags of a program in the repository."""
    known = {"nproc-per-node", "dry-run", "help", "version", "tyro-write-completion", "tyro-print-completion"}
    for folder in ("vie_models", "benchmarks", "reproduce", "examples"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    known.add(node.target.id.replace("_", "-"))
            known |= set(re.findall(r'(?:"--|name=")([\w-]+)"', text))
    for page, text in PAGES.items():
        for code in re.findall(r"`([^`\n]+)`", text) + _command_lines(text):
            unknown = [
                flag for flag in re.findall(r"(?<![\w-])--([a-z][\w-]*)", code) if not {flag, flag.removeprefix("no-")} & known
            ]
            assert not unknown, (page, code)


def test_the_commands_names_and_files_that_pages_name_are_there():
    for page, text in PAGES.items():
        for command in re.findall(r"`vie ([a-z][\w-]*)", text):
            assert command in COMMANDS, (page, command)
        for name in re.findall(r"(?<!/)\bvie\.([A-Za-z_]\w*)", text):
            assert hasattr(vie, name), (page, name)
        for module in re.findall(r"(?:python -m |`)((?:reproduce|benchmarks)(?:\.\w+)*)", text):
            assert importlib.util.find_spec(module), (page, module)
        for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|npz|toml))(?: [^`]*)?`", text):
            assert any((folder / path).exists() for folder in (ROOT, ROOT / "vie_models")), (page, path)


def test_adding_a_model_names_what_an_encoder_must_define():
    section = PAGES["CONTRIBUTING.md"].partition("## Add a model")[2].partition("\n## ")[0]
    words = set(re.findall(r"`(\w+)`", section))
    methods = {name for name, member in vars(vie.Encoder).items() if "raise NotImplementedError" in _source(member)}
    assert methods == {"_stages", "_finish", "_pool"} <= words
    assert {"clip_spec", "num_features", "layer_modules", "_set_head"} <= words
    for name in words - {"num_classes", "encode_1", "encode_10"}:
        files = (ROOT / "vie_models").rglob("*.py")
        assert any(re.search(rf"\b{name}\b", file.read_text()) for file in files), name


def _source(member: object) -> str:
    with contextlib.suppress(TypeError, OSError):
        return inspect.getsource(member)  # type: ignore[arg-type]
    return ""


def test_the_page_about_other_tools_runs(clone):
    pytest.importorskip("timm", minversion="1.0", reason="timm 1.0 or newer is not installed")
    for package in ("onnx", "onnxscript", "onnxruntime"):
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
    assert len(list((clone / "clusters").glob("*.png"))) == 6


def _python(page: str) -> dict:
    """Runs a page's Python from top to bottom. Returns the names that this defined."""
    names: dict = {}
    for kind, text in _parts(PAGES[page]):
        if kind == "python":
            exec(compile(text, page, "exec"), names)
    return names


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
