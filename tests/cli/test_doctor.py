"""`vie doctor`: on a healthy machine, and with one thing after another broken."""

import importlib.metadata
import json

import pytest
from huggingface_hub import constants
from support.servers import LocalServer, send

from vie_models import cli
from vie_models.cli import checks
from vie_models.weights import catalog


class Yes(LocalServer):
    """Answers everything."""

    def answer(self, handler):
        send(handler, 200, {"Content-Length": 0})


@pytest.fixture
def machine(monkeypatch):
    """A machine where everything is there: the network is a local server. Returns the server."""
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"timm": "1.0.9"}.get(name) or version(name))
    with Yes() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        record = catalog.WeightRecord(name="vie_3dresnet.k400", url=f"{server.url}/k400.tar", license="", summary="")
        sets = {name: one for name, one in catalog.CATALOG.items() if not one.url}
        monkeypatch.setattr(catalog, "CATALOG", {**dict(list(sets.items())[:1]), record.name: record})
        yield server


def found(capsys, expected_code):
    """Returns the findings of `vie doctor --json`, by name."""
    assert cli.main(["doctor", "--json"]) == expected_code
    findings = json.loads(capsys.readouterr().out)
    assert all(bool(one["remedy"]) == (one["status"] != "ok") for one in findings)
    return {one["name"]: one for one in findings}


def test_a_healthy_machine(machine, capsys):
    findings = found(capsys, 0)
    assert {one["status"] for one in findings.values()} <= {"ok", "warn"}
    warned = {name for name, one in findings.items() if one["status"] == "warn"}
    assert all("bfloat16" in name or "float16" in name or name == "GPU" for name in warned), warned  # may be so here
    assert {"python", "torch", "torchvision", "timm", "av", "numpy", "huggingface-hub", "pyarrow"} <= set(findings)
    assert findings["vie_3dresnet.k400"]["found"] == f"{machine.url}/k400.tar answers"


def test_what_is_broken_has_a_remedy(machine, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "CHECKS", (checks._packages, checks._caches, checks._network))
    assert {one["status"] for one in found(capsys, 0).values()} == {"ok"}
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"torch": "2.1.0+cu118"}.get(name) or version(name))
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file" / "torch"))  # not even root can write there
    machine.stop()
    findings = found(capsys, 1)
    assert {name for name, one in findings.items() if one["status"] == "bad"} == {
        "torch", "weights cache", "Hub", "vie_3dresnet.k400",
    }  # fmt: skip
    assert findings["torch"]["found"] == "2.1.0+cu118 is older than 2.7"
    assert findings["torch"]["remedy"] == "pip install -U 'torch>=2.7'"
    assert "Not a directory" in findings["weights cache"]["found"]
    assert "TORCH_HOME" in findings["weights cache"]["remedy"]
    assert "refused" in findings["Hub"]["found"]
    assert "HF_HUB_OFFLINE=1" in findings["Hub"]["remedy"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert found(capsys, 1)["network"]["status"] == "ok"
    assert cli.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("bad  torch ") for line in lines)
    assert lines[-1].endswith("2 bad")


def test_a_check_that_crashes_is_a_finding(capsys, monkeypatch):
    def _sky():
        raise OSError("it fell")
        yield

    monkeypatch.setattr(checks, "CHECKS", (_sky, checks._python))
    findings = found(capsys, 1)
    assert findings["sky"]["found"] == "OSError: it fell"
    assert findings["python"]["status"] == "ok"
    missing = checks._package("no-such-package", "1", None)
    assert (missing.status, missing.remedy) == ("bad", "pip install -U 'no-such-package>=1'")
    assert checks._package("no-such-package", "1", "train").status == "ok"
