"""The page's server in this process, asked as a browser asks it, and as others would."""

import base64
import io
import json
import os
import signal

import numpy as np
import pytest
import starlette
from starlette.testclient import TestClient

import vie_models as vie
from vie_models.app import server
from vie_models.app.library import Library, Scratch
from vie_models.app.server import Site, build
from vie_models.search import percentile_of

ENCODER = "vie_single_tiny"
ADDRESS = "http://127.0.0.1:7860"
STREAMS = pytest.mark.skipif(
    tuple(map(int, starlette.__version__.split(".")[:2])) < (1, 10),
    reason="the test client of starlette < 1.10 waits for the whole of an answer",
)


@pytest.fixture(scope="module")
def features(video, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    vie.Extractor(vie.create_model(ENCODER, pretrained=True), stride=0.5, workers=0).extract([video], folder)
    return folder


@pytest.fixture(scope="module")
def site(video, features):
    scratch = Scratch()
    yield Site(Library([video, features]), scratch, max_bytes=100_000)
    scratch.close()


@pytest.fixture(scope="module")
def page(site):
    with TestClient(build(site), base_url=ADDRESS) as client:
        yield client


@pytest.fixture(scope="module")
def key(page):
    return page.get("/api/about").json()["videos"][0]["id"]


def events(page, path, **headers):
    """Returns (data of all events, data of the end)."""
    found = []
    with page.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = None
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name == "end":
                return found, json.loads(value)
            elif field == "data":
                found.append(json.loads(value))
    raise AssertionError("the events did not end")


def test_the_page_and_its_files(page):
    html = page.get("/").text
    for name in ("page.css", "main.js", "icon.svg"):
        assert f"/page/{name}" in html
        assert page.get(f"/page/{name}").status_code == 200
    assert "http" not in html.replace("http://www.w3.org", ""), "nothing is loaded from elsewhere"


def test_moments_are_those_of_the_extractor(page, key, video):
    found, end = events(page, f"/api/moments/{key}/{ENCODER}")
    assert end == {"error": None, "stopped": False}
    rows = [event for event in found if "rows" in event]
    values = np.frombuffer(b"".join(base64.b64decode(event["rows"]) for event in rows), np.float32)
    arrays, record = vie.Extractor(vie.create_model(ENCODER, pretrained=True), stride=0.5, workers=0).features(video)
    np.testing.assert_allclose(values.reshape(arrays["embedding"].shape), arrays["embedding"], atol=1e-5)
    np.testing.assert_allclose([second for event in rows for second in event["start"]], arrays["start"])
    assert found[-1]["duration"] == record.duration
    bank = vie.load_memory_bank(ENCODER)["memory_bank"].numpy()
    first, second = np.random.default_rng(1).integers(0, len(bank), (2, 5000))
    dots = (bank[first] * bank[second]).sum(1)
    assert 45 < np.median(percentile_of(dots, np.array(found[0]["random"]))) < 55

    again, _ = events(page, f"/api/moments/{key}/{ENCODER}", **{"Last-Event-ID": "0"})
    assert again == found[1:], "a page that lost the connection goes on where it was"
    with np.load(io.BytesIO(page.get(f"/api/npz/{key}/{ENCODER}").content)) as taken:
        np.testing.assert_array_equal(taken["embedding"].ravel(), values)


def test_what_is_folded_away(page, key):
    layers = page.get(f"/api/layers/{key}/{ENCODER}?at=1").json()
    assert layers["layer"] in layers["names"]
    assert all(base64.b64decode(picture).startswith(b"\xff\xd8") for picture in layers["pictures"])
    one = page.get(f"/api/layers/{key}/{ENCODER}?at=1&layer={layers['layer']}&channel={layers['strongest'][0]}").json()
    assert one["pictures"] != layers["pictures"]
    match = page.get(f"/api/match/{key}/{key}/{ENCODER}?first=1&second=5&pathway=0").json()
    assert match["first"] != match["second"]
    names = page.get(f"/api/names/{key}/{ENCODER}").json()
    assert bool(names["names"]) == (names["agreement"] >= names["least"])
    pictures, end = events(page, f"/api/strip/{key}?count=3")
    assert [picture["at"] for picture in pictures] == [1.0, 3.0, 5.0]
    assert not end["error"]


def test_a_video_is_played_in_parts(page, key, video, monkeypatch):
    part = page.get(f"/video/{key}", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == video.read_bytes()[10:20]
    monkeypatch.setattr(server, "PART", 100)
    part = page.get(f"/video/{key}", headers={"Range": "bytes=7-"})
    assert part.headers["content-range"] == f"bytes 7-106/{video.stat().st_size}"
    clip = page.get(f"/clip/{key}?start=1&seconds=2")
    assert clip.headers["content-type"] == "video/mp4"
    _, record = vie.Extractor(vie.create_model(ENCODER), clips=1, workers=0).features(clip.content)
    assert record.duration == 2.0


def test_search_in_features(page, key, features):
    (listed,) = page.get("/api/about").json()["features"]
    about = page.get(f"/api/features/{listed['id']}").json()
    assert about["model"] == ENCODER
    assert about["videos"][0]["id"] == key
    (file,) = features.glob("*.npz")
    with np.load(file) as arrays:
        query, starts = arrays["embedding"][0], arrays["start"]
    body = {"vector": base64.b64encode(query.tobytes()).decode(), "count": 2}
    hits = page.post(f"/api/search/{listed['id']}", json=body).json()["hits"]
    assert hits[0]["start"] == starts[0]
    assert hits[0]["cosine"] == pytest.approx(1)
    assert hits[0]["video"] == key
    body["avoid"] = [[key, 0, 3]]
    assert page.post(f"/api/search/{listed['id']}", json=body).json()["hits"][0]["start"] >= 3


# --- what others would ask ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example:7860"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "localhost:7860"}, 200),
        ({}, 200),
    ],
)
def test_only_the_page_itself_may_ask(page, headers, status):
    assert page.get("/api/about", headers=headers).status_code == status


