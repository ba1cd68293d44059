"""Local servers: one imitates S3 and fails on demand, one imitates the Hugging Face Hub."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.util
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class LocalServer:
    """An HTTP server in a thread: `with LocalServer() as server: server.url`. Subclasses define its answers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

            def log_message(self, *args) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops the server: later connections are refused."""
        self._server.shutdown()
        self._server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, object], body: bytes = b"") -> int:
    """Sends an answer and returns the number of body bytes sent before the client disconnected."""
    handler.send_response(status)
    for name, value in headers.items():
        if value is not None:
            handler.send_header(name, str(value))
    handler.end_headers()
    if handler.command == "HEAD":
        return 0
    try:
        handler.wfile.write(body)
        handler.wfile.flush()
    except ConnectionError:
        return 0
    return len(body)


def range_start(handler: BaseHTTPRequestHandler) -> int:
    """Returns K of "Range: bytes=K-", or 0 without such a header."""
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    return int(match[1]) if match else 0


# --- S3 ------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(kw_only=True)
class Fault:
    """How one answer differs from S3's. Faults can be combined."""

    cut: int | None = None
    """Close the connection after this many bytes of the body."""
    status: int | None = None
    """Answer with this status instead."""
    html: bool = False
    """Answer with status 200 and a login page."""
    content_range: str | None = None
    """Content-Range header to send with status 206."""
    etag: bool = True
    """Send an ETag, and honor If-Range."""
    if_range: bool = True
    """Honor If-Range; if false, send the range even if the file has changed."""
    length: bool = True
    """Send a Content-Length."""
    content: bytes | None = None
    """Serve this file from now on."""
    delay: float = 0.0
    """Seconds to wait before the body."""
    stall_at: int | None = None
    """Send this many bytes, then nothing until `server.resume` is set."""


@dataclasses.dataclass
class Request:
    """What a client requested and what it got."""

    path: str
    range: str | None
    if_range: str | None
    status: int = 0
    sent: int = 0
    """Number of body bytes sent."""


class FileServer(LocalServer):
    """Serves one file under any path, with S3's headers. Request k gets `faults[k]`, later ones get `always`."""

    def __init__(self, content: bytes, *faults: Fault, always: Fault | None = None) -> None:
        super().__init__()
        self.content = content
        self.faults = list(faults)
        self.always = always or Fault()
        self.requests: list[Request] = []
        self.resume = threading.Event()

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)

    @property
    def ranges(self) -> list[str | None]:
        return [request.range for request in self.requests]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        request = Request(handler.path, handler.headers.get("Range"), handler.headers.get("If-Range"))
        with self.lock:
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else self.always
            if fault.content is not None:
                self.content = fault.content
        content, start = self.content, range_start(handler)
        etag = f'"{hashlib.md5(content).hexdigest()}"' if fault.etag else None
        if fault.if_range and request.if_range not in (None, etag):
            start = 0  # the client has part of another file: send all of this one
        request.status, headers, body = 200, {"Content-Type": "application/x-tar", "ETag": etag}, content[start:]
        if fault.status:
            request.status, headers, body = fault.status, {"Content-Type": "application/xml"}, b"<Error/>"
        elif fault.html:
            headers, body = {"Content-Type": "text/html; charset=utf-8"}, b"<html>Log in</html>"
        elif start and start >= len(content):
            request.status, headers["Content-Range"], body = 416, f"bytes */{len(content)}", b""
        elif start:
            request.status = 206
            headers["Content-Range"] = fault.content_range or f"bytes {start}-{len(content) - 1}/{len(content)}"
        if fault.length:
            headers["Content-Length"] = len(body)
        time.sleep(fault.delay)
        if fault.stall_at is not None:
            request.sent = send(handler, request.status, headers, body[: fault.stall_at])
            self.resume.wait(60)
        else:
            request.sent = send(handler, request.status, headers, body[: fault.cut])


# --- the Hugging Face Hub ------------------------------------------------------------------------------------------------


