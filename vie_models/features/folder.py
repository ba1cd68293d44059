"""Reads and writes folders of features: one file per video, and a manifest with one line per video.

A run can be stopped at any time.

OUT/manifest.jsonl              one line per video (with shards: manifest.2-of-4.jsonl); the last line of a video counts
OUT/<name>.npz or .parquet      written under a temporary name, then renamed; its manifest line comes after that
OUT/.manifest.jsonl.lock        locked while a run writes
"""

from __future__ import annotations

import contextlib
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

from ..failures import NothingReadError, check_failures
from ..files import identity, locked

Format = Literal["npz", "parquet"]
MANIFEST = "manifest.jsonl"
_CLIP_COLUMNS = ("start", "end", "looped")


@dataclasses.dataclass
class VideoRecord:
    """One line of the manifest."""

    name: str
    """Path of the video in its folder; its features are in `<name>.npz`."""
    path: str
    """Path that the video was read from."""
    status: str
    """"ok"; "damaged": there are features of what could be read; "failed": there are none; "skipped": not named like a video.
    Only the parts of a file that its clips need are read, so damage elsewhere goes unnoticed."""
    reason: str | None = None
    """Why the status is not "ok"."""
    features: str | None = None
    """Path of the features file, relative to the output folder."""
    size: int | None = None
    """Size of the video file in bytes. None for an address."""
    fingerprint: str | None = None
    """SHA-256 of the size and of 64 KiB each at the start, middle and end of the file; of an address, SHA-256 of it."""
    clips: int = 0
    """Number of clips."""
    looped: int = 0
    """Number of clips that reached the end of the video and started again."""
    duration: float | None = None
    """Seconds to the end of the last readable frame, rounded to the frame grid."""
    video: dict[str, Any] | None = None
    """What the file's headers say: container, codec, width, height, fps, claimed_duration in seconds. And what decoding the
    whole file found, if anything: numbers of places where recordings were joined, and of concealed and skipped frames."""
    settings: dict[str, Any] | None = None
    """Everything that the features depend on: model, hash of its weights, sampling, layers, pooling, precision."""
    versions: dict[str, str] | None = None
    """Versions of vie_models, PyTorch and the decoder."""


@dataclasses.dataclass
class Features:
    """All features of a folder, as `load_features` returns them; row i of every array and column is clip i of N."""

    arrays: dict[str, np.ndarray]
    """"embedding" [N, D]; one array per layer, [N, C] or [N, C, T, H, W]; "frame_times" [N, T] in seconds."""
    table: dict[str, np.ndarray]
    """Columns name, path, status, clip, start, end (seconds) and looped, each [N]."""

    def __len__(self) -> int:
        return len(self.table["name"])

    def __repr__(self) -> str:
        names = sorted(self.arrays, key=lambda name: name != "embedding")
        shapes = ", ".join(f"{name} {list(self.arrays[name].shape)}" for name in names)
        return f"Features({len(self)} clips of {len(np.unique(self.table['name']))} videos; {shapes})"

    def to_pandas(self) -> Any:
        """Returns a pandas.DataFrame with a row per clip: the columns of `table`, and embedding_0, embedding_1 and so on.

        Raises:
            ValueError: an array has maps, not vectors.
            ImportError: pandas is not installed.
        """
        pandas = _imported("pandas", "to_pandas needs pandas: pip install pandas")
        parts = [pandas.DataFrame(self.table)]
        for name, array in self.arrays.items():
            if array.ndim != 2:
                raise ValueError(f"{name} is {list(array.shape[1:])} per clip, and a column holds numbers: use to_xarray")
            parts.append(pandas.DataFrame(array, columns=[f"{name}_{k}" for k in range(array.shape[1])]))
        return pandas.concat(parts, axis=1)

    def to_xarray(self) -> Any:
        """Returns an xarray.Dataset with the arrays, along the dimension "row"; the columns of `table` are its coordinates.

        The other dimensions are "frame" for frame_times, and for the array NAME "NAME_channel", "NAME_time", "NAME_height"
        and "NAME_width".

        Raises:
            ImportError: xarray is not installed.
        """
        xarray = _imported("xarray", "to_xarray needs xarray: pip install 'vie_models[neuro]'")

        def dimensions(name: str, array: np.ndarray) -> list[str]:
            if name == "frame_times":
                return ["row", "frame"]
            axes = ("channel", "time", "height", "width")
            return ["row", *(f"{name}_{axis}" for axis in axes[: array.ndim - 1])]

        return xarray.Dataset(
            {name: (dimensions(name, array), array) for name, array in self.arrays.items()},
            {name: ("row", column) for name, column in self.table.items()},
        )


