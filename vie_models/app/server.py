"""The routes of the page. It imports no torch: decoding and networks run in the worker."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import encoders
from .library import MOST_VIDEOS, Item, Library, Scratch
from .worker import Job, JobError, Worker

PAGE = Path(__file__).with_name("page")
HOSTS = ["127.0.0.1", "localhost"]
MOST_BYTES, MOST_JSON = 2e9, 1_000_000
"""Largest video that may be dropped on the page, and largest question of any other kind, in bytes."""
SPARE_DISK, PART = 500e6, 2**20
KEPT_JOBS, KEPT_CLIPS, KEPT_DROPS = 8, 60, 20
CLIP_SECONDS = 30.0
_POLICY = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'"


class OwnPagesOnly:
    """Refuses what another site's page asks for, and big bodies; says to browsers what the page may load."""

    def __init__(self, app: ASGIApp, framed: bool = False) -> None:
        self.app = app
        self.policy = _POLICY + ("" if framed else "; frame-ancestors 'none'")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        headers = request.headers
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
        linked = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if foreign or (site not in ("same-origin", "none") and not linked):
            await JSONResponse({"error": "Another site's page asked for this; only this page may."}, 403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", self.policy.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                    (b"cache-control", b"no-cache"),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Site:
    """The page of one server: what it may open, its worker, and the jobs whose results are kept.

    With `shared`, strangers use it at the same time: none is told what the others dropped.
    """

    def __init__(self, library: Library, scratch: Scratch, *, max_bytes: float = MOST_BYTES, shared: bool = False) -> None:
        self.library, self.scratch, self.max_bytes, self.shared = library, scratch, int(max_bytes), shared
        self.worker = Worker()
        self.kept: dict[tuple[str, str], Job] = {}
        """Embeddings of (id of a video, encoder), the last used last."""

    def video(self, request: Request, key: str = "video") -> Item:
        """Returns the video that a request names. 404 if there is none of this id."""
        return self._found(self.library.videos, request.path_params[key])

    def features(self, request: Request) -> Item:
        return self._found(self.library.features, request.path_params["features"])

    def _found(self, items: dict[str, Item], number: str) -> Item:
        if number not in items:
            raise HTTPException(404, "The page was not given this video; open it again.")
        return items[number]

    def encoder(self, request: Request) -> str:
        name = str(request.path_params["encoder"])
        if name not in encoders.names():
            raise HTTPException(404, f"The page has the encoders {', '.join(encoders.names())}.")
        return name

    async def about(self, request: Request) -> Response:
        """Lists what the page may open."""
        videos = [one for one in self.library.videos.values() if not (self.shared and one.dropped)]
        listed = [{"id": one.id, "name": one.name, "size": one.size} for one in videos]
        features = [{"id": one.id, "name": one.name} for one in self.library.features.values()]
        return JSONResponse({"videos": listed, "features": features, "encoders": encoders.names(), "most": self.max_bytes})

    async def moments(self, request: Request) -> Response:
        """Sends the embeddings of a video as they come."""
        item, name = self.video(request), self.encoder(request)
        first = request.headers.get("last-event-id", "-1")
        job = await self._job(item, name)
        return StreamingResponse(sse(job, int(first) + 1 if first.isdigit() else 0), media_type="text/event-stream")

    async def _job(self, item: Item, name: str) -> Job:
        job = self.kept.pop((item.id, name), None)
        if job is None or job.error or job.stopped:
            job = await self.worker.do("moments", path=str(item.path), name=name)
        self.kept[item.id, name] = job
        for key in [key for key, one in self.kept.items() if one.ended][: max(len(self.kept) - KEPT_JOBS, 0)]:
            del self.kept[key]
        return job

    async def stop(self, request: Request) -> Response:
        """Stops embedding; what is there stays on the page."""
        if job := self.kept.get((self.video(request).id, self.encoder(request))):
            job.stop()
        return JSONResponse({})

    async def strip(self, request: Request) -> Response:
        """Sends pictures of the filmstrip as they come."""
        job = await self.worker.do("strip", path=str(self.video(request).path), count=int(_number(request, "count", 1, 40)))
        return StreamingResponse(sse(job, 0), media_type="text/event-stream")

    async def file(self, request: Request) -> Response:
        """Sends a video, or the beginning of the part that a browser asks for: it asks again for the rest.

        A browser keeps six connections to a server. Seven players that each hold one would leave none for anything else.
        """
        item = self.video(request)
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""), re.ASCII):
            first, last = int(asked[1]), int(asked[2] or 2**62)
            part = (b"range", f"bytes={first}-{min(last, first + PART - 1)}".encode())
            request.scope["headers"] = [part if name == b"range" else (name, value) for name, value in request.scope["headers"]]
        if not item.path.is_file():
            raise HTTPException(404, f"{item.name} is gone.")
        return FileResponse(item.path)

    async def clip(self, request: Request) -> Response:
        """Sends a part of a video that the browser cannot play, as H.264."""
        item = self.video(request)
        start, seconds = round(_number(request, "start", 0, 1e6), 2), _number(request, "seconds", 0.1, CLIP_SECONDS)
        target = self.scratch.folder / f"{item.id}-{start}-{seconds}.mp4"
        if not target.exists():
            made = sorted(self.scratch.folder.glob("*-*.mp4"), key=lambda file: file.stat().st_mtime)
            for old in made[: max(len(made) - KEPT_CLIPS, 0)]:
                old.unlink(missing_ok=True)
            await self._answer("clip", path=str(item.path), start=start, seconds=seconds, target=str(target))
        return FileResponse(target, media_type="video/mp4")

    async def layers(self, request: Request) -> Response:
        """Sends what a layer responds to at a moment."""
        query = request.query_params
        channel = int(query["channel"]) if query.get("channel", "").isdigit() else None
        found = await self._answer(
            "layers",
            path=str(self.video(request).path),
            name=self.encoder(request),
            at=_number(request, "at", 0, 1e6),
            layer=query.get("layer") or None,
            channel=channel,
        )
        return JSONResponse(found)

    async def match(self, request: Request) -> Response:
        """Sends which pixels the likeness of two moments depends on."""
        found = await self._answer(
            "match",
            path=str(self.video(request).path),
            other=str(self.video(request, "other").path),
            name=self.encoder(request),
            first=_number(request, "first", 0, 1e6),
            second=_number(request, "second", 0, 1e6),
            pathway=int(_number(request, "pathway", 0, 1)),
        )
        return JSONResponse(found)

    async def names(self, request: Request) -> Response:
        """Sends names of a video from the memory bank."""
        return JSONResponse(await self._answer("names", path=str(self.video(request).path), name=self.encoder(request)))

    async def describe_features(self, request: Request) -> Response:
        """Sends what a folder of features holds; its videos can be played from then on."""
        found = await self._answer("features", path=str(self.features(request).path))
        files = [(Path(video["path"]), video["name"]) for video in found["videos"][:MOST_VIDEOS]]
        items = [self.library.add(path, name) for path, name in files if path.is_file()]
        return JSONResponse({**found, "videos": [{"id": item.id, "name": item.name} for item in items]})

    async def search(self, request: Request) -> Response:
        """Finds moments in the features; their videos can be played from then on."""
        question = await self._json(request)
        avoid = [
            (str(self.library.videos[key].path), float(start), float(end))
            for key, start, end in question.get("avoid", ())
            if key in self.library.videos
        ]
        found = await self._answer(
            "search",
            path=str(self.features(request).path),
            vector=str(question.get("vector", "")),
            pathway={part: name for name, part in encoders.PARTS.items()}.get(str(question.get("pathway"))),
            count=min(max(int(question.get("count", 6)), 1), 50),
            avoid=avoid,
        )
        for hit in found["hits"]:
            path = Path(hit.pop("path"))
            hit["video"] = self.library.add(path, hit["name"]).id if path.is_file() else None
        return JSONResponse(found)

    async def take(self, request: Request) -> Response:
        """Sends the embeddings of a video, as far as they are computed, as an .npz file."""
        item, name = self.video(request), self.encoder(request)
        job = self.kept.get((item.id, name))
        if job is None:
            raise HTTPException(404, "There are no embeddings of this video yet.")
        events: list[dict[str, Any]] = []
        for event in map(json.loads, job.events):
            if "again" in event:
                events.clear()
            elif "rows" in event:
                events.append(event)
        rows = np.frombuffer(b"".join(base64.b64decode(event["rows"]) for event in events), np.float32)
        start, end = (np.array([second for event in events for second in event[key]]) for key in ("start", "end"))
        file = io.BytesIO()
        np.savez(file, embedding=rows.reshape(len(start), -1) if len(start) else rows, start=start, end=end)
        safe = re.sub(r"[^\w.-]", "_", item.path.stem, flags=re.ASCII)[:80]
        headers = {"content-disposition": f'attachment; filename="{safe}.npz"'}
        return Response(file.getvalue(), media_type="application/octet-stream", headers=headers)

    async def drop(self, request: Request) -> Response:
        """Takes a video that was dropped on the page: the body is the file."""
        name = Path(request.query_params.get("name", "video").replace("\\", "/")).name[:200] or "video"
        length = int(length) if (length := request.headers.get("content-length", "")).isdigit() else self.max_bytes
        if length > self.max_bytes:
            raise HTTPException(413, self._too_large())
        if shutil.disk_usage(self.scratch.folder).free < length + SPARE_DISK:
            raise HTTPException(507, "The disk has no room for this video; open it in place: vie app VIDEO.")
        folder = self.scratch.folder / f"drop-{len(self.library.videos)}-{id(request)}"
        folder.mkdir()
        target, taken = folder / ("video" + "".join(re.findall(r"\.\w{1,5}$", name, re.ASCII))), 0
        try:
            with target.open("wb") as file:
                async for chunk in request.stream():
                    taken += len(chunk)
                    if taken > self.max_bytes:
                        raise HTTPException(413, self._too_large())
                    await asyncio.to_thread(file.write, chunk)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        item = self.library.add(target, name, dropped=True)
        for old in [one for one in self.library.videos.values() if one.dropped][:-KEPT_DROPS]:
            del self.library.videos[old.id]
            shutil.rmtree(old.path.parent, ignore_errors=True)
        return JSONResponse({"id": item.id, "name": item.name, "size": item.size})

    def _too_large(self) -> str:
        return f"At most {self.max_bytes / 1e6:.0f} MB can be dropped here; open larger videos in place: vie app VIDEO."

    async def _json(self, request: Request) -> dict[str, Any]:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_JSON:
                raise HTTPException(413, f"A question may have {MOST_JSON} bytes.")
        try:
            found = json.loads(body)
            return found if isinstance(found, dict) else {}
        except ValueError as error:
            raise HTTPException(400, "The question is not JSON.") from error

    async def _answer(self, what: str, **arguments: object) -> dict[str, Any]:
        job = await self.worker.do(what, **arguments)
        try:
            return await job.result()
        except JobError as error:
            raise HTTPException(422, str(error)) from error