def test_a_link_from_elsewhere_opens_the_page(page):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.get("/", headers=headers).status_code == 200
    assert page.get("/api/about", headers=headers).status_code == 403
    assert "frame-ancestors 'none'" in page.get("/").headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/video/../../../../etc/passwd",
        "/video/..%2f..%2f..%2fetc%2fpasswd",
        "/video/%2fetc%2fpasswd",
        "/page/../server.py",
        "/page/..%2fserver.py",
        "/page/%2e%2e/server.py",
        "/clip/0000000000000000?start=0&seconds=1",
        "/api/moments/0000000000000000/vie_single_tiny",
        "/api/moments/{key}/..%2f..%2fetc",
        "/api/names/{key}/no_such_encoder",
    ],
)
def test_nothing_else_has_an_address(page, key, path):
    answer = page.get(path.format(key=key))
    assert answer.status_code == 404
    assert "root:" not in answer.text
    assert "import" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/clip/{key}?start=0&seconds=1e9",
        "/clip/{key}?start=nan&seconds=1",
        "/clip/{key}",
        "/api/strip/{key}?count=100000",
        "/api/layers/{key}/vie_single_tiny?at=-1",
    ],
)
def test_numbers_have_limits(page, key, path):
    answer = page.get(path.format(key=key))
    assert answer.status_code == 400
    assert "must be a number from" in answer.json()["error"]


def test_errors_of_the_worker_are_sentences(page, key):
    answer = page.get(f"/api/layers/{key}/{ENCODER}?at=1&layer=no_such_layer")
    assert answer.status_code == 422
    assert "'no_such_layer'" in answer.json()["error"]


def dropped(site):
    return [path for path in site.scratch.folder.iterdir() if path.name.startswith("drop")]


def test_a_drop(page, site, gray):
    name = "<img src=x onerror=alert(1)>.mp4"
    answer = page.post("/api/drop", params={"name": f"../../{name}"}, content=gray.read_bytes())
    assert answer.json()["name"] == name
    assert page.get(f"/video/{answer.json()['id']}").content == gray.read_bytes()
    assert all(path.stat().st_mode & 0o077 == 0 for path in [site.scratch.folder])


def test_large_bodies_are_refused(page, site):
    before = dropped(site)
    huge = page.post("/api/drop?name=a.mp4", content=b"x", headers={"Content-Length": str(2 * 10**9)})
    assert huge.status_code == 413

    unannounced = (bytes(10_000) for _ in range(20))
    assert page.post("/api/drop?name=a.mp4", content=unannounced).status_code == 413
    assert dropped(site) == before
    (listed,) = site.library.features
    assert page.post(f"/api/search/{listed}", content=bytes(2_000_000)).status_code == 413
    assert page.post(f"/api/search/{listed}", content=b"\xff{").status_code == 400


@pytest.mark.parametrize(
    "content", [b"", b"no video", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"]
)
def test_what_is_no_video_is_said(page, site, content):
    key = page.post("/api/drop?name=a.mp4", content=content).json()["id"]
    found, end = events(page, f"/api/moments/{key}/{ENCODER}")
    assert not any("rows" in event for event in found)
    assert end["error"].endswith(".")
    assert str(site.scratch.folder) not in end["error"]


def test_a_bomb(page):
    """A few kilobytes that claim frames of 60,000 x 60,000."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "png")
    key = page.post("/api/drop?name=a.mp4", content=file.getvalue()[:100_000]).json()["id"]
    _, end = events(page, f"/api/moments/{key}/{ENCODER}")
    assert end["error"]


@STREAMS
def test_a_worker_that_is_killed_is_replaced(page, site, key, monkeypatch):
    site.kept.clear()
    died = []
    pid = site.worker.pid
    with page.stream("GET", f"/api/moments/{key}/{ENCODER}") as answer:
        for line in answer.iter_lines():
            if line.startswith("data") and not died:
                os.kill(pid, signal.SIGKILL)
                died.append(line)
            end = line
            if "died" in end:
                break
    assert "died" in end
    found, last = events(page, f"/api/moments/{key}/{ENCODER}")
    assert not last["error"]
    assert any("rows" in event for event in found)
    assert site.worker.pid != pid


@STREAMS
def test_reading_can_be_stopped(page, site, tmp_path):
    """A video of hours cannot be done before it is stopped."""
    site.kept.clear()
    long = site.library.add(server.PAGE.parent / "example.mp4")
    rows = 0
    with page.stream("GET", f"/api/moments/{long.id}/{ENCODER}") as answer:
        for line in answer.iter_lines():
            rows += '"rows"' in line
            if rows == 1:
                assert page.post(f"/api/stop/{long.id}/{ENCODER}").status_code == 200
            if '"stopped"' in line:
                break
    assert json.loads(line.partition(": ")[2])["stopped"] is True
    with np.load(io.BytesIO(page.get(f"/api/npz/{long.id}/{ENCODER}").content)) as taken:
        assert 4 * rows >= len(taken["embedding"]) > 0, "what was there stays"