class HubServer(LocalServer):
    """Imitates enough of the Hub for old and new hf_hub_download and for uploads. Point HF_ENDPOINT at `url`.

    `put("org/name", {"config.json": b"..."}, revision="v1")` makes a commit and returns its hash. *.safetensors are large
    files (LFS) with their SHA-256 as ETag; other files have git's SHA-1. With `token` set, repositories are private.
    """

    def __init__(self, token: str | None = None) -> None:
        super().__init__()
        self.token = token
        self.refs: dict[str, dict[str, str]] = {}  # repository -> branch, tag or commit -> commit
        self.commits: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.objects: dict[str, bytes] = {}  # uploaded large files, by SHA-256
        self.spoil: str | None = None  # name of a file that commits corrupt
        # newer huggingface_hub uploads large files only to Xet, another store: tell it that no file is large
        self.lfs = importlib.util.find_spec("huggingface_hub._upload_pipeline") is None

    def put(self, repo: str, files: dict[str, bytes], revision: str = "main") -> str:
        digest = hashlib.sha1(repo.encode())
        for name, content in sorted(files.items()):
            digest.update(name.encode() + content)
        commit = digest.hexdigest()
        self.commits[commit] = files
        self.refs.setdefault(repo, {}).update({revision: commit, commit: commit})
        return commit

    def tags(self, repo: str) -> dict[str, str]:
        return {name: commit for name, commit in self.refs[repo].items() if name not in ("main", *self.commits)}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            self.requests.append(f"{handler.command} {handler.path}")
        path = unquote(handler.path)
        if path.startswith(("/api/", "/objects/")) or path.endswith("/objects/batch"):
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            with self.lock:
                return self._answer_api(handler, path, body)
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo, revision, name = match.groups() if match else ("", "", "")
        if repo not in self.refs or (self.token and handler.headers.get("Authorization") != f"Bearer {self.token}"):
            return self._refuse(handler, 401, "RepoNotFound")
        if revision not in self.refs[repo]:
            return self._refuse(handler, 404, "RevisionNotFound")
        commit = self.refs[repo][revision]
        if name not in self.commits[commit]:
            return self._refuse(handler, 404, "EntryNotFound", commit)
        content, start = self.commits[commit][name], range_start(handler)
        headers: dict[str, object] = {"X-Repo-Commit": commit, "Content-Length": len(content) - start, "Accept-Ranges": "bytes"}
        if name.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            headers |= {"ETag": f'"{sha256[:32]}"', "X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": len(content)}
        else:
            headers["ETag"] = f'"{git_sha1(content)}"'
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        send(handler, 206 if start else 200, headers, content[start:])

    def _answer_api(self, handler: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        if self.token and not path.startswith("/objects/") and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return self._refuse(handler, 401, "RepoNotFound")
        if path.startswith("/objects/"):
            self.objects[path.removeprefix("/objects/")] = body
            return send(handler, 200, {"Content-Length": 0}) and None
        if path == "/api/repos/create":
            question = json.loads(body)
            repo = "/".join(filter(None, (question.get("organization"), question["name"])))
            if repo not in self.refs:
                self.put(repo, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
            return self._json(handler, {"url": f"{self.url}/{repo}", "name": repo})
        if path == "/api/validate-yaml":
            return self._json(handler, {"errors": [], "warnings": []})
        if path == "/api/whoami-v2":
            return self._json(handler, {"name": "me", "orgs": []})
        if match := re.fullmatch(r"/(.+/.+)\.git/info/lfs/objects/batch", path):
            wanted = json.loads(body)["objects"]
            objects = [{**one, "actions": {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}} for one in wanted]
            return self._json(handler, {"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)(?:/([^?]+))?)?(?:\?.*)?", path)
        if not match or match[1] not in self.refs:
            return self._refuse(handler, 404, "RepoNotFound")
        repo, what, which = match.groups()
        refs = self.refs[repo]
        if what == "preupload":
            files = json.loads(body)["files"]
            modes = ("lfs" if self.lfs and file["path"].endswith(".safetensors") else "regular" for file in files)
            kept = [{"path": f["path"], "uploadMode": m, "shouldIgnore": False} for f, m in zip(files, modes, strict=True)]
            return self._json(handler, {"files": kept})
        if what == "commit":
            files = dict(self.commits[refs["main"]]) if "main" in refs else {}
            for line in body.decode().splitlines():
                operation = json.loads(line)
                value = operation["value"]
                if operation["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif operation["key"] == "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                elif operation["key"] == "deletedFile":
                    del files[value["path"]]
            if self.spoil:
                files[self.spoil] = files[self.spoil][:-1] + b"?"
            commit = self.put(repo, files)
            return self._json(
                handler, {"success": True, "commitUrl": f"{self.url}/{repo}/commit/{commit}", "commitOid": commit}
            )
        if what == "tag":
            refs[json.loads(body)["tag"]] = refs[which]
            return send(handler, 200, {"Content-Length": 0}) and None
        if what == "refs":
            tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": c} for name, c in self.tags(repo).items()]
            return self._json(handler, {"branches": [], "converts": [], "tags": tags})
        if (which or "main") not in refs:
            return self._refuse(handler, 404, "RevisionNotFound")
        commit = refs[which or "main"]
        if what == "tree":
            return self._json(handler, [{"type": "file", "path": name, "size": len(c), "oid": git_sha1(c)}
                                        for name, c in self.commits[commit].items()])  # fmt: skip
        about = {"id": repo, "sha": commit, "private": False, "downloads": 0, "likes": 0, "tags": []}
        return self._json(handler, {**about, "siblings": [{"rfilename": name} for name in self.commits[commit]]})

    def _json(self, handler: BaseHTTPRequestHandler, content: object, kind: str = "application/json") -> None:
        body = json.dumps(content).encode()
        send(handler, 200, {"Content-Type": kind, "Content-Length": len(body)}, body)

    def _refuse(self, handler: BaseHTTPRequestHandler, status: int, code: str, commit: str | None = None) -> None:
        send(handler, status, {"X-Error-Code": code, "X-Repo-Commit": commit, "Content-Length": 0})


def git_sha1(content: bytes) -> str:
    """Returns the hash that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
