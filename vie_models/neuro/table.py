"""The table of features on disk: NetCDF as Brain-Score's assemblies are laid out, or Parquet as a long table.

P presentations, N neuroids (numbers per time bin, of all layers), K time bins.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .stimuli import Presentation

_CHUNK = 4096  # numbers in a chunk of the file, where a time bin has fewer
_ROWS = 1024  # rows of Parquet written at once


@dataclasses.dataclass(kw_only=True)
class Block:
    """Neighboring neuroids: one time step of a layer's map, or the layer averaged over time."""

    layer: str
    step: int
    """Time step of the map, from 0."""
    size: int
    """Number of neuroids."""
    window: tuple[float, float]
    """The time that they see: from and to, in ms after the start of the time bin."""
    shape: tuple[int, ...] | None
    """(C,) or (C, H, W), in which the neuroids are the entries in C order; None if they are a random projection."""

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the coordinates of the neuroids; -1 where one has no such place."""
        places = np.full((4, self.size), -1)
        if self.shape is None:
            places[3] = np.arange(self.size)
        else:
            grid = np.indices(self.shape).reshape(len(self.shape), -1)
            places[: len(grid)] = grid
        return {
            "time_step": np.full(self.size, self.step),
            "window_start_ms": np.full(self.size, self.window[0]),
            "window_end_ms": np.full(self.size, self.window[1]),
            **dict(zip(("channel", "row", "column", "component"), places, strict=True)),
        }


class TableWriter:
    """Writes a NetCDF file, part by part: float32 [P, N, K] in `features`, NaN where a presentation has no such bin.

    Args:
        path: the file.
        presentations: the rows of the stimulus table.
        blocks: the neuroids.
        max_bins: largest number of bins that a presentation can have, if known.
        about: written as attributes.
    """

    def __init__(
        self,
        path: Path,
        presentations: Sequence[Presentation],
        blocks: Sequence[Block],
        max_bins: int | None,
        about: dict[str, Any],
    ) -> None:
        self._file = _import("netCDF4").Dataset(path, "w")
        self._file.setncatts({k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()})
        size = sum(block.size for block in blocks)
        self._presentations = presentations
        for name, length in (("presentation", len(presentations)), ("neuroid", size), ("time_bin", None)):
            self._file.createDimension(name, length)
        steps = max(min(_CHUNK // size, 64, max_bins or 64), 1)
        chunks = (1, min(size, 4 * _CHUNK), steps)
        self._features = self._file.createVariable(
            "features", "f4", ("presentation", "neuroid", "time_bin"), fill_value=np.float32("nan"), chunksizes=chunks
        )
        self._features.set_var_chunk_cache(64 << 20)
        columns = [block.columns() for block in blocks]
        for name in columns[0]:
            self._coordinate(name, "neuroid", np.concatenate([column[name] for column in columns]))
        layers = np.concatenate([np.full(block.size, block.layer, object) for block in blocks])
        self._coordinate("layer", "neuroid", layers)
        within = np.concatenate([np.arange(block.size) for block in blocks])
        step = np.concatenate([np.full(block.size, block.step) for block in blocks])
        ids = [f"{layer}.{s}.{i}" for layer, s, i in zip(layers, step, within, strict=True)]
        self._coordinate("neuroid_id", "neuroid", np.array(ids, object))
        for name in ("stimulus", "stimulus_id"):
            self._coordinate(name, "presentation", np.array([p.stimulus for p in presentations], object))

    def write(self, presentation: int, first: int, values: np.ndarray) -> None:
        """Writes float32 [n, N], the neuroids of n time bins of a presentation, from bin `first`."""
        self._features[presentation, :, first : first + len(values)] = values.T

    def finish(self, bins: np.ndarray, presented: dict[str, np.ndarray]) -> None:
        """Writes the coordinates of time bins, [K, 2] start and end in ms, and of presentations, each [P], and closes."""
        for name, values in presented.items():
            self._coordinate(name, "presentation", values)
        for name, values in zip(("time_bin_start_ms", "time_bin_end_ms"), bins.T, strict=True):
            self._coordinate(name, "time_bin", values)
        coordinates = [name for name in self._file.variables if name != "features"]
        self._features.coordinates = " ".join(coordinates)
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._file.isopen():
            self._file.close()

    def _coordinate(self, name: str, dimension: str, values: np.ndarray) -> None:
        kind = str if values.dtype.kind in "OU" else values.dtype
        self._file.createVariable(name, kind, (dimension,))[:] = values.astype(object) if kind is str else values


def load_stimulus_features(path: str | os.PathLike[str]) -> Any:
    """Opens a NetCDF table of features, without reading its values before they are used.

    Returns:
        An xarray.DataArray, float32 [presentation, neuroid, time_bin]. Coordinates of presentations are stimulus,
        stimulus_id, onset_ms, duration_ms, time_bins, looped, status and reason; of neuroids layer, neuroid_id, time_step,
        window_start_ms, window_end_ms (after the bin's start), channel, row, column and component; of time bins
        time_bin_start_ms and time_bin_end_ms (after the onset).

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: xarray or netCDF4 is not installed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no table of features at {path}")
    _import("netCDF4")
    table = _import("xarray").open_dataset(path, engine="netcdf4")
    return table["features"].assign_attrs(table.attrs)


def write_parquet(netcdf: Path, path: Path) -> None:
    """Writes a NetCDF table as Parquet: a row for each presentation, time bin, layer and time step, in that order.

    The columns are presentation, stimulus, layer, time_step, time_bin_start_ms, time_bin_end_ms, window_start_ms and
    window_end_ms (after the bin's start), and values, a list of float32.
    """
    pyarrow, parquet = _import("pyarrow"), _import("pyarrow.parquet")
    schema = pyarrow.schema(
        [
            ("presentation", pyarrow.int32()),
            ("stimulus", pyarrow.string()),
            ("layer", pyarrow.string()),
            ("time_step", pyarrow.int32()),
            *[(name, pyarrow.float64()) for name in _TIMES],
            ("values", pyarrow.list_(pyarrow.float32())),
        ]
    )
    with load_stimulus_features(netcdf) as table:
        schema = schema.with_metadata({key: str(value) for key, value in table.attrs.items()})
        with parquet.ParquetWriter(path, schema) as writer:
            for rows in _in_batches(_rows(table)):
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))


_TIMES = ("time_bin_start_ms", "time_bin_end_ms", "window_start_ms", "window_end_ms")


def _rows(table: Any) -> Iterator[dict[str, Any]]:
    layers, steps = table["layer"].values, table["time_step"].values
    edges = np.flatnonzero([True, *((layers[1:] != layers[:-1]) | (steps[1:] != steps[:-1])), True])
    bins = np.stack([table[name].values for name in _TIMES[:2]], 1)
    windows = np.stack([table[name].values for name in _TIMES[2:]], 1)
    for p, stimulus in enumerate(table["stimulus"].values):
        count = int(table["time_bins"].values[p])
        for first in range(0, count, 64):
            values = table[p, :, first : min(first + 64, count)].values
            for k, column in enumerate(values.T, first):
                for begin, end in itertools.pairwise(edges):
                    times = dict(zip(_TIMES, (*bins[k], *windows[begin]), strict=True))
                    block = {"layer": layers[begin], "time_step": steps[begin], "values": column[begin:end]}
                    yield {"presentation": p, "stimulus": stimulus, **block, **times}


def _in_batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"a table of features needs {name}: pip install 'vie_models[neuro]'") from error
