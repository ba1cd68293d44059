"""An index over a folder of features, which finds the rows nearest to a vector.

    FEATURES/index/ARRAY/
      index.json            what the index is of, and the names of the other files; renamed into place when they are complete
      rows-BUILD.npy        unit rows, float32 [N, D]
      times-BUILD.npy       start and end of each row in seconds, float64 [N, 2]
      videos-BUILD.jsonl    a line per video: its name, path, identity and number of rows
      neighbors-BUILD.faiss faiss's index of the rows, unless the kind is exact

A build writes files of new names, so an index that is open stays as it is, and a killed build leaves what was there.

N rows, D dimensions, Q queries.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import open_memmap

from ..features import VideoRecord, load_video_features, records_with_features
from ..files import identity, locked, replacing
from ..models import pathway_slices
from ..progress import Progress
from ..video import is_url, path_or_url
from .likeness import check_percentile, percentile_of, random_cosines
from .neighbors import MAX_EXACT, SLACK, FaissIndex, Kind, exact_ranked, rank

FOLDER = "index"
"""Folder of the indexes in a folder of features; each has the name of its array."""
Pathway = Literal["static", "dynamic"]
_HEADER = "index.json"
_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Hit:
    """A row that was found: a clip of a video."""

    row: int
    """Number of the row in the index."""
    name: str
    """Name of the video in the manifest."""
    path: str
    """Path or address of the video."""
    start: float
    """Start of the clip, seconds after the first frame."""
    end: float
    """Its end."""
    similarity: float
    """Cosine similarity to the query."""
    percentile: float | None = None
    """Percentage of random pairs of the index that are less alike; None where nothing was compared with them."""


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
    """Recognizes the content of the file: see the manifest."""
    rows: int
    """Number of its rows, which follow one another."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Header:
    """What index.json holds."""

    array: str
    kind: Kind
    features: str
    """The folder of features, relative to that of the index."""
    settings: dict[str, Any]
    build: str
    """A word in the names of the other files."""

    def file(self, folder: Path, what: Literal["rows", "times", "videos", "neighbors"]) -> Path:
        suffixes = {"rows": "npy", "times": "npy", "videos": "jsonl", "neighbors": "faiss"}
        return folder / f"{what}-{self.build}.{suffixes[what]}"