async def sse(job: Job, first: int) -> AsyncIterator[str]:
    """Writes a job's events as server-sent events; "end" is the last, with the sentence of an error or null."""
    try:
        async for number, event in job.follow(first):
            yield f"id: {number}\ndata: {event}\n\n"
        yield f"event: end\ndata: {json.dumps({'error': None, 'stopped': job.stopped})}\n\n"
    except JobError as error:
        yield f"event: end\ndata: {json.dumps({'error': str(error)})}\n\n"


def _number(request: Request, key: str, least: float, most: float) -> float:
    try:
        value = float(request.query_params.get(key, ""))
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise HTTPException(400, f"{key} must be a number from {least:g} to {most:g}.")
    return value


async def _in_words(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def build(site: Site, *, hosts: list[str] = HOSTS, framed: bool = False) -> Starlette:
    """Returns the server of a page.

    Args:
        site: what it shows.
        hosts: names that a request may call the server by. ["*"] for a proxy that checks them.
        framed: whether other pages may show it in a frame, as a Space does.
    """

    async def index(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        warm = asyncio.create_task(site.worker.start())
        yield
        await warm
        await site.worker.close()

    of = "/{video}/{encoder}"
    return Starlette(
        routes=[
            Route("/", index),
            Mount("/page", StaticFiles(directory=PAGE)),
            Route("/api/about", site.about),
            Route("/api/moments" + of, site.moments),
            Route("/api/stop" + of, site.stop, methods=["POST"]),
            Route("/api/strip/{video}", site.strip),
            Route("/api/layers" + of, site.layers),
            Route("/api/match/{video}/{other}/{encoder}", site.match),
            Route("/api/names" + of, site.names),
            Route("/api/npz" + of, site.take),
            Route("/api/features/{features}", site.describe_features),
            Route("/api/search/{features}", site.search, methods=["POST"]),
            Route("/api/drop", site.drop, methods=["POST"]),
            Route("/video/{video}", site.file),
            Route("/clip/{video}", site.clip),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(OwnPagesOnly, framed=framed)],
        exception_handlers={HTTPException: _in_words},
        lifespan=lifespan,
    )
