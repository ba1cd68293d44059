"""An index over a folder of features, which finds the rows nearest to a vector. It grows.

N rows, D dimensions, Q queries."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..features.folder import records_with_features
from ..files import identity
from ..names import is_two_pathway
from ..video.sources import path_or_url
from .neighbours import SLACK, Near, exact_ranked, kind_for, ranked
from .store import (
    FACTS,
    Facts,
    IndexedVideo,
    Kind,
    append,
    last_generation,
    new_records,
    read_facts,
    read_videos,
    write_facts,
    writing,
)

if TYPE_CHECKING:
    from ..models import Encoder
    from .examples import Example

FOLDER = "index"  # of the indexes in a folder of features; each has the name of its array
Pathway = Literal["static", "dynamic"]
_RETRAIN = 2.0  # growth beyond this many times the rows that faiss's lists were trained for trains them again


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


class Table:
    """Where each row comes from.

    Attributes:
        videos: the videos in the order of their rows.
        video: number of each row's video, int32 [N].
        start, end: seconds, float64 [N], memory-mapped.
    """

    def __init__(self, videos: list[IndexedVideo], times: np.ndarray) -> None:
        self.videos = videos
        self.video = np.repeat(np.arange(len(videos), dtype=np.int32), [video.rows for video in videos])
        self.start, self.end = times[:, 0], times[:, 1]

    @property
    def name(self) -> np.ndarray:
        """Name of each row's video, [N]."""
        return np.array([video.name for video in self.videos])[self.video]

    @property
    def path(self) -> np.ndarray:
        """Path of each row's video, [N]."""
        return np.array([video.path for video in self.videos])[self.video]


