"""The files of an index, and how they are written so that a killed job never leaves a broken one.

index.json         what is valid: how many rows and videos, and in which files. Written last, and renamed into place
rows-G.f32         unit rows, float32 [N, D], of the G-th build
times-G.f64        start and end of each row in seconds, float64 [N, 2]
videos-G.jsonl     a line per video: its name, path, identity and number of rows
near-G-N.faiss     faiss's index of the first N rows, unless the kind is exact
.lock              locked while a job writes

Growth appends to the files and then replaces index.json; whatever lies beyond the counts of index.json is cut off by the next
job.

N rows, D dimensions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from ..features.folder import VideoRecord, load_video_features
from ..files import replacing
from ..progress import Progress
from ..video.remote import is_url

FACTS = "index.json"
_FORMAT = 1
Kind = Literal["exact", "ivf", "hnsw"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexedVideo:
    """A video of an index."""

    name: str
    """Its name in the manifest."""
    path: str
    """Where it was read from: an absolute path, if it was there when it was indexed; or its address."""
    size: int | None
    """Bytes of the file."""
    fingerprint: str | None
    """Recognises the content of the file: see the manifest."""
    rows: int
    """Number of its rows, which follow one another."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What index.json holds."""

    array: str
    """Name of the features that are indexed: "embedding" or a layer."""
    dim: int
    """D."""
    kind: Kind
    """How neighbours are found."""
    chosen: bool
    """Whether `kind` was asked for. If not, it follows from the number of rows."""
    features: str
    """The folder of features, relative to that of the index."""
    settings: dict[str, Any]
    """What the features depend on, as in their manifest."""
    generation: int
    """G: how many times the index was built."""
    rows: int = 0
    """N."""
    videos: int = 0
    videos_bytes: int = 0
    near: str | None = None
    """Name of faiss's file."""
    near_bytes: int = 0
    trained_rows: int = 0
    """Number of rows that there were when faiss's lists were trained."""

    def file(self, folder: Path, what: Literal["rows", "times", "videos"]) -> Path:
        """The file of rows, times or videos."""
        return folder / f"{what}-{self.generation}.{ {'rows': 'f32', 'times': 'f64', 'videos': 'jsonl'}[what] }"

    def sizes(self, folder: Path) -> dict[Path, int]:
        """Returns the number of valid bytes of each file."""
        sizes = {
            self.file(folder, "rows"): 4 * self.rows * self.dim,
            self.file(folder, "times"): 16 * self.rows,
            self.file(folder, "videos"): self.videos_bytes,
        }
        return sizes | ({folder / self.near: self.near_bytes} if self.near else {})


