"""The page as it is served: what it holds, and what it does with a video, without a browser."""

import json
import re
import subprocess
import sys
import tempfile

import pytest
from support.pages import Page, file_data

from vie_models import cli
from vie_models.cli import exit_codes

gradio = pytest.importorskip("gradio", reason="the page needs gradio")
OUTSIDE = re.compile(r"""(?:src|href|url)\s*[=(:]\s*["']?(?:https?:)?//(?!127\.0\.0\.1|localhost)[^"'\s)]*""")
LABELED = {"file", "dropdown", "radio", "slider", "video", "label"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with Page(tmp_path_factory.mktemp("page")) as page:
        yield page


@pytest.fixture(scope="module")
def components(page):
    return {one["id"]: one for one in page.config()["components"]}


def dependency(page, output, inputs):
    """The function of the page that fills a component of type `output` and takes components of these types."""
    config = page.config()
    types = {one["id"]: one["type"] for one in config["components"]}
    for one in config["dependencies"]:
        if [types[number] for number in one["inputs"]] == inputs and output in [types[number] for number in one["outputs"]]:
            return one
    raise AssertionError(f"no function takes {inputs} and fills {output}")


def test_it_has_three_tabs_and_labels_everything(components):
    labels = {one["props"].get("label") for one in components.values() if one["type"] == "tabitem"}
    assert labels == {"Look", "Search", "Compare"}
    controls = [one for one in components.values() if one["type"] in LABELED]
    assert len(controls) > 10
    assert [one["type"] for one in controls if not one["props"].get("label")] == []


def test_nothing_is_loaded_from_elsewhere(page):
    status, content = page.get("/")
    assert status == 200
    text = content.decode()
    tags = re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", text)
    assert tags
    assert [tag for tag in tags if OUTSIDE.search(tag)] == []
    config = page.config()
    assert OUTSIDE.findall(json.dumps(config["components"])) == []
    assert OUTSIDE.findall(config["css"] or "") == []
    assert "@import" not in (config["css"] or "")
    status, theme = page.get("/theme.css")
    assert status == 200
    assert OUTSIDE.findall(theme.decode()) == []
    assert "@font-face" not in theme.decode(), "the fonts are the visitor's own"


def test_nothing_is_reported_and_no_function_is_public(page):
    config = page.config()
    assert config["analytics_enabled"] is False
    assert {one["api_visibility"] for one in config["dependencies"]} == {"private"}
    assert config["footer_links"] == []


def test_a_video_is_looked_at(page, two_scenes):
    status, path = page.upload("<b>two & scenes.mp4", two_scenes.read_bytes())
    assert status == 200
    function = dependency(page, "state", ["file", "dropdown"])
    answer = page.ask_number(function["id"], [file_data(path), "vie_twopathway_tiny"])
    assert answer["success"], answer
    text = json.dumps(answer["output"]["data"])
    for found in ("Alike in appearance", "Alike in motion", "12.0 s, 96 x 72 pixels", "names it knows", "stand out"):
        assert found in text
    assert "<b>" not in text, "what the sender wrote is not HTML here"
    assert "static.encode_6" in text


def test_an_error_is_a_sentence(page, tmp_path):
    function = dependency(page, "state", ["file", "dropdown"])
    _, path = page.upload("<i>text.mp4", b"no video at all")
    answer = page.ask_number(function["id"], [file_data(path), "vie_single_tiny"])
    assert not answer["success"]
    error = answer["output"]["error"]
    assert "is not a video that this page reads" in error
    assert error.endswith(".")
    assert "<i>" not in error
    assert str(page.folder) not in error
    assert "Traceback" not in "".join(page.lines)
    answer = page.ask_number(function["id"], [None, "vie_single_tiny"])
    assert answer["success"], "no video is no error"


def test_videos_are_compared(page, two_scenes):
    function = dependency(page, "html", ["radio", "file", "file", "dropdown", "dropdown"])
    _, path = page.upload("v.mp4", two_scenes.read_bytes())
    file = file_data(path)
    answer = page.ask_number(function["id"], ["Two videos", file, file, "vie_single_tiny", "vie_single_tiny"])
    assert answer["success"], answer
    assert "| embedding | 1.00 |" in json.dumps(answer["output"]["data"])
    answer = page.ask_number(function["id"], ["Two videos", file, None, "vie_single_tiny", "vie_single_tiny"])
    assert answer["output"]["error"] == "Choose two videos first."


def test_the_server_imports_no_torch():
    """It starts fast, and stays small: videos are read by the worker."""
    code = """
import sys, tempfile
from pathlib import Path
from vie_models.app.page import build_page
from vie_models.app.studio import Studio
from vie_models.app.uploads import Uploads
from vie_models.app.worker import Worker
worker = Worker()
page = build_page(Studio(worker, Uploads(worker, Path(tempfile.mkdtemp()))))
heavy = {"torch", "torchvision", "av", "timm", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
assert worker.starts == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_other_machines_need_a_login(tmp_path, capsys):
    empty, short = tmp_path / "empty", tmp_path / "password"
    empty.write_text("\n")
    short.write_text("secret\n")
    for flags, message in {
        ("--host", "0.0.0.0"): "other machines would see the page at 0.0.0.0: add --user and --password-file",
        ("--user", "me"): "--user and --password-file go together, got a user alone",
        ("--password-file", str(short)): "--user and --password-file go together, got a password alone",
        ("--user", "me", "--password-file", str(empty)): f"{empty} has no password in its first line",
        ("--user", "m:e", "--password-file", str(short)): "the user must not hold a colon",
    }.items():
        assert cli.main(["app", *flags]) == exit_codes.EXIT_USAGE
        assert message in capsys.readouterr().err


def test_a_taken_port_and_a_missing_folder_are_sentences(page, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cli.main(["app", "--port", str(page.port)]) == exit_codes.EXIT_FAILED
    assert f"port {page.port} of 127.0.0.1 cannot be used" in capsys.readouterr().err
    assert cli.main(["app", str(tmp_path / "nothing")]) == exit_codes.EXIT_USAGE
    assert str(tmp_path.name) in capsys.readouterr().err
    for port in ("-1", "65536"):
        assert cli.main(["app", "--port", port]) == exit_codes.EXIT_USAGE
        assert f"port must be from 0 to 65535, got {port}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # nothing is left behind