class Index:
    """An index that was opened with `open_index` or `build_index`.

    Attributes:
        folder: where it lies.
        rows: unit rows, float32 [N, D], memory-mapped. Changes to them stay in memory.
        table: the videos and times of the rows.
        near: faiss's index, or None if the kind is exact. `near.probes` trades speed for recall.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._model: Encoder | None = None
        try:
            self._read()
        except (OSError, ValueError):  # a rebuild that ended just now removed the files that it replaced
            self._read()

    def _read(self) -> None:
        facts = self.facts = read_facts(self.folder)
        shape = (facts.rows, facts.dim)
        self.rows = np.memmap(facts.file(self.folder, "rows"), np.float32, "c", shape=shape)
        times = np.memmap(facts.file(self.folder, "times"), np.float64, "r", shape=(facts.rows, 2))
        self.table = Table(read_videos(self.folder, facts), times)
        self.near = Near.open(self.folder / facts.near, facts.kind) if facts.near else None

    def __len__(self) -> int:
        return self.facts.rows

    @property
    def kind(self) -> Kind:
        """How neighbours are found: "exact", "ivf" or "hnsw"."""
        return self.facts.kind

    @property
    def settings(self) -> dict[str, Any]:
        """What the features depend on: model, weights, clips, layers and so on, as in their manifest."""
        return self.facts.settings

    @property
    def features(self) -> Path:
        """The folder of features."""
        return Path(os.path.normpath(self.folder / self.facts.features))

    @property
    def pathways(self) -> dict[str, slice]:
        """The part of a row that belongs to each pathway of a two-pathway model; empty for other models and for layers."""
        if self.facts.array != "embedding" or not is_two_pathway(self.settings.get("model", "")) or self.facts.dim % 2:
            return {}
        half = self.facts.dim // 2
        return {"static": slice(0, half), "dynamic": slice(half, 2 * half)}

    def grow(self, *, progress: bool = False) -> int:
        """Takes in the videos that are new in the folder of features, and returns the number of rows that were added.

        The new rows follow the old ones, sorted by name. They equal those of a new build, and an exact index finds the same.
        faiss puts them into the lists of the first build, until there are twice as many rows; then it trains new lists.

        Raises:
            ValueError: features of indexed videos were removed, or come from another file or other settings now.
            BlockingIOError: another job is writing to the index.
        """
        with writing(self.folder):
            self._read()
            records = records_with_features(self.features)
            new = new_records(self.table.videos, records, self.facts)
            before = len(self)
            if new:
                facts = append(self.folder, self.facts, self.features, new, total=len(new), progress=progress)
                write_facts(self.folder, _with_near(self.folder, facts, self.near))
                self._read()
            return len(self) - before

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
        if self.near is None:
            return exact_ranked(self.rows, queries, k, leave_out)
        wanted = 4 * k + SLACK + (0 if leave_out is None else len(leave_out))
        found = self.near.nearest(queries, min(wanted, len(self)))
        if leave_out is not None:
            found = np.where(np.isin(found, leave_out), -1, found)
        return ranked(self.rows, queries, found)

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
        if query.shape != (self.facts.dim,):
            raise ValueError(f"a query must be [{self.facts.dim}], as the rows are, got {list(query.shape)}")
        spans = [self.rows_in(*span) for span in exclude or ()]
        excluded = np.concatenate(spans) if spans else None
        (dots,), (rows,) = self._ranked(query[None], k, excluded, pathway)
        least = dots[min(k, len(dots)) - 1]
        near = zip(rows.tolist(), dots.tolist(), strict=True)
        hits = [self.hit(row, dot) for row, dot in near if row >= 0 and dot >= least]
        return sorted(hits, key=lambda hit: (-hit.similarity, hit.name, hit.start))[:k]

    def hit(self, row: int, similarity: float = 1.0) -> Hit:
        """Describes a row."""
        video = self.table.videos[self.table.video[row]]
        return Hit(row, video.name, video.path, float(self.table.start[row]), float(self.table.end[row]), similarity)

    def rows_in(self, path: str | os.PathLike[str], start: float = -np.inf, end: float = np.inf) -> np.ndarray:
        """Returns the numbers of a video's rows that overlap a span of seconds. The file is recognised by its content."""
        wanted = self.numbers_of(path)
        first = np.searchsorted(self.table.video, wanted)
        last = np.searchsorted(self.table.video, wanted, side="right")
        rows = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)] or [np.empty(0, np.int64)])
        return rows[(self.table.start[rows] < end) & (self.table.end[rows] > start)]

    def numbers_of(self, path: str | os.PathLike[str]) -> list[int]:
        """Returns the numbers of the indexed videos that are this file, by its content; or by its path if it is gone."""
        try:
            size, fingerprint = identity(path_or_url(path))
        except OSError:
            return [number for number, video in enumerate(self.table.videos) if video.path == str(path)]
        same = (size, fingerprint)
        return [number for number, video in enumerate(self.table.videos) if (video.size, video.fingerprint) == same]

    def embed(self, example: Example, model: Encoder | None = None) -> np.ndarray:
        """Embeds an example as the features were made: a unit vector, float32 [D].

        Args:
            example: a video, or a moment of it.
            model: the encoder that made the features (default: it is loaded by the name in their manifest, once).

        Raises:
            FileNotFoundError: the video does not exist.
            VideoError: the video cannot be read.
            ValueError: the moment does not lie in the video, or the model or its weights are others than the features'.
        """
        from .examples import embed, model_of

        if model is None:
            model = self._model = self._model or model_of(self.settings)
        return embed(example, model, self.settings, self.facts.array)

    def _units(self, queries: np.ndarray, pathway: Pathway | None) -> np.ndarray:
        """Returns the queries with unit length; for a pathway, such that dot products are its cosine similarities."""
        if queries.ndim != 2 or queries.shape[1] != self.facts.dim:
            raise ValueError(f"queries must be [Q, {self.facts.dim}], as the rows are, got {list(queries.shape)}")
        if pathway is not None:
            if pathway not in self.pathways:
                here = f"{self.facts.array} of {self.settings.get('model')}"
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
    rebuild: bool = False,
    progress: bool = False,
) -> Index:
    """Builds an index over a folder of features; or if there is one, takes in the new videos.

    A killed build leaves what was there before.

    Args:
        features: the output folder of `vie extract`.
        array: "embedding" or the name of a layer, averaged over space and time. Rows are normalised.
        kind: "exact" compares with all rows. "ivf" and "hnsw" look only at some, by way of faiss, whose rows take a quarter of
            the memory. "auto": exact up to a million rows, then ivf.
        out: folder of the index (default: FEATURES/index/ARRAY).
        rebuild: build anew, even if there is an index.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: there are no features.
        ValueError: the features are whole maps, are not finite, or differ in their settings; the index that is there is
            damaged, or has another kind; features of indexed videos were removed or changed.
        ImportError: the kind needs faiss, which is not installed.
        BlockingIOError: another job is writing to the index.
    """
    if kind not in ("auto", "exact", "ivf", "hnsw"):
        raise ValueError(f"kind must be auto, exact, ivf or hnsw, got {kind!r}")
    source = Path(features)
    folder = Path(out) if out is not None else source / FOLDER / array
    if (folder / FACTS).exists() and not rebuild:
        index = Index(folder)
        if kind not in ("auto", index.kind) or array != index.facts.array or not _same(index.features, source):
            raise ValueError(
                f"{folder} is an index of {index.facts.array} of {index.features} of kind {index.kind}: choose another folder, "
                "or build it anew with rebuild=True (--rebuild)"
            )
        index.grow(progress=progress)
        return index
    records = records_with_features(source)
    layers = (next(iter(records.values())).settings or {}).get("layers")
    if layers is not None and array not in ("embedding", *layers):
        raise ValueError(f"array must be one of {', '.join(['embedding', *layers])}, which {source} has, got {array!r}")
    with writing(folder):
        facts = Facts(
            array=array,
            dim=0,
            kind="exact" if kind == "auto" else kind,
            chosen=kind != "auto",
            features=os.path.relpath(source, folder),
            settings=next(iter(records.values())).settings or {},
            generation=last_generation(folder) + 1,
        )
        facts = append(folder, facts, source, records.values(), total=len(records), progress=progress)
        write_facts(folder, _with_near(folder, facts, None))
    return Index(folder)


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
    if (folder / FACTS).exists():
        index = Index(folder)
        if array not in (None, index.facts.array):
            raise ValueError(f"{folder} is an index of {index.facts.array}, got array {array}: name the folder of features")
        return index
    there = sorted(file.parent.relative_to(folder / FOLDER).as_posix() for file in (folder / FOLDER).rglob(FACTS))
    if array is None:
        if len(there) > 1 and "embedding" not in there:
            raise ValueError(f"{folder} has indexes of {', '.join(there)}: choose one with array (--array)")
        array = there[0] if len(there) == 1 else "embedding"
    elif array not in there:
        raise FileNotFoundError(f"no index of {array} in {folder}: `vie index {folder} --array {array}` makes it")
    return Index(folder / FOLDER / array)


def _with_near(folder: Path, facts: Facts, near: Near | None) -> Facts:
    """Returns the facts with faiss's file of all rows, which it writes, if the kind is not exact."""
    kind = facts.kind if facts.chosen else kind_for(facts.rows)
    if kind == "exact":
        return dataclasses.replace(facts, kind=kind, near=None, near_bytes=0)
    rows = np.memmap(facts.file(folder, "rows"), np.float32, "r", shape=(facts.rows, facts.dim))
    trained_rows = facts.trained_rows
    if near is None or near.kind != kind or facts.rows > _RETRAIN * trained_rows:
        filled, trained_rows = Near.trained(kind, rows), facts.rows
    else:
        assert facts.near
        filled = Near.open(folder / facts.near, kind, mapped=False)
    filled.add(rows[len(filled) :])
    name = f"near-{facts.generation}-{facts.rows}.faiss"
    filled.write(folder / name)
    size = (folder / name).stat().st_size
    return dataclasses.replace(facts, kind=kind, near=name, near_bytes=size, trained_rows=trained_rows)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