class Index:
    """An index that was opened with `open_index` or `build_index`.

    Attributes:
        folder: where it lies.
        features: the folder of features that it was built of.
        array: name of the features that are indexed: "embedding" or a layer.
        kind: how neighbors are found: "exact", "ivf" or "hnsw".
        settings: what the features depend on: model, weights, clips, layers and so on, as in their manifest.
        rows: unit rows, float32 [N, D], memory-mapped. Changes to them stay in memory.
        videos: the videos in the order of their rows.
        video: number of each row's video, int32 [N].
        start, end: seconds of each row's clip, float64 [N], memory-mapped.
        faiss: faiss's index, or None if the kind is exact. `faiss.probes` trades speed for recall.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._random: dict[Pathway | None, np.ndarray] = {}
        try:
            self._read()
        except (OSError, ValueError):  # a build that ended just now removed the files that it replaced
            self._read()

    def _read(self) -> None:
        header = _read_header(self.folder)
        self.array, self.kind, self.settings = header.array, header.kind, header.settings
        self.features = Path(os.path.normpath(self.folder / header.features))
        try:
            self.rows = np.load(header.file(self.folder, "rows"), mmap_mode="c", allow_pickle=False)
            times = np.load(header.file(self.folder, "times"), mmap_mode="r", allow_pickle=False)
            lines = header.file(self.folder, "videos").read_text("utf-8", "surrogateescape").splitlines()
            self.videos = [IndexedVideo(**json.loads(line)) for line in lines]
            counts = [video.rows for video in self.videos]
            if self.rows.ndim != 2 or times.shape != (len(self.rows), 2) or sum(counts) != len(self.rows):
                raise ValueError(f"rows {self.rows.shape}, times {times.shape} and {sum(counts)} rows of videos do not agree")
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"the index in {self.folder} is damaged ({error}): {_REMEDY}") from error
        self.video = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.start, self.end = times[:, 0], times[:, 1]
        self.faiss = None if self.kind == "exact" else FaissIndex.open(header.file(self.folder, "neighbors"), self.kind)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pathways(self) -> dict[str, slice]:
        """The part of a row that belongs to each pathway of a two-pathway model; empty for other models and for layers."""
        return pathway_slices(self.settings["model"], self.rows.shape[1]) if self.array == "embedding" else {}

    def nearest_rows(
        self, queries: np.ndarray, k: int = 20, *, excluded: np.ndarray | None = None, pathway: Pathway | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the rows nearest to each query.

        Args:
            queries: [Q, D]; their length does not matter.
            k: number of rows for each.
            excluded: numbers of rows to leave out.
            pathway: compare only this pathway's part of two-pathway embeddings.

        Returns:
            Cosine similarities, float64 [Q, k'], largest first, and row numbers, int64 [Q, k'], k' <= k. Where fewer rows were
            found, the numbers are -1 and the similarities -inf.

        Raises:
            ValueError: a shape is wrong, k < 1, a query is not finite or zero, or there is no such pathway.
        """
        dots, rows = self._ranked(queries, k, excluded, pathway)
        return dots[:, :k], rows[:, :k]

    def _ranked(
        self, queries: np.ndarray, k: int, excluded: np.ndarray | None, pathway: Pathway | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `nearest_rows` does, and more; of an exact index, all rows that are as near as the k-th."""
        if k < 1:
            raise ValueError(f"k must be >= 1, got {k}")
        queries = self._units(np.asarray(queries, np.float32), pathway)
        leave_out = None if excluded is None or not len(excluded) else np.unique(excluded)
        if self.faiss is None:
            return exact_ranked(self.rows, queries, k, leave_out)
        wanted = 4 * k + SLACK + (0 if leave_out is None else len(leave_out))
        found = self.faiss.nearest(queries, min(wanted, len(self)))
        if leave_out is not None:
            found = np.where(np.isin(found, leave_out), -1, found)
        return rank(self.rows, queries, found)

    def nearest(
        self,
        query: np.ndarray,
        k: int = 20,
        exclude: Iterable[tuple[str | os.PathLike[str], float, float]] | None = None,
        *,
        pathway: Pathway | None = None,
    ) -> list[Hit]:
        """Finds the clips nearest to a vector.

        Args:
            query: [D]; its length does not matter.
            k: how many to find.
            exclude: spans (path of a video, start, end), in seconds. Clips that overlap them are left out.
            pathway: compare only this pathway's part of two-pathway embeddings.

        Returns:
            At most k hits, the most similar first; equal ones by name and time.

        Raises:
            ValueError: as `nearest_rows`.
        """
        query = np.asarray(query, np.float32)
        if query.shape != self.rows.shape[1:]:
            raise ValueError(f"a query must be [{self.rows.shape[1]}], as the rows are, got {list(query.shape)}")
        spans = [self.rows_in(*span) for span in exclude or ()]
        excluded = np.concatenate(spans) if spans else None
        (dots,), (rows,) = self._ranked(query[None], k, excluded, pathway)
        kth = dots[min(k, len(dots)) - 1]
        hits = [self.hit(row, dot) for row, dot in zip(rows.tolist(), dots.tolist(), strict=True) if row >= 0 and dot >= kth]
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.name, hit.start))[:k]

    def percentiles(self, similarities: np.ndarray | float, pathway: Pathway | None = None) -> np.ndarray:
        """Returns the percentage of random pairs of clips of different videos that are less alike, 0 to 100.

        Args:
            similarities: cosine similarities, of any shape.
            pathway: they compare only this pathway's part of two-pathway embeddings.

        Raises:
            ValueError: the index has one row, and so no pairs.
        """
        return percentile_of(similarities, self.random_cosines(pathway))

    def random_cosines(self, pathway: Pathway | None = None) -> np.ndarray:
        """Returns the quantiles of the cosine of random pairs of clips of different videos (see `search.random_cosines`)."""
        if pathway not in self._random:
            part = self.pathways[pathway] if pathway else slice(None)
            self._random[pathway] = random_cosines(self.rows[:, part], self.video)
        return self._random[pathway]

    def with_percentiles(self, hits: Iterable[Hit], *, least: float = 0, pathway: Pathway | None = None) -> list[Hit]:
        """Fills in the percentiles of hits, and leaves out those below `least`. An index of one row has no pairs: None.

        Raises:
            ValueError: `least` is not from 0 to 100.
        """
        check_percentile(least)
        hits = list(hits)
        if len(self) < 2:
            return hits
        found = self.percentiles(np.array([hit.similarity for hit in hits]), pathway).tolist()
        return [dataclasses.replace(hit, percentile=p) for hit, p in zip(hits, found, strict=True) if p >= least]

    def hit(self, row: int, similarity: float = 1.0) -> Hit:
        """Describes a row."""
        video = self.videos[self.video[row]]
        return Hit(row, video.name, video.path, float(self.start[row]), float(self.end[row]), similarity)

    def rows_in(self, path: str | os.PathLike[str], start: float = -np.inf, end: float = np.inf) -> np.ndarray:
        """Returns the numbers of a video's rows that overlap a span of seconds. The file is recognized by its content."""
        rows = np.flatnonzero(np.isin(self.video, self.numbers_of(path)))
        return rows[(self.start[rows] < end) & (self.end[rows] > start)]

    def numbers_of(self, path: str | os.PathLike[str]) -> list[int]:
        """Returns the numbers of the indexed videos that are this file, by its content; or by its path if it is gone."""
        try:
            same = identity(path_or_url(path))
        except OSError:
            return [number for number, video in enumerate(self.videos) if video.path == str(path)]
        return [number for number, video in enumerate(self.videos) if (video.size, video.fingerprint) == same]

    def _units(self, queries: np.ndarray, pathway: Pathway | None) -> np.ndarray:
        """Returns the queries with unit length; for a pathway, such that dot products are its cosine similarities."""
        if queries.ndim != 2 or queries.shape[1] != self.rows.shape[1]:
            raise ValueError(f"queries must be [Q, {self.rows.shape[1]}], as the rows are, got {list(queries.shape)}")
        if pathway is not None:
            if pathway not in self.pathways:
                here = f"{self.array} of {self.settings.get('model')}"
                raise ValueError(f"pathway must be one of {list(self.pathways) or None}, as {here} has, got {pathway!r}")
            part = np.zeros_like(queries)
            part[:, self.pathways[pathway]] = queries[:, self.pathways[pathway]]
            queries = part
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise ValueError("a query is zero or not finite: examples that cancel one another have no direction to search in")
        # a pathway's part of a row has length 1/sqrt(2)
        return (queries / lengths * (1 if pathway is None else np.sqrt(2))).astype(np.float32)


def build_index(
    features: str | os.PathLike[str],
    array: str = "embedding",
    kind: Literal["auto", "exact", "ivf", "hnsw"] = "auto",
    *,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Index:
    """Builds an index over a folder of features, and replaces the one that is there.

    Args:
        features: the output folder of `vie extract`.
        array: "embedding" or the name of a layer, averaged over space and time. Rows are normalized.
        kind: "exact" compares with all rows. "ivf" and "hnsw" look only at some, by way of faiss, whose rows take a quarter of
            the memory. "auto": exact up to a million rows, then ivf.
        out: folder of the index (default: FEATURES/index/ARRAY).
        progress: show a progress bar.

    Raises:
        FileNotFoundError: there are no features.
        ValueError: the features are whole maps, are not finite, or differ in their settings.
        ImportError: the kind needs faiss, which is not installed.
        BlockingIOError: another job is building this index.
    """
    if kind not in ("auto", "exact", "ivf", "hnsw"):
        raise ValueError(f"kind must be auto, exact, ivf or hnsw, got {kind!r}")
    source = Path(features)
    folder = Path(out) if out is not None else source / FOLDER / array
    records = records_with_features(source)
    settings = next(iter(records.values())).settings or {}
    if (layers := settings.get("layers")) is not None and array not in ("embedding", *layers):
        raise ValueError(f"array must be one of {', '.join(['embedding', *layers])}, which {source} has, got {array!r}")
    if kind == "auto":
        kind = "exact" if sum(record.clips for record in records.values()) <= MAX_EXACT else "ivf"
    features_path, build = os.path.relpath(source, folder), uuid.uuid4().hex[:12]
    header = _Header(array=array, kind=kind, features=features_path, settings=settings, build=build)
    with locked(folder / ".lock", f"another job is building the index in {folder}: wait for it"):
        try:
            rows = _write_rows(folder, header, source, list(records.values()), progress)
            if kind != "exact":
                FaissIndex.build(kind, rows).write(header.file(folder, "neighbors"))
            with replacing(folder / _HEADER) as temporary:
                temporary.write_text(json.dumps({"format": _FORMAT, **dataclasses.asdict(header)}, indent=1) + "\n")
        except BaseException:
            _remove_files(folder, lambda name: build in name)
            raise
        _remove_files(folder, lambda name: build not in name)
    return Index(folder)


def _write_rows(folder: Path, header: _Header, features: Path, records: list[VideoRecord], progress: bool) -> np.ndarray:
    """Writes rows, times and videos, and returns the rows."""
    if (total := sum(record.clips for record in records)) == 0:
        raise ValueError(f"no video in {features} has clips: extract features of others too")
    rows = times = None
    written = 0
    with header.file(folder, "videos").open("w", encoding="utf-8", errors="surrogateescape") as lines:
        with Progress(len(records), "video", show=progress) as bar:
            for record in records:
                values, spans = _rows_of(features, record, header)
                if rows is None or times is None:
                    shape = (total, values.shape[1])
                    rows = open_memmap(header.file(folder, "rows"), "w+", np.float32, shape)
                    times = open_memmap(header.file(folder, "times"), "w+", np.float64, (total, 2))
                if values.shape[1] != rows.shape[1]:
                    raise ValueError(
                        f"{record.name} has {header.array} of {values.shape[1]} numbers, but others have {rows.shape[1]}: "
                        "extract all of them again"
                    )
                rows[written : written + len(values)], times[written : written + len(values)] = values, spans
                written += len(values)
                video = IndexedVideo(
                    name=record.name,
                    path=_absolute(record.path),
                    size=record.size,
                    fingerprint=record.fingerprint,
                    rows=len(values),
                )
                lines.write(json.dumps(dataclasses.asdict(video)) + "\n")
                bar.update()
    assert rows is not None
    assert times is not None
    rows.flush()
    times.flush()
    return rows


def _rows_of(features: Path, record: VideoRecord, header: _Header) -> tuple[np.ndarray, np.ndarray]:
    """Returns the unit rows of a video, float32 [n, D], and their times, float64 [n, 2]."""
    if record.settings != header.settings:
        raise ValueError(
            f"the features of {record.name} were made with other settings than those before: extract all of them again"
        )
    arrays = load_video_features(features, record, [header.array])
    values = np.ascontiguousarray(arrays[header.array], np.float32)
    if values.ndim != 2:
        raise ValueError(
            f"{header.array} of {record.name} has whole maps, {list(values.shape[1:])} per clip, but an index takes vectors: "
            "extract with --pool avg"
        )
    if len(values) != record.clips:
        raise ValueError(
            f"{header.array} of {record.name} has {len(values)} clips, but its manifest says {record.clips}: remove its "
            "features and extract them again"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{header.array} of {record.name} is not finite: remove its features and extract them again")
    lengths = np.sqrt(np.square(values, dtype=np.float64).sum(1, keepdims=True))
    values = (values / np.maximum(lengths, 1e-30)).astype(np.float32)
    return values, np.stack([arrays["start"], arrays["end"]], 1).astype(np.float64)


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if not is_url(path) and Path(path).exists() else path


def _remove_files(folder: Path, which: Callable[[str], bool]) -> None:
    """Removes the files of builds whose names `which` accepts."""
    for pattern in ("rows-*.npy", "times-*.npy", "videos-*.jsonl", "neighbors-*.faiss"):
        for file in folder.glob(pattern):
            if which(file.name):
                file.unlink(missing_ok=True)


def open_index(path: str | os.PathLike[str], array: str | None = None) -> Index:
    """Opens an index.

    Args:
        path: the folder of the index, or of the features that it is of.
        array: which of the features' indexes (default: that of the embedding, or else the only one).

    Raises:
        FileNotFoundError: there is no index.
        ValueError: the index is damaged, or there are several.
        ImportError: the index needs faiss, which is not installed.
    """
    folder = Path(path)
    if (folder / _HEADER).exists():
        index = Index(folder)
        if array not in (None, index.array):
            raise ValueError(f"{folder} is an index of {index.array}, got array {array}: name the folder of features")
        return index
    there = sorted(file.parent.relative_to(folder / FOLDER).as_posix() for file in (folder / FOLDER).rglob(_HEADER))
    if array is None:
        if len(there) > 1 and "embedding" not in there:
            raise ValueError(f"{folder} has indexes of {', '.join(there)}: choose one with array (--array)")
        array = there[0] if len(there) == 1 else "embedding"
    elif array not in there:
        raise FileNotFoundError(f"no index of {array} in {folder}: `vie index {folder} --array {array}` makes it")
    return Index(folder / FOLDER / array)


def _read_header(folder: Path) -> _Header:
    path = folder / _HEADER
    if not path.is_file():
        raise FileNotFoundError(f"no index in {folder}: `vie index FEATURES` makes one of a folder of features")
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != _FORMAT:
            raise ValueError("another version of vie_models wrote it")
        header = _Header(**content)
        if not header.build.isalnum():  # it becomes part of file names
            raise ValueError(f"build is {header.build!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {_REMEDY}") from error
    return header


_REMEDY = "run `vie index` on the features again"