def read_facts(folder: Path) -> Facts:
    """Reads index.json, and checks that the files are as long as it says.

    Raises:
        FileNotFoundError: the folder has no index.
        ValueError: index.json or another file is damaged, or a newer version wrote it.
    """
    path = folder / FACTS
    if not path.is_file():
        raise FileNotFoundError(f"no index in {folder}: `vie index FEATURES` makes one of a folder of features")
    try:
        content = json.loads(path.read_text())
        written = content.pop("format")
        facts = Facts(**content) if written == _FORMAT else None
        sizes = {file: int(size) for file, size in facts.sizes(folder).items()} if facts else {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {_again(folder)}") from error
    if facts is None:
        raise ValueError(
            f"{path} has format {written}, but this version reads {_FORMAT}: upgrade vie_models, or {_again(folder)}"
        )
    for file, size in sizes.items():
        if file.parent != folder or not file.is_file() or not 0 <= size <= file.stat().st_size:
            there = f"has {file.stat().st_size} bytes" if file.is_file() else "is missing"
            raise ValueError(f"{file} {there}, but {FACTS} counts {size}: the index is damaged; {_again(folder)}")
    return facts


def write_facts(folder: Path, facts: Facts) -> None:
    """Makes what was written the index, and removes files that no longer belong to it."""
    with replacing(folder / FACTS) as temporary:
        temporary.write_text(json.dumps({"format": _FORMAT, **dataclasses.asdict(facts)}, indent=1) + "\n")
        _sync(temporary)
    for pattern in ("rows-*.f32", "times-*.f64", "videos-*.jsonl", "near-*.faiss"):
        for file in set(folder.glob(pattern)) - set(facts.sizes(folder)):
            file.unlink(missing_ok=True)


def read_videos(folder: Path, facts: Facts) -> list[IndexedVideo]:
    """Returns the videos in the order of their rows.

    Raises:
        ValueError: the file is damaged.
    """
    path = facts.file(folder, "videos")
    try:
        with path.open("rb") as file:
            lines = file.read(facts.videos_bytes).decode("utf-8", "surrogateescape").splitlines()
        videos = [IndexedVideo(**json.loads(line)) for line in lines]
        if len(videos) != facts.videos or sum(video.rows for video in videos) != facts.rows:
            raise ValueError(f"it lists {len(videos)} videos with {sum(video.rows for video in videos)} rows")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {_again(folder)}") from error
    return videos


def last_generation(folder: Path) -> int:
    """Returns the number of the last build that left files, whole or not; 0 if none did."""
    numbers = [int(file.stem.removeprefix("rows-")) for file in folder.glob("rows-*.f32") if file.stem[5:].isdigit()]
    return max(numbers, default=0)


def append(
    folder: Path, facts: Facts, features: Path, records: Iterable[VideoRecord], *, total: int, progress: bool = False
) -> Facts:
    """Appends the rows of videos to the files, and returns what is true once `write_facts` has written it.

    Raises:
        ValueError: features are missing, are whole maps, or are not finite.
    """
    for path, size in facts.sizes(folder).items():
        if path.suffix != ".faiss":
            with path.open("ab") as tail:  # what a killed job left
                tail.truncate(size)
    with contextlib.ExitStack() as stack:
        files = {what: stack.enter_context(facts.file(folder, what).open("ab")) for what in ("rows", "times", "videos")}  # type: ignore[arg-type]
        bar = stack.enter_context(Progress(total, "video", show=progress))
        rows, videos = facts.rows, facts.videos
        for record in records:
            values, times = _rows_of(features, record, facts)
            if facts.dim == 0:
                facts = dataclasses.replace(facts, dim=values.shape[1])
            if values.shape[1] != facts.dim:
                raise ValueError(f"{record.name} has {facts.array} of {values.shape[1]} numbers, but others have {facts.dim}")
            video = IndexedVideo(
                name=record.name,
                path=_absolute(record.path),
                size=record.size,
                fingerprint=record.fingerprint,
                rows=len(values),
            )
            files["rows"].write(values.tobytes())
            files["times"].write(times.tobytes())
            files["videos"].write((json.dumps(dataclasses.asdict(video)) + "\n").encode())
            rows, videos = rows + len(values), videos + 1
            bar.update()
        for handle in files.values():
            handle.flush()
            os.fsync(handle.fileno())
        written = files["videos"].tell()
    return dataclasses.replace(facts, rows=rows, videos=videos, videos_bytes=written)


def new_records(known: Iterable[IndexedVideo], records: dict[str, VideoRecord], facts: Facts) -> list[VideoRecord]:
    """Returns the records of videos that are not indexed yet.

    Raises:
        ValueError: features of indexed videos were removed, or come from another file or other settings now.
    """

    def same(video: IndexedVideo) -> bool:
        record = records.get(video.name)
        there = record and (record.size, record.fingerprint, record.clips)
        return there == (video.size, video.fingerprint, video.rows)

    names = {video.name: same(video) for video in known}
    if changed := [name for name, unchanged in names.items() if not unchanged]:
        raise ValueError(
            f"features of {len(changed)} videos that the index holds, such as {changed[0]}, were removed or come from another "
            "file now: build it anew with rebuild=True (`vie index FEATURES --rebuild`)"
        )
    if any(record.settings != facts.settings for record in records.values()):
        raise ValueError(
            "the features were extracted again with other settings than those in the index: build it anew with rebuild=True "
            "(`vie index FEATURES --rebuild`)"
        )
    return [record for name, record in records.items() if name not in names]


def _rows_of(features: Path, record: VideoRecord, facts: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Returns the unit rows of a video, float32 [n, D], and their times, float64 [n, 2]."""
    if record.settings != facts.settings:
        raise ValueError(
            f"the features of {record.name} were made with other settings than those before: extract all of them again"
        )
    arrays = load_video_features(features, record, [facts.array])
    values = np.ascontiguousarray(arrays[facts.array], np.float32)
    if values.ndim != 2:
        raise ValueError(
            f"{facts.array} of {record.name} has whole maps, {list(values.shape[1:])} per clip, but an index takes vectors: "
            "extract with --pool avg"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{facts.array} of {record.name} is not finite: remove its features and extract them again")
    lengths = np.sqrt(np.square(values, dtype=np.float64).sum(1, keepdims=True))
    values = (values / np.maximum(lengths, 1e-30)).astype(np.float32)
    return values, np.stack([arrays["start"], arrays["end"]], 1).astype(np.float64)


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if not is_url(path) and Path(path).exists() else path


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keeps other jobs from writing to the index.

    Raises:
        BlockingIOError: another job is writing to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(f"another job is writing to {folder}: wait for it") from None
    try:
        yield
    finally:
        lock.release()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _again(folder: Path) -> str:
    return f"remove {folder} and run `vie index` again"