class FeatureFolder:
    """A folder of features that a run writes to; a context manager.

    Raises:
        BlockingIOError: another run is writing to the folder (on entering).
        ValueError: features in the folder were made with other settings (on entering), or an argument is invalid.
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
        self._records: dict[str, VideoRecord] = {}  # from this shard's manifest
        self._others: dict[str, VideoRecord] = {}

    def __enter__(self) -> FeatureFolder:
        busy = f"another run is writing to {self.folder}: wait for it, or choose another folder"
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.folder / f".{self._manifest.name}.lock", busy))
            self.read()
            self._rewrite()  # drops the unfinished line of a killed run
            self._handle = self._manifest.open("a")
            self._lock = stack.pop_all()
        return self

    def read(self, ignore: Sequence[str] = ()) -> None:
        """Reads what runs have written so far, for `finished`, without locking the folder.

        Raises:
            ValueError: there are features made with other settings; those named in `ignore` may differ.
        """
        for manifest in self.folder.glob("manifest*.jsonl"):
            (self._records if manifest == self._manifest else self._others).update(read_manifest(manifest))
        for record in [*self._others.values(), *self._records.values()]:
            self._check_settings(record, ignore)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._handle.close()
            self._rewrite()

    def _check_settings(self, record: VideoRecord, ignore: Sequence[str]) -> None:
        if not record.features or record.settings == self.settings:
            return
        there = record.settings or {}
        differing = [
            f"{key}={there.get(key)!r} there, {self.settings.get(key)!r} now"
            for key in ("model", *sorted({*there, *self.settings} - {"model"}))
            if there.get(key) != self.settings.get(key) and key not in ignore
        ]
        if not differing:
            return
        raise ValueError(
            f"{self.folder} has features made with other settings: choose another folder, or use the same settings. Differing: "
            + "; ".join(differing)
        )

    def _rewrite(self) -> None:
        """Rewrites the manifest with one line per video, sorted by name."""
        temporary = self._manifest.with_name(f".{self._manifest.name}.part")
        with temporary.open("w") as file:
            file.writelines(_line(self._records[name]) for name in sorted(self._records))
        temporary.replace(self._manifest)

    def finished(self, name: str, path: Path | str) -> VideoRecord | None:
        """Returns the record of a video that already has features, or None.

        Raises:
            ValueError: features with that name exist, but they come from another file.
        """
        for records in (self._records, self._others):
            record = records.get(name)
            if record and record.features and _is_complete(self.folder / record.features):
                try:
                    size, fingerprint = identity(path)
                except OSError:  # the video is gone, but its features are still there
                    return record
                if (size, fingerprint) != (record.size, record.fingerprint):
                    raise ValueError(
                        f"{self.folder / record.features} has features of another file than {path} (of {record.path}, "
                        f"{record.size} bytes; this one has {size}): remove it, or choose another folder"
                    )
                return record
        return None

    def write(self, record: VideoRecord, arrays: dict[str, np.ndarray] | None = None) -> None:
        """Writes the features, if any, and then the record."""
        if record.settings is not None:
            record.settings = self.settings
        if arrays is not None:
            self.write_features(record, arrays)
        self._records[record.name] = record
        self._handle.write(_line(record))
        self._handle.flush()

    def write_features(self, record: VideoRecord, arrays: dict[str, np.ndarray]) -> None:
        """Writes the features without their record, and says in it where they are. Other processes may write there, too.

        If no file can have that name, the record says that the video failed.
        """
        try:
            record.features = self._write_file(record, arrays)
        except UnicodeEncodeError:
            record.status = "failed"
            record.reason = "its name or path is not valid Unicode, which Parquet needs: rename it, or choose npz"
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL):
                raise
            record.status = "failed"
            record.reason = f"{record.name}.{self.format} cannot be written: {error.strerror}"

    def _write_file(self, record: VideoRecord, arrays: dict[str, np.ndarray]) -> str:
        """Writes a file of features, and returns its path in the folder."""
        features = f"{record.name}.{self.format}"
        file = self.folder / features
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
        return features


def read_manifest(manifest: Path) -> dict[str, VideoRecord]:
    """Returns the last record of each name. Skips an unfinished last line, which a killed run leaves.

    Raises:
        ValueError: a line is not valid.
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
                    f"{manifest}, line {number} is not a valid manifest line ({error}): remove the line or the file"
                ) from error
            if last and last.settings == record.settings:  # share one object among all records: there may be millions
                record.settings = last.settings
            if last and last.versions == record.versions:
                record.versions = last.versions
            records[record.name] = last = record
    return records


