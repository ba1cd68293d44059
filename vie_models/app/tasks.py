"""What the worker process of the page does. Each job is a generator of events, plain data; they take turns.

A job of hours and one of milliseconds share the process: after each event the next job goes on, and one that has said nothing
yet goes first.

M moments, D numbers of an embedding.
"""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..processes import ignore_signals
from .encoders import BATCH, PARTS, THREADS, about, encoder, extractor, index_of, maker_of, predictor

Events = Iterator[dict[str, Any]]
MEMORY = 6 * 2**30
"""Bytes that the process may reserve, without the files that it maps."""
GRID = 25.0
SHORT_SIDE, CLIP_SIDE = 72, 320
"""Short sides of the pictures of the filmstrip and of clips, in pixels."""


def _said() -> None:
    """Tells the server, now and then, that reading goes on; `work` puts the real one here."""


def moments(path: str, name: str) -> Events:
    """Embeds a video from its beginning: what is known of it, then rows as they come, then how it ended."""
    from ..video import open_video, read_video

    yield about(name)
    made = extractor(name)
    sampling = made.sampling
    with open_video(path, sampling.fps, threads=THREADS) as video:
        yield {"duration": video.num_frames / sampling.fps, "facts": video.metadata}
    batch: list[Any] = []

    def rows() -> dict[str, Any]:
        (values,) = made.outputs([clip.pixels for clip in batch])
        found = {"rows": _text(values), "start": [c.start for c in batch], "end": [c.end for c in batch]}
        batch.clear()
        return found

    end = None
    for part in read_video(path, sampling, threads=THREADS, progress=lambda: _said()):
        if part is None:  # the file is not as long as it said
            batch.clear()
            yield {"again": True}
        elif hasattr(part, "pixels"):
            batch.append(part)
            if len(batch) == BATCH:
                yield rows()
        else:
            end = part
    if batch:
        yield rows()
    assert end is not None
    yield {"done": True, "duration": end.num_frames / sampling.fps, "damage": end.damage}


def strip(path: str, count: int) -> Events:
    """Takes small pictures of a video, evenly spaced."""
    from ..datasets import shrink
    from ..video import open_video

    with open_video(path, GRID, threads=THREADS) as video:
        total = video.num_frames
    for number in range(count):
        with open_video(path, GRID, threads=THREADS) as video:
            at = [[min(int((number + 0.5) * total / count), total - 1)]]
            (frame,) = video.retrying(lambda: list(video.read(at, lambda image: shrink(image, SHORT_SIDE))))  # noqa: B023
        yield {"at": (number + 0.5) * total / count / GRID, "picture": jpeg(frame[0])}


def clip(path: str, start: float, seconds: float, target: str) -> Events:
    """Writes a part of a video as H.264, which every browser plays."""
    from ..datasets import shrink, write_mp4
    from ..files import replacing
    from ..video import open_video

    with replacing(Path(target)) as made, open_video(path, GRID, threads=THREADS) as video:
        video.progress = lambda: _said()
        count = min(max(round(seconds * GRID), 1), video.num_frames)
        first = min(max(round(start * GRID), 0), video.num_frames - count)
        wanted = [[first + k] for k in range(count)]

        def write() -> None:
            frames = (part[0] for part in video.read(wanted, lambda frame: shrink(frame, CLIP_SIDE, multiple=2)))
            write_mp4(made, frames, int(GRID), crf=23)

        video.retrying(write)
        total = video.num_frames
    yield {"start": first / GRID, "duration": total / GRID}


