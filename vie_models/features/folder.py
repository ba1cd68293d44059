"""A folder of features: one file a video, and a manifest in which every video appears. Safe to stop at any time.

OUT/manifest.jsonl              a line a video (with shards: manifest.2-of-4.jsonl); of several lines the last one counts
OUT/<name>.npz or .parquet      written under another name and renamed, before its line is written
OUT/.manifest.jsonl.lock        held while a run writes
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

Format = Literal["npz", "parquet"]
MANIFEST = "manifest.jsonl"
_PROBE = 1 << 16  # bytes read at the start, middle and end of a file to know it again


@dataclasses.dataclass
class VideoRecord:
    """One line of the manifest."""

    name: str
    """The video within its folder; its features are in `<name>.npz`."""
    path: str
    """Where it was read."""
    status: str
    """"ok"; "damaged": features of what could be read; "failed": none; "skipped": not a video by its name. A file is read
    where its clips are: damage elsewhere is not seen."""
    reason: str | None = None
    features: str | None = None
    """The file of features, relative to the output folder."""
    size: int | None = None
    """Bytes."""
    fingerprint: str | None = None
    """SHA-256 of the size and of 64 KiB at the start, middle and end."""
    clips: int = 0
    looped: int = 0
    """Clips that ran over the end of the video and began again."""
    duration: float | None = None
    """Seconds, to the end of the last frame that could be read, to the nearest frame of the grid."""
    video: dict[str, Any] | None = None
    """What the file says of itself: container, codec, width, height, fps, claimed_duration in seconds."""
    settings: dict[str, Any] | None = None
    """What the features depend on: model, hash of its weights, sampling, layers, pooling, precision."""
    versions: dict[str, str] | None = None
    """Of this package and of what decoded and computed."""


@dataclasses.dataclass
class Features:
    """What `load_features` returns; row i of every array and column is clip i."""

    arrays: dict[str, np.ndarray]
    """"embedding" [N, D], one array a layer, "frame_times" [N, T] in seconds."""
    table: dict[str, np.ndarray]
    """Columns name, path, status, clip, start, end, looped: `pandas.DataFrame(features.table)`."""


class FeatureFolder:
    """The folder while a run writes to it; a context manager.

    Raises:
        BlockingIOError: another run writes to it (on entering).
        ValueError: what is there was made with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], format: Format = "npz", shard: tuple[int, int] = (0, 1)) -> None:
        if format not in ("npz", "parquet"):
            raise ValueError(f"format must be npz or parquet, got {format!r}")
        index, count = shard
        if not 0 <= index < count:
            raise ValueError(f"shard must be i/N with 0 <= i < N, got {index}/{count}")
        if format == "parquet":
            _import_pyarrow()
        self.folder, self.settings, self.format = folder, {**settings, "format": format}, format
        self._part = "" if count == 1 else f".{index}-of-{count}"
        self._manifest = folder / f"manifest{self._part}.jsonl"
        self._lock = FileLock(folder / f".{self._manifest.name}.lock", timeout=0)
        self._records: dict[str, VideoRecord] = {}  # of our own manifest
        self._others: dict[str, VideoRecord] = {}

    def __enter__(self) -> FeatureFolder:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise BlockingIOError(f"another run is writing to {self.folder}: wait for it, or choose another folder") from None
        try:
            for manifest in self.folder.glob("manifest*.jsonl"):
                (self._records if manifest == self._manifest else self._others).update(read_manifest(manifest))
            for record in [*self._others.values(), *self._records.values()]:
                self._check_settings(record)
            self._rewrite()  # drops a line that a killed run left half-written
            self._handle = self._manifest.open("a")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._handle.close()
            self._rewrite()
        finally:
            self._lock.release()

    def _check_settings(self, record: VideoRecord) -> None:
        if not record.features or record.settings == self.settings:
            return
        there = record.settings or {}
        differing = [
            f"{key}={there.get(key)!r} there, {self.settings.get(key)!r} now"
            for key in sorted({*there, *self.settings})
            if there.get(key) != self.settings.get(key)
        ]
        raise ValueError(
            f"{self.folder} holds features made otherwise ({'; '.join(differing)}): choose another folder, or the same settings"
        )

    def _rewrite(self) -> None:
        """One line a video, in order of name."""
        temporary = self._manifest.with_name(f".{self._manifest.name}.part")
        with temporary.open("w") as file:
            file.writelines(_line(self._records[name]) for name in sorted(self._records))
        temporary.replace(self._manifest)

    def finished(self, name: str, path: Path) -> VideoRecord | None:
        """The record of a video whose features are there.

        Raises:
            ValueError: features of that name are there, but of another file.
        """
        for records in (self._records, self._others):
            record = records.get(name)
            if record and record.features and _is_whole(self.folder / record.features):
                try:
                    size, fingerprint = identity(path)
                except OSError:  # its features are all that is left of it
                    return record
                if (size, fingerprint) != (record.size, record.fingerprint):
                    raise ValueError(
                        f"{self.folder / record.features} holds features of another file than {path} (it was {record.path}, "
                        f"{record.size} bytes; this one has {size}): remove it, or choose another folder"
                    )
                return record
        return None

    def write(self, record: VideoRecord, arrays: dict[str, np.ndarray] | None = None) -> None:
        """Keeps a record, and before it the features, if there are any. A name that no file can have makes it a failed one."""
        if record.settings is not None:
            record.settings = self.settings
        if arrays is not None:
            try:
                self._write_features(record, arrays)
            except OSError as error:
                if error.errno not in (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL):
                    raise
                record.features, record.status = None, "failed"
                record.reason = f"{record.name}.{self.format} cannot be written: {error.strerror}"
        self._records[record.name] = record
        self._handle.write(_line(record))
        self._handle.flush()

    def _write_features(self, record: VideoRecord, arrays: dict[str, np.ndarray]) -> None:
        record.features = f"{record.name}.{self.format}"
        file = self.folder / record.features
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(
            f".{hashlib.sha256(file.name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}{self._part}.part"
        )
        try:
            with temporary.open("wb") as handle:
                if self.format == "npz":
                    np.savez(handle, **arrays)  # type: ignore[arg-type]
                else:
                    _import_pyarrow().parquet.write_table(clip_table(record, arrays), handle)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, str]:
    """(size, fingerprint) of a video; of a folder of frames, the number and names of its files and its first one."""
    if path.is_dir():
        files = sorted(path.glob("*.jpg"))
        digest = hashlib.sha256("\n".join(file.name for file in files).encode())
        digest.update(files[0].read_bytes() if files else b"")
        return sum(file.stat().st_size for file in files), digest.hexdigest()
    if not path.is_file():  # a pipe would keep us waiting
        raise FileNotFoundError(f"no file at {path}")
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for position in sorted({0, max(size // 2 - _PROBE // 2, 0), max(size - _PROBE, 0)}):
            file.seek(position)
            digest.update(file.read(_PROBE))
    return size, digest.hexdigest()


def read_manifest(manifest: Path) -> dict[str, VideoRecord]:
    """Name -> its last record. A last line without an end, of a run that was killed, is left out.

    Raises:
        ValueError: a line is not one of a manifest.
    """
    records = {}
    fields = {field.name for field in dataclasses.fields(VideoRecord)}
    last: VideoRecord | None = None
    with manifest.open(errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                content = json.loads(line)
                record = VideoRecord(**{key: value for key, value in content.items() if key in fields})
                if not isinstance(record.name, str):
                    raise TypeError("its name is not a string")
            except (ValueError, AttributeError, TypeError) as error:
                raise ValueError(
                    f"{manifest}, line {number} is not a line of a manifest ({error}): remove it, or the file"
                ) from error
            if last and last.settings == record.settings:  # one object for all lines: there may be millions
                record.settings = last.settings
            if last and last.versions == record.versions:
                record.versions = last.versions
            records[record.name] = last = record
    return records


def load_features(folder: str | os.PathLike[str], arrays: Iterable[str] | None = None) -> Features:
    """All features of a folder that `Extractor.extract` or `vie extract` wrote (all its shards), in order of name.

    Args:
        folder: the output folder.
        arrays: which arrays to load (default: all), of "embedding", "frame_times" and the layers.

    Raises:
        FileNotFoundError: there is no manifest in it.
        ValueError: no video in it has features, or not the arrays asked for, or a file of features cannot be read.
    """
    folder = Path(folder)
    manifests = sorted(folder.glob("manifest*.jsonl"))
    if not manifests:
        raise FileNotFoundError(f"no {MANIFEST} in {folder}: is it the output folder of `vie extract`?")
    records: dict[str, VideoRecord] = {}
    for manifest in manifests:
        for name, record in read_manifest(manifest).items():
            if name not in records or (record.features and (folder / record.features).exists()):
                records[name] = record
    with_features = [records[name] for name in sorted(records) if records[name].features]
    if not with_features:
        raise ValueError(f"no video in {folder} has features; {manifests[0].name} says why")
    wanted = None if arrays is None else list(arrays)
    loaded = [_load(folder, record, wanted) for record in with_features]
    kept = [name for name in loaded[0] if name not in _CLIP_COLUMNS]
    columns = {name: np.concatenate([one[name] for one in loaded]) for name in _CLIP_COLUMNS}
    lengths = [len(one["start"]) for one in loaded]
    table = {
        column: np.repeat(np.array([getattr(record, column) for record in with_features]), lengths)
        for column in ("name", "path", "status")
    }
    table |= {"clip": np.concatenate([np.arange(length) for length in lengths]), **columns}
    return Features({name: np.concatenate([one[name] for one in loaded]) for name in kept}, table)


_CLIP_COLUMNS = ("start", "end", "looped")


def _load(folder: Path, record: VideoRecord, wanted: Sequence[str] | None) -> dict[str, np.ndarray]:
    assert record.features
    path = folder / record.features
    try:
        if path.suffix == ".parquet":
            table = _import_pyarrow().parquet.read_table(path)
            there = {name: _array(table[name]) for name in table.column_names if name not in ("name", "path", "clip")}
        else:
            with np.load(path, allow_pickle=False) as file:
                there = {name: file[name] for name in file if wanted is None or name in wanted or name in _CLIP_COLUMNS}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}): remove it, and run the extraction again") from error
    if missing := [name for name in wanted or () if name not in there]:
        raise ValueError(f"{path} has no {', '.join(missing)}")
    return {name: there[name] for name in (there if wanted is None else (*wanted, *_CLIP_COLUMNS))}


def clip_table(record: VideoRecord, arrays: dict[str, np.ndarray]) -> Any:
    """A pyarrow table, one row a clip: name, path, clip, and every array, those of two dimensions as lists of fixed size."""
    pyarrow = _import_pyarrow()
    clips = len(arrays["embedding"])
    columns: dict[str, Any] = {
        "name": [record.name] * clips,
        "path": [record.path] * clips,
        "clip": pyarrow.array(range(clips), pyarrow.int32()),
    }
    for name, values in arrays.items():
        if values.ndim > 2:
            raise ValueError(f"Parquet takes vectors, and {name} is {list(values.shape[1:])} a clip: use pooling, or npz")
        flat = pyarrow.array(values.ravel())
        columns[name] = flat if values.ndim == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pyarrow.table(columns)


def _array(column: Any) -> np.ndarray:
    """A column of numbers, or of lists of one size, as [N] or [N, D]."""
    whole = column.combine_chunks()
    if hasattr(whole, "chunks"):  # older versions
        whole = whole.chunk(0)
    if hasattr(whole.type, "list_size"):
        return whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size)
    return whole.to_numpy(zero_copy_only=False)


def is_output(path: Path) -> bool:
    """Whether a file is, by its name, one that extraction writes."""
    return path.suffix in (".npz", ".parquet") or (path.name.startswith("manifest") and path.suffix == ".jsonl")


def _is_whole(features: Path) -> bool:
    """Whether a file of features is there, and not cut short: both kinds end with their table of contents."""
    if features.suffix == ".npz":
        return features.is_file() and zipfile.is_zipfile(features)
    if not features.is_file():
        return False
    with features.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 4, 0))
        return file.read() == b"PAR1"


def _line(record: VideoRecord) -> str:
    return json.dumps(dataclasses.asdict(record)) + "\n"


def _import_pyarrow() -> Any:
    try:
        pyarrow = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'vie_models[parquet]'") from error
    return pyarrow
