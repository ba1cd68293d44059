"""Loads models with torch.hub, from a local folder and from a zip file like GitHub's."""

import http.server
import subprocess
import sys
import textwrap
import threading
import zipfile
from functools import partial

import pytest
import torch
from support import REFERENCE, ROOT

import vie_models as vie

CHECKPOINT = REFERENCE / "checkpoint-3.tar"


@pytest.fixture(scope="module")
def clip():
    return torch.randn(1, 3, 16, 112, 112, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(clip):
    with torch.inference_mode():
        return vie.create_model("vie_3dresnet", checkpoint_path=CHECKPOINT)(clip)


def test_local(clip, expected):
    model = torch.hub.load(str(ROOT), "vie_3dresnet", source="local", checkpoint_path=CHECKPOINT)
    with torch.inference_mode():
        assert torch.equal(model(clip), expected)


def test_embedder_gives_model_and_transform(expected):
    model, transform = torch.hub.load(str(ROOT), "vie_embedder", source="local", checkpoint_path=CHECKPOINT)
    frames = torch.randint(0, 256, (16, 120, 160, 3), dtype=torch.uint8)
    assert model(transform(frames)[None]).shape == expected.shape


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The name of a "GitHub repository" that a local server offers as a zip file."""
    with zipfile.ZipFile(tmp_path / "main.zip", "w") as file:
        file.writestr("vie_models-main/", "")  # GitHub's first entry, from which torch.hub takes the folder name
        for path in (ROOT / "hubconf.py", *(ROOT / "vie_models").rglob("*.py"), *ROOT.glob("checkpoints/*/README.md")):
            file.write(path, f"vie_models-main/{path.relative_to(ROOT)}")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/main.zip"
        monkeypatch.setattr(torch.hub, "_git_archive_link", lambda *names: url)
        yield "somebody/vie_models:main"
        server.shutdown()


def test_zip_as_github_serves_it(repository, clip, expected):
    trusted = {"trust_repo": True, "skip_validation": True}
    model = torch.hub.load(repository, "vie_3dresnet", checkpoint_path=CHECKPOINT, **trusted)
    with torch.inference_mode():
        assert torch.equal(model(clip), expected)
    entry_points = torch.hub.list(repository, **trusted)
    assert sorted(entry_points) == sorted([*vie.list_models(), "vie_embedder"])
    for name in entry_points:
        text = torch.hub.help(repository, name, **trusted)
        assert "Args:" in text
        assert "Published weights" in text or name == "vie_embedder"


def test_dependencies_are_what_loading_needs():
    """The model and its transform load when all other imports fail, and every declared dependency is imported."""
    code = """
        import importlib.util, sys
        sys.path.insert(0, {root!r})
        import hubconf
        declared = set(hubconf.dependencies)
        others = {{"timm", "av", "tyro", "tensorboard"}}
        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in others:
                    raise ImportError(name + " is not declared in hubconf.dependencies")
        sys.meta_path.insert(0, Refuse())
        model, transform = hubconf.vie_embedder("vie_3dresnet", checkpoint_path={checkpoint!r})
        missing = declared - {{name.split(".")[0] for name in sys.modules}}
        assert not missing, f"declared and not needed: {{missing}}"
    """
    code = textwrap.dedent(code.format(root=str(ROOT), checkpoint=str(CHECKPOINT)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
