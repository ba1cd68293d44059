"""Checks the structure of the package: one-way imports, short files, cheap imports (see CONTRIBUTING.md)."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

import vie_models as vie

PACKAGE = ROOT / "vie_models"
BASE = {"clip_spec", "colors", "devices", "failures", "files", "http", "lazy", "names", "processes", "progress", "version"}
"""Modules that every room may import."""
MAY_IMPORT = {
    "models": set(),
    "weights": {"models"},
    "video": set(),
    "bank": set(),
    "datasets": {"video"},
    "encoders": {"models", "weights"},
    "features": {"models", "weights", "video", "encoders"},
    "evaluate": {"models", "weights", "video", "encoders", "bank", "datasets", "features"},
    "train": {"models", "weights", "video", "encoders", "bank", "datasets", "features", "evaluate"},
    "neuro": {"models", "weights", "video", "encoders", "features"},
    "search": {"models", "weights", "video", "encoders", "bank", "features"},
    "app": {"models", "weights", "video", "encoders", "bank", "datasets", "features", "evaluate", "search"},
    "cli": {
        "models",
        "weights",
        "video",
        "encoders",
        "bank",
        "datasets",
        "features",
        "evaluate",
        "train",
        "neuro",
        "search",
        "app",
    },
}
MAX_LINES = 600
ON_TOP = ("search", "neuro")
"""Rooms that are built on the public names of the others: `from ..room import name`."""
IMPORTERS = {"import_module", "__import__"}


def rooms_imported(file: Path) -> set[str]:
    """Returns the rooms and top-level modules of the package that a file imports, at any depth of its code."""
    place = file.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            path = [*place[: len(place) - node.level + 1], *(node.module or "").split(".")]
            found |= {path[0]} if path[0] else {alias.name for alias in node.names}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found |= {".".join(name.split(".")[1:]) or "the top" for name in names if name.split(".")[0] == "vie_models"}
    return found - {place[0] if place else ""}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        assert rooms_imported(file) <= MAY_IMPORT[room] | BASE, f"{file} imports back up"


@pytest.mark.parametrize("room", ON_TOP)
def test_rooms_on_top_use_public_names(room):
    """What a room declares in `__all__`, so that what they need can stay."""
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2 and (node.module or "").split(".")[0] in MAY_IMPORT:
                public = importlib.import_module(f"vie_models.{node.module}").__all__
                private = {alias.name for alias in node.names} - set(public)
                assert "." not in node.module, f"{file} imports from {node.module}"
                assert not private, f"{file} imports {private} from {node.module}"


def test_no_room_is_imported_by_string():
    """An import that these tests do not see could point back up."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in IMPORTERS:
                names = [value.value for value in node.args if isinstance(value, ast.Constant)]
                assert not [name for name in names if str(name).startswith(("vie_models", "."))], file


def test_every_folder_is_a_room():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(MAY_IMPORT)
    for name in BASE:
        assert rooms_imported(PACKAGE / f"{name}.py") <= BASE


def test_the_page_about_design_has_every_room():
    page = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \| .+? \|(.*)\|$", page, re.M)
    assert {room: set(re.findall(r"\w+", imports)) for room, imports in rows} == MAY_IMPORT
    base = re.search(r"\n\n([^|]*) belong to no room", page)
    assert base is not None
    assert set(re.findall(r"`(\w+)\.py`", base[1])) == BASE


def test_every_file_says_what_it_is_about():
    """The map of the files is what their first lines say (see docs/design.md)."""
    subjects = {file: ast.get_docstring(ast.parse(file.read_text())) for file in PACKAGE.rglob("*.py")}
    assert [str(file) for file, text in subjects.items() if not text] == []
    first = [text.splitlines()[0] for text in subjects.values() if text]
    assert len(first) == len(set(first))


def test_the_folders_beside_the_package_are_named():
    known = subprocess.run(["git", "ls-files", "*/*"], cwd=ROOT, capture_output=True, text=True, check=False)
    if known.returncode:
        pytest.skip("not a clone: git does not know the files")
    folders = {file.partition("/")[0] for file in known.stdout.splitlines()} - {"vie_models"}
    named = set(re.findall(r"^\| `(\w+)/` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.M))
    assert named == {folder for folder in folders if not folder.startswith(".")}


def test_files_are_short():
    lengths = {file: len(file.read_text().splitlines()) for file in PACKAGE.rglob("*.py")}
    assert not {str(file): length for file, length in lengths.items() if length > MAX_LINES}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["--version"],
        ["train", "--help"],
        ["extract", "--help"],
        ["neuro", "features", "--help"],
        ["app", "--help"],
        ["search", "--help"],
    ],
)
def test_the_command_line_imports_torch_only_where_it_is_needed(arguments):
    code = f"""
import sys
import vie_models.cli
try:
    code = vie_models.cli.main({arguments!r})
except SystemExit as end:
    code = end.code
assert code == 0, code
heavy = {{"torch", "torchvision", "av", "timm", "huggingface_hub", "matplotlib", "starlette"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_public_names_exist():
    for name in vie.__all__:
        assert getattr(vie, name) is not None
    assert set(vie.__all__) <= set(dir(vie))