def layers(path: str, name: str, at: float, layer: str | None, channel: int | None) -> Events:
    """Shows what a layer responds to at a moment."""
    from .overlays import layer_maps

    names = list(encoder(name).layer_names)
    layer = layer or names[len(names) // 4]
    found = layer_maps(path, at, encoder(name), layer, channel)
    pictures = [jpeg(picture) for picture in found.pictures]
    yield {"names": names, "layer": layer, "shape": found.shape, "strongest": found.strongest, "pictures": pictures}


def match(path: str, other: str, name: str, first: float, second: float, pathway: int) -> Events:
    """Shows which pixels the likeness of two moments depends on."""
    from .overlays import match_maps

    found = match_maps((path, other), (first, second), encoder(name), pathway, len(about(name)["pathways"]))
    pictures = [[jpeg(picture) for picture in row] for row in (found.first, found.second)]
    yield {"first": pictures[0], "second": pictures[1], "similarity": found.similarity}


def names(path: str, name: str) -> Events:
    """Asks the memory bank that came with the encoder for names of a video."""
    asked = predictor(name)
    (found,) = asked.predict([path], device="cpu")
    if found.confidence is None:
        raise ValueError(f"the video {found.reason}")
    yield {
        "names": found.names,
        "agreement": found.confidence,
        "least": asked.threshold,
        "known": asked.known,
        "rows": len(asked.rows),
    }


def features(path: str) -> Events:
    """Describes a folder of features, after building its index if it has none."""
    index = index_of(path)
    random = {"all": index.random_cosines().tolist()}
    random |= {PARTS[name]: index.random_cosines(name).tolist() for name in index.pathways}  # type: ignore[arg-type]
    videos = [{"name": video.name, "path": video.path} for video in index.videos]
    yield {"moments": len(index), "model": maker_of(index), "videos": videos, "random": random}


def search(path: str, vector: str, pathway: str | None, count: int, avoid: list[Any]) -> Events:
    """Finds the moments of the features that are most like a vector, float32 [D] in base64."""
    index = index_of(path)
    query = np.frombuffer(base64.b64decode(vector), np.float32)
    spans = [(str(file), float(start), float(end)) for file, start, end in avoid]
    asked = 4 * count
    while True:
        hits = index.nearest(query, min(asked, len(index)), spans, pathway=pathway)  # type: ignore[arg-type]
        kept: list[Any] = []
        for hit in hits:
            if not any(hit.name == other.name and hit.start < other.end and hit.end > other.start for other in kept):
                kept.append(hit)
        if len(kept) >= count or asked >= len(index):
            break
        asked *= 4
    one = [{"name": h.name, "path": h.path, "start": h.start, "end": h.end, "cosine": h.similarity} for h in kept[:count]]
    yield {"hits": one}


JOBS: dict[str, Callable[..., Events]] = {
    "moments": moments, "strip": strip, "clip": clip, "layers": layers, "match": match, "names": names,
    "features": features, "search": search,
}  # fmt: skip


def jpeg(image: np.ndarray) -> str:
    """Returns a picture, uint8 [H, W, 3], as JPEG in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=80)
    return base64.b64encode(file.getvalue()).decode()


def _text(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.float32).tobytes()).decode()


def sentence(error: BaseException) -> str:
    """Returns the text of an error for a person, without this machine's folders."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "This needs more memory than is allowed; try a video with smaller frames."
    if not isinstance(error, (ValueError, OSError, ImportError)):
        return f"Something in this program failed, not in the video: {type(error).__name__}: {error}"
    path = getattr(error, "path", None) or getattr(error, "filename", None)
    text = str(error).replace(str(path), Path(str(path)).name) if path else str(error)
    return (text[:1].upper() + text[1:] if text.split(" ", 1)[0].isalpha() else text).rstrip(".") + "."


def work(messages: queue.Queue[dict[str, Any]], out: TextIO) -> None:
    """Does jobs in turns, for ever."""
    global _said
    running: dict[int, Events] = {}
    last = 0.0

    def say(number: int, event: object) -> None:
        nonlocal last
        last = time.monotonic()
        out.write(f"{number} {json.dumps(event)}\n")
        out.flush()

    def alive() -> None:
        if time.monotonic() - last > 5:
            say(0, {})

    _said = alive
    while True:
        while not running or not messages.empty():
            message = messages.get()
            if (cancelled := message.get("cancel")) is not None:
                if found := running.pop(cancelled, None):
                    found.close()  # type: ignore[attr-defined]
                    say(cancelled, {"end": None})
            else:
                job = {message["job"]: JOBS[message["do"]](**message["arguments"])}
                running = {**job, **running}  # whoever came last goes first, once
        number = next(iter(running))
        events = running.pop(number)
        try:
            say(number, next(events))
            running[number] = events
        except StopIteration:
            say(number, {"end": None})
        except Exception as error:  # whatever it is, whoever asked is told; the process goes on
            if not isinstance(error, (ValueError, OSError)):
                traceback.print_exc()
            say(number, {"end": sentence(error)})


def main(handle: int) -> None:
    """Reads jobs from the server through a socket until it is gone."""
    ignore_signals()
    connection = socket.socket(fileno=handle)
    out = connection.makefile("w", encoding="utf-8")
    messages: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        try:
            for line in connection.makefile("r", encoding="utf-8"):
                messages.put(json.loads(line))
        finally:
            os._exit(0)  # the server is gone, even in the middle of a job

    threading.Thread(target=listen, daemon=True).start()
    if sys.platform.startswith("linux"):  # elsewhere the limit counts other things
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    work(messages, out)