def load_features(folder: str | os.PathLike[str], arrays: Iterable[str] | None = None) -> Features:
    """Loads all features (of all shards) that `Extractor.extract` or `vie extract` wrote to a folder, sorted by name.

    Args:
        folder: the output folder.
        arrays: names of the arrays to load: "embedding", "frame_times" or layer names (default: all).

    Returns:
        The features: `arrays` and `table` with one row per clip.

    Raises:
        FileNotFoundError: the folder has no manifest.
        ValueError: no video has features, an array is missing, or a features file cannot be read.
    """
    folder = Path(folder)
    with_features = list(records_with_features(folder).values())
    wanted = None if arrays is None else list(arrays)
    loaded = [load_video_features(folder, record, wanted) for record in with_features]
    kept = [name for name in loaded[0] if name not in _CLIP_COLUMNS]
    columns = {name: np.concatenate([one[name] for one in loaded]) for name in _CLIP_COLUMNS}
    lengths = [len(one["start"]) for one in loaded]
    table = {
        column: np.repeat(np.array([getattr(record, column) for record in with_features]), lengths)
        for column in ("name", "path", "status")
    }
    table |= {"clip": np.concatenate([np.arange(length) for length in lengths]), **columns}
    return Features({name: np.concatenate([one[name] for one in loaded]) for name in kept}, table)


def check_records(records: Iterable[VideoRecord], max_failed: float, *, remedy: str = "") -> None:
    """Raises an error if too many of the videos failed: see `failures.check_failures`."""
    tried = [record for record in records if record.status != "skipped"]
    if failed := [record for record in tried if record.status == "failed"]:
        first = f"{failed[0].path}: {failed[0].reason}"
        check_failures(len(failed), len(tried), max_failed, what="videos", first=first, remedy=remedy)


def records_with_features(folder: Path) -> dict[str, VideoRecord]:
    """Returns the records of the videos that have features, from the manifests of all shards, sorted by name.

    Raises:
        FileNotFoundError: the folder has no manifest.
        ValueError: no video has features, or a manifest is not valid.
    """
    records = read_manifests(folder)
    found = {name: records[name] for name in sorted(records) if records[name].features}
    if not found:
        why = next((f": {name}: {record.reason}" for name, record in records.items() if record.reason), "")
        raise NothingReadError(f"none of the {len(records)} videos in the manifest of {folder} has features{why}")
    return found


def read_manifests(folder: Path) -> dict[str, VideoRecord]:
    """Returns the record of each video from the manifests of all shards, one with features if there is any.

    Raises:
        FileNotFoundError: the folder has no manifest.
        ValueError: a manifest is not valid.
    """
    manifests = sorted(folder.glob("manifest*.jsonl"))
    if not manifests:
        raise FileNotFoundError(f"no {MANIFEST} in {folder}: is it the output folder of `vie extract`?")
    records: dict[str, VideoRecord] = {}
    for manifest in manifests:
        for name, record in read_manifest(manifest).items():
            if name not in records or (record.features and (folder / record.features).exists()):
                records[name] = record
    return records


def load_video_features(folder: Path, record: VideoRecord, wanted: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Loads the arrays of one video: those that are wanted (default: all), and always start, end and looped.

    Raises:
        ValueError: an array is missing, or the file cannot be read.
    """
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
        raise ValueError(f"{path} cannot be read ({error}): remove it and run the extraction again") from error
    if missing := [name for name in wanted or () if name not in there]:
        raise ValueError(f"{path} has no {', '.join(missing)}")
    return {name: there[name] for name in (there if wanted is None else (*wanted, *_CLIP_COLUMNS))}


def clip_table(record: VideoRecord, arrays: dict[str, np.ndarray]) -> Any:
    """Returns a pyarrow table with one row per clip: name, path, clip and every array (2-D ones as fixed-size lists)."""
    pyarrow = _import_pyarrow()
    clips = len(arrays["embedding"])
    columns: dict[str, Any] = {
        "name": [record.name] * clips,
        "path": [record.path] * clips,
        "clip": pyarrow.array(range(clips), pyarrow.int32()),
    }
    for name, values in arrays.items():
        if values.ndim > 2:
            raise ValueError(f"Parquet holds vectors only, but {name} is {list(values.shape[1:])} per clip: use pooling or npz")
        flat = pyarrow.array(values.ravel())
        columns[name] = flat if values.ndim == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pyarrow.table(columns)


def _array(column: Any) -> np.ndarray:
    """Returns a column of numbers as [N], or a column of fixed-size lists as [N, D]."""
    values = column.combine_chunks()
    if hasattr(values, "chunks"):  # older versions
        values = values.chunk(0)
    if hasattr(values.type, "list_size"):
        return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), values.type.list_size)
    return values.to_numpy(zero_copy_only=False)


def is_output(path: Path) -> bool:
    """Whether extraction writes files with such a name."""
    return path.suffix in (".npz", ".parquet") or (path.name.startswith("manifest") and path.suffix == ".jsonl")


def _is_complete(features: Path) -> bool:
    """Whether a features file exists and is complete: both formats end with their table of contents."""
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
    _imported("pyarrow.parquet", message := "Parquet needs pyarrow: pip install 'vie_models[parquet]'")
    return _imported("pyarrow", message)


def _imported(module: str, message: str) -> Any:
    """Imports a module that not everybody has. Without it, raises ImportError with the message."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(message) from error
