"""Finds the videos of an extraction and names their features."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..failures import NothingReadError
from ..files import VIDEO_SUFFIXES
from ..video.remote import is_url, url_name
from ..video.sources import PathOrURL, path_or_url
from ..video.walk import files_below
from .folder import is_output


@dataclasses.dataclass(frozen=True)
class Input:
    """A video and the name of its features; `is_video` is false for files without a video suffix."""

    name: str
    path: PathOrURL
    is_video: bool = True


def find_inputs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], root: Path | None, out_dir: Path
) -> list[Input]:
    """Returns the inputs of an extraction, and the files in its folders that are not named like videos, as skipped ones.

    Raises:
        ValueError: there is no video, a path lies outside the root, or two videos would get the same file of features.
    """
    inputs: list[Input] = []
    sources = [path_or_url(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    for given in sources:
        if isinstance(given, str):
            inputs.append(Input(url_name(given), given))
            continue
        path = given if root is None else root / given
        if root is not None and (not path.is_relative_to(root) or ".." in given.parts):
            raise ValueError(f"paths must lie in the root {root}, got {given}")
        if os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises where the folder above may not be read
            inputs += _search(path, root or path, out_dir)
        else:
            inputs.append(Input(_name(path, root or path), path))
    given_by_name = {found.path for found in inputs if found.is_video}
    inputs = [found for found in inputs if found.is_video or found.path not in given_by_name]
    if not any(found.is_video for found in inputs):
        raise _nothing_found(sources, inputs)
    names = Counter(found.name for found in inputs if found.is_video)
    if twice := sorted(name for name, number in names.items() if number > 1):
        raise ValueError(
            f"two videos would be written to {twice[0]}.npz: extract their common folder, or give paths relative to a root"
        )
    return inputs


def find_videos(paths: Iterable[str | os.PathLike[str]]) -> list[PathOrURL]:
    """Returns the paths and addresses, with the videos in it in place of each folder to be searched.

    Raises:
        ValueError: there is no video in the folders.
    """
    sources = [path_or_url(path) for path in paths]
    found: list[PathOrURL] = []
    others: list[Input] = []
    for path in sources:
        if isinstance(path, Path) and os.path.isdir(path):  # noqa: PTH112
            inputs = list(_search(path, path, None))
            found += [video.path for video in inputs if video.is_video]
            others += [other for other in inputs if not other.is_video]
        else:
            found.append(path)
    if not found:
        raise _nothing_found(sources, others)
    return found


def feature_name(source: PathOrURL) -> str:
    """Returns the name of a video without its folder, or the safe name of an address."""
    return url_name(source) if is_url(source) else Path(source).name


def _nothing_found(sources: list[PathOrURL], others: list[Input]) -> NothingReadError:
    where = ", ".join(map(str, sources[:3])) + (f" and {len(sources) - 3} others" if len(sources) > 3 else "")
    there = f" (there are {len(others)} other files, such as {others[0].name})" if others else ""
    return NothingReadError(
        f"no videos found in {where or 'an empty list'}{there}: a folder is searched for files with a video suffix (.mp4, ...) "
        "and for folders of %06d.jpg frames; give any other file by its own path"
    )


def _search(folder: Path, top: Path, out_dir: Path | None) -> Iterator[Input]:
    """Yields what is in a folder, but for our own output: as a video, if it is named like one or is a folder."""
    is_out = bool(out_dir and out_dir.exists() and out_dir.samefile(top))
    for path in files_below(folder, None if is_out else out_dir):
        if not (is_out and is_output(path)):
            is_video = path.suffix.lower() in VIDEO_SUFFIXES or os.path.isdir(path)  # noqa: PTH112
            yield Input(_name(path, top), path, is_video)


def _name(path: Path, top: Path) -> str:
    """Returns a path in a folder as text, or the name of the folder itself."""
    if path != top:
        return path.relative_to(top).as_posix()
    return path.name if path.name not in ("", "..") else path.resolve().name
