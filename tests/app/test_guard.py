"""Tests the guard by itself, before a server that writes down what reaches it."""

import asyncio
import os

import pytest

from vie_models.app import guard
from vie_models.app.guard import Guard
from vie_models.app.uploads import Uploads

HOST = (b"host", b"127.0.0.1:7860")


@pytest.fixture
def uploads(tmp_path):
    return Uploads(None, tmp_path, max_bytes=1e6)


class Server:
    """Takes requests whole, and says 200."""

    def __init__(self):
        self.running = self.most_running = self.received = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope, receive, send):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            more = True
            while more:
                message = await receive()
                self.received += len(message.get("body", b""))
                more = message.get("more_body", False)
            await self.go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"yes"})
        finally:
            self.running -= 1


async def ask(guarded, method="POST", path="/gradio_api/upload", pieces=(b"x",), headers=(HOST,)):
    """Returns the status of an answer."""
    sent = []
    to_come = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    to_come.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        message = to_come.pop(0)
        if message["body"] == b"wait":
            await asyncio.sleep(60)
        return message

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    await guarded(scope, receive, send)
    assert all(message["type"] != "http.response.start" for message in sent[1:])
    return sent[0]["status"]


def test_a_full_disk_refuses_uploads(uploads):
    async def run():
        server = Server()
        guarded = Guard(server, uploads=uploads, most_disk=3e6)
        assert await ask(guarded, headers=[HOST, (b"content-length", b"900000")]) == 200
        (uploads.folder / "a").mkdir()
        (uploads.folder / "a" / "v.mp4").write_bytes(os.urandom(2_500_000))
        assert await ask(guarded, headers=[HOST, (b"content-length", b"900000")]) == 507
        assert await ask(guarded) == 507  # of unknown size: it may become the largest
        assert await ask(guarded, headers=[HOST, (b"content-length", b"1000")]) == 200

    asyncio.run(run())


def test_a_disk_that_is_almost_full_refuses_uploads(uploads, monkeypatch):
    monkeypatch.setattr(guard, "SPARE_DISK", 2**60)
    assert asyncio.run(ask(Guard(Server(), uploads=uploads))) == 507


@pytest.mark.parametrize("length", [b"1100000", b"9" * 30, b"-1", b"x", b"1e3"])
def test_lengths_that_are_too_large_are_refused_before_a_byte_is_read(uploads, length):
    async def run():
        server = Server()
        assert await ask(Guard(server, uploads=uploads), headers=[HOST, (b"content-length", length)]) == 413
        assert server.most_running == 0

    asyncio.run(run())


def test_bytes_are_counted_where_no_length_is_given(uploads):
    async def run():
        server = Server()
        assert await ask(Guard(server, uploads=uploads), pieces=[bytes(400_000)] * 5) == 413
        assert server.received <= 1_100_000

    asyncio.run(run())


def test_few_uploads_come_in_at_once_and_the_others_wait(uploads):
    async def run():
        server = Server()
        server.go_on.clear()
        guarded = Guard(server, uploads=uploads)
        asked = [asyncio.create_task(ask(guarded)) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert server.running == guard.MOST_UPLOADS
        server.go_on.set()
        assert await asyncio.gather(*asked) == [200] * 20
        assert server.most_running == guard.MOST_UPLOADS

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_silence_ends_a_request(uploads, monkeypatch, path):
    monkeypatch.setattr(guard, "SILENCE", 0.05)
    assert asyncio.run(ask(Guard(Server(), uploads=uploads), path=path, pieces=[b"x", b"wait"])) == 408


def test_a_slow_upload_ends(uploads, monkeypatch):
    monkeypatch.setattr(guard, "LONGEST", 0.05)
    assert asyncio.run(ask(Guard(Server(), uploads=uploads), pieces=[b"x", b"wait"])) == 408


def test_what_an_upload_leaves_is_removed_and_complete_ones_stay(uploads):
    class Leaving(Server):
        async def __call__(self, scope, receive, send):
            (uploads.folder / "tmp123").write_bytes(b"half")
            raise ConnectionError

    (uploads.folder / "hash").mkdir()
    (uploads.folder / "hash" / "v.mp4").touch()
    with pytest.raises(ConnectionError):
        asyncio.run(ask(Guard(Leaving(), uploads=uploads)))
    assert [path.name for path in uploads.folder.iterdir()] == ["hash"]
    assert (uploads.folder / "hash" / "v.mp4").exists()


def test_web_sockets_are_not_answered(uploads):
    async def run():
        server = Server()
        await Guard(server, uploads=uploads)({"type": "websocket", "path": "/", "headers": []}, None, None)
        assert server.most_running == 0

    asyncio.run(run())


def test_gradio_may_ask_once_whether_it_serves(uploads):
    async def run():
        guarded = Guard(Server(), uploads=uploads, login=("me", "word"))
        started = {"method": "GET", "path": "/gradio_api/startup-events"}
        assert await ask(guarded, **started) == 200
        assert await ask(guarded, **started) == 401
        assert await ask(guarded, "HEAD", "/") == 401

    asyncio.run(run())


def test_behind_a_proxy_any_name_is_answered(uploads):
    async def run():
        evil = [(b"host", b"some.space"), (b"origin", b"https://hub.example")]
        assert await ask(Guard(Server(), uploads=uploads, hosts=None), headers=evil) == 200
        assert await ask(Guard(Server(), uploads=uploads), headers=evil) == 403

    asyncio.run(run())
