"""Attacks a real server of the page by raw HTTP. What its memory and the disk came to is printed at the end."""

import base64
import concurrent.futures
import contextlib
import json
import re
import sys
import time
import urllib.parse
from pathlib import Path

import pytest
from support.hostile import PLAYLISTS, claiming_y4m, large_frames_avi, slow_video
from support.pages import BOUNDARY, Page, file_data, form_head, size_of
from support.servers import LocalServer, send
from support.videos import gray_levels, write_video

pytest.importorskip("gradio", reason="the page needs gradio")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")

SECRET = "a secret outside of all folders"
MOST = 20  # MB that the server of most tests takes


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "secret.mp4").write_text(SECRET)
    with Page(folder, "--max-megabytes", str(MOST)) as page:
        yield page
        report("all tests but those with servers of their own", page)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A good video, as bytes."""
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", gray_levels(60)).read_bytes()


def report(what, page):
    memory = page.memory()
    print(f"\n{what}: peak memory {', '.join(f'{name} {peak:.0f} MB' for name, peak in memory.items())}; "
          f"on disk {page.on_disk() / 1e6:.1f} MB")  # fmt: skip
    assert sum(memory.values()) < 2e9 / 2**20


def looked_at(page, path, headers=None):
    """What the page answers when it is asked to look at a file: the functions that take a file do this."""
    config = page.config() if headers is None else json.loads(page.request("GET", "/config", headers=headers)[1])
    files = {one["id"] for one in config["components"] if one["type"] == "file"}
    function = next(one for one in config["dependencies"] if files & set(one["inputs"]))
    values = {one["id"]: one["props"].get("value") for one in config["components"]}
    data = [file_data(path) if number in files else values[number] for number in function["inputs"]]
    return page.ask_number(function["id"], data, headers)


def error_of(answer):
    return (answer.get("output") or {}).get("error") or ""


def test_a_good_video_is_looked_at_and_played(page, video):
    status, path = page.upload("good.mp4", video)
    assert status == 200
    answer = looked_at(page, path)
    assert answer["success"], answer
    status, content = page.get(f"/gradio_api/file={urllib.parse.quote(path)}")
    assert (status, content) == (200, video)
    assert page.get(f"/gradio_api/file={urllib.parse.quote(path)}", Range="bytes=0-9") == (206, video[:10])


# --- files that do harm --------------------------------------------------------------------------------------------------


def test_harmful_videos_are_refused_by_sentence(page, tmp_path):
    made = {
        "huge.y4m": (claiming_y4m(tmp_path / "huge.y4m", 100_000), "not a video that this page reads|pixels are read"),
        "liar.avi": (large_frames_avi(tmp_path / "liar.avi", 16_000), "damaged|no frame|memory|pixels"),
        "long.mkv": (slow_video(tmp_path / "long.mkv", 30, 86_400), None),
    }
    for name, text in PLAYLISTS.items():
        (tmp_path / name).write_text(text.format(target=page.folder / "secret.mp4"))
        made[name] = (tmp_path / name, "not a video that this page reads")
    for name, (file, reason) in made.items():
        status, path = page.upload(name, file.read_bytes())
        assert status == 200
        answer = looked_at(page, path)
        if reason is None:
            assert answer["success"], answer
            assert "nly its first 10 min are looked at" in json.dumps(answer)
        else:
            assert not answer["success"]
            assert re.search(reason, error_of(answer), re.IGNORECASE), answer
            assert str(page.folder) not in error_of(answer)


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>.mp4",
        '"><script>alert(1)</script>.mp4',
        "[a](javascript:alert(1)) **b** $x$ {{c}}.mp4",
        "../../../x.mp4",
        "..\\..\\x.mp4",
        "/etc/cron.d/x.mp4",
        "a/../../b/../../../x.mp4",
        "." * 30 + "/" + "x" * 300 + ".mp4",
        "con\r\nX-Injected: 1.mp4",
        "nul\0.mp4",
        "%2e%2e%2fx.mp4",
        "\u202e4pm.exe",
        ".mp4",
        "",
    ],
)
def test_names_of_files_do_no_harm(page, video, name):
    before = {path for path in page.folder.rglob("*") if not path.is_relative_to(page.uploads)}
    status, path = page.upload(name, video)
    if status == 200:
        assert Path(path).resolve().is_relative_to(page.uploads)
        shown = json.dumps(looked_at(page, path))
        for harm in ("<img src=x", "<script>alert", "](javascript:"):
            assert harm not in shown
    else:
        assert 400 <= status < 500
    assert {path for path in page.folder.rglob("*") if not path.is_relative_to(page.uploads)} == before
    assert page.get("/")[0] == 200


# --- files that are none of the page's business ------------------------------------------------------------------------------


def test_nothing_outside_of_the_folders_is_served(page, video):
    status, path = page.upload("inside.mp4", video)
    assert status == 200
    uploads, secret = page.uploads, page.folder / "secret.mp4"
    own = Path(path).parent  # where files stay: what lies beside these folders is removed when an upload ends
    (own / "link.mp4").symlink_to(secret)
    (own / "links").symlink_to(page.folder)
    up = f"{uploads}/../../secret.mp4"
    names = [
        "/etc/passwd", "../../../../../../etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd", "%252e%252e%252fetc%252fpasswd",
        "/proc/self/environ", "/proc/self/cmdline", "/proc/self/root/etc/passwd", "/dev/zero", "file:///etc/passwd",
        "//etc/passwd", "\\\\etc\\passwd", "~/.bashrc", ".", "", "/", f"{uploads}", f"{uploads}/", str(secret), up,
        up.replace("..", "%2e%2e"), up.replace("/..", "%2f.."), f"{uploads}/./..//../secret.mp4", f"{own}/link.mp4",
        f"{own}/links/secret.mp4", f"{uploads}%00/../../secret.mp4", f"{secret}%00.mp4", "pyproject.toml", "./README.md",
        "http://127.0.0.1:1/x.mp4", "https://example.com/x.mp4", "http:/127.0.0.1/x.mp4", "ftp://127.0.0.1/x.mp4",
        f"{path}/../../../../secret.mp4", "x" * 5000,
    ]  # fmt: skip
    for name in names:
        for route in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/gradio_api/proxy="):
            status, content = page.get(route + name.replace("\\", "%5c"))
            assert status in (400, 403, 404), (route, name, status)
            assert SECRET.encode() not in content
            assert b"root:" not in content
    for route in ("/assets/", "/static/", "/svelte/", "/theme.css/", "/gradio_api/custom_component/x/client/y/"):
        for name in (
            "../../../../../../../../etc/passwd",
            "..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
            "%2fetc%2fpasswd",
        ):
            status, content = page.get(route + name)
            assert status >= 400
            assert b"root:" not in content
    for link in ("link.mp4", "links"):
        (own / link).unlink()


def test_the_page_does_not_look_at_files_that_were_not_uploaded(page):
    asked = []

    class Listener(LocalServer):
        def answer(self, handler):
            asked.append(handler.path)
            send(handler, 200, {"Content-Length": 0})

    with Listener() as server:
        for path in [
            "/etc/passwd", str(page.folder / "secret.mp4"), f"{page.uploads}/../../secret.mp4", f"{server.url}/x.mp4",
            f"{server.url.upper()}/x.mp4", "https://example.com/x.mp4", "//example.com/x.mp4", f" {server.url}/x.mp4", "", "\0",
        ]:  # fmt: skip
            answer = looked_at(page, path)
            assert not answer.get("success"), (path, answer)
            assert SECRET not in json.dumps(answer)
    assert not asked
    assert not [path for path in page.uploads.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_only_the_routes_of_the_page_exist(page):
    for method, path in [
        ("GET", "/monitoring"), ("GET", "/monitoring/summary"), ("POST", "/gradio_api/component_server"),
        ("GET", "/gradio_api/runs"),
        ("POST", "/gradio_api/process_recording"), ("POST", "/gradio_api/vibe-edit"), ("GET", "/gradio_api/vibe-code"),
        ("GET", "/gradio_api/dev/reload"), ("POST", "/gradio_api/run-history/connect"), ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/openapi.json"), ("POST", "/gradio_api/run/predict"), ("POST", "/gradio_api/stream/x"),
        ("GET", "/gradio_api/proxy=https://example.com"), ("GET", "/docs"), ("PUT", "/"), ("DELETE", "/gradio_api/upload"),
        ("OPTIONS", "/"), ("TRACE", "/"), ("GET", "/gradio_api/mcp/sse"),
    ]:  # fmt: skip
        status, _ = page.request(method, path, b"{}" if method == "POST" else None)
        assert status in (404, 405), (method, path, status)


def test_other_pages_in_the_browser_cannot_ask(page, video):
    """A page of a stranger sends forms to 127.0.0.1, or has its own name lead there."""
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    files = sum(1 for path in page.uploads.rglob("*") if path.is_file())
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"http://127.0.0.1:{page.port + 1}"}):
        assert page.request("POST", "/gradio_api/upload", form_head("x.mp4") + video, {**kind, **headers})[0] == 403
        assert page.request("POST", "/gradio_api/queue/join", b"{}", headers)[0] == 403
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1.evil.example", "", "["):
        assert page.request("GET", "/config", headers={"Host": host})[0] in (400, 403)
    assert sum(1 for path in page.uploads.rglob("*") if path.is_file()) == files
    assert page.get("/config", Host=f"localhost:{page.port}")[0] == 200


def test_strange_questions_are_refused(page):
    kind = {"Content-Type": "application/json"}
    for body, most in [
        (b"[" * 100_000, 400), (b"{", 400), (b"\xff\xfe", 400), (b" " * 5 * 2**20, 413), (b'{"data":[]}', 422), (b"", 400),
        (b'{"data": [' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"]}", 500),
    ]:  # fmt: skip
        status, _ = page.request("POST", "/gradio_api/queue/join", body, kind)
        assert 400 <= status <= most
    assert page.get("/")[0] == 200


# --- size ----------------------------------------------------------------------------------------------------------------


def zeros(count, piece=2**20):
    """Pieces of zeros, `count` bytes in all."""
    for begin in range(0, count, piece):
        yield bytes(min(piece, count - begin))


def chunked(pieces):
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


def too_large(page, size, announced):
    """Uploads too much, with its length announced or in chunks. Returns (status, bytes sent, most bytes on disk)."""
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n"
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    largest = before = page.on_disk()

    def pieces():
        nonlocal largest
        yield form_head("large.mp4")
        for i, piece in enumerate(zeros(size)):
            if i % 8 == 0:
                largest = max(largest, page.on_disk())
            yield piece

    if announced:
        status, sent = page.raw(head + f"Content-Length: {size + 200}\r\n\r\n", pieces())
    else:
        status, sent = page.raw(head + "Transfer-Encoding: chunked\r\n\r\n", chunked(pieces()))
    return status, sent, max(largest, page.on_disk()) - before


def left_behind(page):
    """Bytes of uploads that broke off, once the server had the time to notice."""
    end = time.monotonic() + 10
    while (left := sum(size_of(path) for path in page.uploads.iterdir() if path.is_file())) and (time.monotonic() < end):
        time.sleep(0.1)
    return left


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_an_upload_that_is_too_large_is_refused(page, announced):
    status, sent, largest = too_large(page, 3 * MOST * 10**6, announced)
    assert status in (0, 413)  # 0: the connection was closed while we still wrote
    assert largest < 2 * MOST * 10**6
    assert sent < 3 * MOST * 10**6 or status == 413
    assert left_behind(page) == 0


def test_many_files_in_one_upload_count_together(page):
    part = form_head("x.mp4") + bytes(6 * 10**6) + b"\r\n"
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    with contextlib.suppress(OSError):
        assert page.request("POST", "/gradio_api/upload", part * 5, kind)[0] == 413
    assert left_behind(page) == 0


def test_an_upload_that_breaks_off_leaves_nothing(page):
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nContent-Length: 10000000\r\n"
    head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    import socket

    with socket.create_connection(("127.0.0.1", page.port)) as connection:
        connection.sendall(head.encode() + form_head("half.mp4") + bytes(5 * 10**6))
        time.sleep(0.5)
    assert left_behind(page) == 0


def test_a_server_that_is_killed_during_an_upload_starts_again_without_the_rest(tmp_path, video):
    import socket

    with Page(tmp_path, "--max-megabytes", str(MOST)) as page:
        first = page.uploads
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nContent-Length: 10000000\r\n"
        head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", page.port)) as connection:
            connection.sendall(head.encode() + form_head("half.mp4") + bytes(5 * 10**6))
            time.sleep(0.5)
            assert size_of(max(first.iterdir(), key=size_of)) > 10**6
            page.kill()
        page.start()
        assert not first.exists()
        status, path = page.upload("again.mp4", video)
        assert status == 200
        assert looked_at(page, path)["success"]
        report("killed during an upload, and started again", page)


# --- login ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locked")
    (folder / "password").write_text("pass:word\n")
    with Page(folder, "--user", "me", "--password-file", str(folder / "password")) as page:
        yield page


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_without_a_login_every_route_refuses(locked, video):
    import gradio.routes

    me = basic("me", "pass:word")
    status, path = locked.upload("mine.mp4", video, me)
    assert status == 200
    routes = set(re.findall(r'@(?:app|router)\.(get|post|head)\(\s*f?"([^"]+)"', Path(gradio.routes.__file__).read_text()))
    assert len(routes) > 50
    asked = [(method.upper(), prefix + re.sub(r"\{\w+(:path)?\}", "x", route)) for method, route in routes
             for prefix in ("", "/gradio_api")]  # fmt: skip
    asked += [("GET", f"/gradio_api/file={path}"), ("GET", "/"), ("POST", "/login"), ("GET", "/nothing")]
    for method, route in asked:
        for headers in ({}, {"Cookie": "access-token=x"}, {"Authorization": "Bearer x"}):
            if headers and route != "/config":
                continue
            status, content = locked.request(method, route, b"{}" if method == "POST" else None, headers)
            assert status == 401, (method, route, status)
            assert not content or content == b"This page needs a user and a password."
    assert locked.upload("theirs.mp4", video)[0] == 401
    assert locked.request("GET", "/", headers=me)[0] == 200
    assert locked.request("GET", f"/gradio_api/file={path}", headers=me) == (200, video)
    assert looked_at(locked, path, me)["success"]


@pytest.mark.parametrize(
    "user_and_password", [("me", "pass"), ("me", ""), ("", ""), ("you", "pass:word"), ("me:pass", "word ")]
)
def test_a_wrong_login_is_refused(locked, user_and_password):
    assert locked.request("GET", "/", headers=basic(*user_and_password))[0] == 401


def test_other_machines_need_a_login(tmp_path):
    from vie_models.app.guard import check_reach
    from vie_models.app.serve import serve

    for host in ("0.0.0.0", "::", "192.168.0.1"):
        with pytest.raises(ValueError, match="add --user and --password-file"):
            serve(host=host)
    with pytest.raises(ValueError, match="must not be empty"):
        check_reach("0.0.0.0", ("me", ""))


# --- much -------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_an_upload_of_2_gb(tmp_path, announced):
    with Page(tmp_path) as page:
        status, sent, largest = too_large(page, 2 * 10**9, announced)
        print(f"\n2 GB, {'announced' if announced else 'chunked'}: status {status}, {sent / 1e6:.0f} MB sent, "
              f"at most {largest / 1e6:.0f} MB on disk, {left_behind(page) / 1e6:.0f} MB left")  # fmt: skip
        assert status in (0, 413)
        assert largest < 6e8
        assert left_behind(page) == 0
        report("2 GB", page)


@pytest.mark.slow
def test_50_uploads_at_once(tmp_path, clips_folder):
    content = (clips_folder / "one-by-one-person-detection.mp4").read_bytes()
    with Page(tmp_path) as page:

        def send_one(number):
            # no two are the same file
            status, path = page.upload(f"{number}.mp4", content + b"\0\0\0\x0cfree" + number.to_bytes(4, "big"))
            return status, looked_at(page, path) if status == 200 else {}

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(send_one, range(50)))
        statuses = [status for status, _ in answers]
        done = sum(bool(answer.get("success")) for _, answer in answers)
        reasons = {error_of(answer)[:90] for _, answer in answers if not answer.get("success")}
        print(f"\n50 uploads at once: {statuses.count(200)} arrived, {done} looked at, others: {reasons}")
        assert statuses.count(200) == 50
        assert done >= 4
        assert all("try again" in reason or "full" in reason for reason in reasons), reasons
        report("50 uploads", page)
        assert page.get("/")[0] == 200


@pytest.mark.slow
def test_an_upload_that_never_ends(tmp_path):
    with Page(tmp_path, "--max-megabytes", "50") as page:
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n"
        head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nTransfer-Encoding: chunked\r\n\r\n"

        def slowly():
            yield from chunked([form_head("endless.mkv")])
            while True:
                yield from chunked([b"x"])
                time.sleep(1)
                if time.monotonic() > end:
                    return

        end = time.monotonic() + 20
        began = time.monotonic()
        status, _ = page.raw(head, slowly())  # stops sending, and keeps the connection
        print(f"\nan upload that never ends: status {status} after {time.monotonic() - began:.0f} s")
        assert status == 408
        assert left_behind(page) == 0
