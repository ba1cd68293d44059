"""Videos at http addresses, from a local server that breaks off, stalls, refuses or cannot send parts."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from support.servers import LocalServer, send
from support.videos import write_list, write_video

import vie_models as vie
from vie_models import cli, http
from vie_models.features.inputs import find_inputs
from vie_models.video import remote
from vie_models.video.decode import VideoFile
from vie_models.video.remote import url_name

SPEC = vie.create_model("vie_single_tiny").clip_spec
CUT = 100_000


class VideoServer(LocalServer):
    """Serves `files` by name; `fault` spoils the answers about what lies after CUT bytes."""

    def __init__(self, files):
        super().__init__()
        self.files, self.fault, self.asked = files, "", 0

    def answer(self, handler):
        self.asked += 1
        name = handler.path.partition("?")[0].rpartition("/")[2]
        if name == "page.mp4":
            return send(handler, 200, {"Content-Type": "text/html", "Content-Length": 2}, b"hi")
        if name not in self.files:
            return send(handler, 404, {"Content-Length": 0})
        content = self.files[name]
        span = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(span[1]) if span and self.fault != "no parts" else 0
        headers = {"Content-Length": len(content) - start, "Content-Type": "video/mp4"}
        if self.fault != "no parts":
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        status = 200 if self.fault == "no parts" else 206
        middle = CUT - 10 <= start < len(content) - 20_000
        if self.fault == "breaks" and middle:
            return send(handler, 503, {"Content-Length": 0})
        stop = CUT if self.fault and self.fault != "no parts" and start < CUT else len(content)
        send(handler, status, headers, content[start:stop])
        if self.fault == "stalls" and stop == CUT:
            time.sleep(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    frames = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3), np.uint8)
    for suffix in ("mp4", "mkv", "ts"):
        write_video(folder / f"a.{suffix}", frames)
    return folder


@pytest.fixture
def server(folder, monkeypatch):
    monkeypatch.setattr(http, "TIMEOUT", 0.5)
    monkeypatch.setattr(http, "BACKOFF", 0.01)
    with VideoServer({file.name: file.read_bytes() for file in folder.iterdir()}) as server:
        yield server


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("fault", ["", "no parts", "breaks once"])
def test_an_address_gives_what_the_file_gives(server, folder, suffix, fault):
    server.fault = fault  # "breaks once": the rest comes with the next request
    for start in (0.0, 1.9):
        clip = vie.load_clip(f"{server.url}/a.{suffix}?token=1", SPEC, start=start)
        assert (clip == vie.load_clip(folder / f"a.{suffix}", SPEC, start=start)).all()
    with VideoFile(f"{server.url}/a.{suffix}", 25) as there, VideoFile(folder / f"a.{suffix}", 25) as here:
        for video in (there, here):
            video.recount()
        assert (there.num_frames, there.damage) == (here.num_frames, here.damage) == (60, None)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_connection_that_stays_broken_is_not_the_end_of_the_video(server, suffix):
    server.fault = "breaks"
    with pytest.raises(vie.VideoError, match=r"a\..* cannot be read: the server answers 503 .*\(3 attempts\)"):
        with VideoFile(f"{server.url}/a.{suffix}", 25) as video:
            video.recount()


def test_a_server_that_falls_silent(server):
    server.fault = "stalls"
    began = time.monotonic()
    with pytest.raises(vie.VideoError, match=r"the server is silent for 0\.5 s \(3 attempts\)"):
        with VideoFile(f"{server.url}/a.mkv", 25) as video:
            video.recount()
    assert time.monotonic() - began < 10


def test_what_is_not_there(server):
    for name, reason in {"b.mp4": "the server answers 404", "page.mp4": "is a web page, not a video"}.items():
        server.asked = 0
        with pytest.raises(vie.VideoError, match=reason):
            vie.load_clip(f"{server.url}/{name}", SPEC)
        assert server.asked == 1
    server.stop()
    with pytest.raises(vie.VideoError, match=r"refused \(3 attempts\)"):
        vie.load_clip(f"{server.url}/a.mp4", SPEC)
    with pytest.raises(vie.VideoError, match=r"^http://host/a\.mp4: has a user name"):
        vie.load_clip("http://me:secret@host/a.mp4", SPEC)
    with pytest.raises(FileNotFoundError, match="pass an address as a string"):
        vie.load_clip(Path("https://host/a.mp4"), SPEC)


def test_addresses_are_extracted_beside_files(server, folder, tmp_path, capsys):
    """In the arguments and in a list; a second run reads nothing again; failed ones are tried again."""
    listed = write_list(tmp_path / "list.txt", [f"{server.url}/deep/a.mkv", f"{server.url}/b.mp4?x=../../y"])
    command = [
        "extract",
        "vie_single_tiny",
        f"{server.url}/a.mp4",
        str(folder / "a.ts"),
        "--list",
        str(listed),
        "-o",
        str(tmp_path / "out"),
    ]
    command += ["--workers", "0"]
    assert cli.main(command) == 3
    said = capsys.readouterr()
    assert "3 ok, 0 damaged, 1 failed" in said.out
    assert "404" in said.err
    host = server.url.removeprefix("http://").replace(":", "_")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.npz")}
    digests = {url: url_name(url) for url in (f"{server.url}/a.mp4", f"{server.url}/deep/a.mkv")}
    assert files == {"a.ts.npz", *(f"{name}.npz" for name in digests.values())}
    assert all(name.startswith(f"{host}/") for name in digests.values())
    features = vie.load_features(tmp_path / "out", ["embedding"])
    model = vie.create_model("vie_single_tiny", pretrained=True)
    for url, name in digests.items():
        ours = features.arrays["embedding"][features.table["name"] == name]
        expected = vie.Extractor(model, clips=5).features(folder / url.rpartition("/")[2])[0]["embedding"]
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    server.asked = 0
    assert cli.main(command) == 3
    assert server.asked == 1  # b.mp4


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/videos/a.mp4", "example.org/videos/a.mp4"),
        ("https://example.org/videos/a.mp4#t=3", "example.org/videos/a.mp4"),
        ("https://example.org/a.mp4?key=1", r"example.org/a\.[0-9a-f]{8}\.mp4"),
        ("https://example.org/../../etc/passwd", r"example.org/_/_/etc/passwd\.[0-9a-f]{8}"),
        ("https://example.org/%2e%2e/%2fetc/a%00b", r"example.org/_/_/etc/a_b\.[0-9a-f]{8}"),
        ("https://example.org", r"example.org/_\.[0-9a-f]{8}"),
    ],
)
def test_names_of_addresses_are_safe(url, name):
    found = url_name(url)
    assert re.fullmatch(name, found), found
    assert ".." not in found.split("/")
    assert not found.startswith(("/", "."))
    assert find_inputs([url], None, remote.tempfile.gettempdir())[0].path == url


def test_names_of_addresses_differ():
    urls = ["http://h/a b.mp4", "http://h/a_b.mp4", "http://h/a%20b.mp4?x", "http://h/a_b.mp4?x=1", "http://h/a_b.mp4?x=2"]
    assert len({url_name(url) for url in urls}) == len(urls)
    assert max(map(len, url_name("http://h/" + "a" * 300 + ".mp4?" + "b" * 300).split("/"))) <= 120
