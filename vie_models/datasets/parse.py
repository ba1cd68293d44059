"""Parses the text of list files, and says which line is wrong and what to do about it.

A line is `path frames label`, `path label` or `path`, and a path may have blanks. So where a path ends is not always clear:
"my video 2 5" may be a video with label 5, or a path. It is clear where a tab ends the path on every line, and where the path
has the suffix of a video or an image. Elsewhere a path is what exists on disk. So is what looks like a mistake: a comment,
quotes, commas.
"""

from __future__ import annotations

import codecs
import dataclasses
import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..failures import NothingReadError
from ..files import VIDEO_SUFFIXES
from ..video.frames import GRID_FPS, VideoError
from ..video.packed import INDEX
from ..video.remote import is_url
from ..video.sources import IMAGE_SUFFIXES, open_video

NO_LABEL = -1
_MAX_CLASSES = 100_000  # classes, of which a score and a row of weights are kept each
_SHORT = 1000  # frames; longer videos are not opened to check the number
_SAMPLE = 100  # lines that are looked up on disk where no suffix says where paths end
_START = 4096  # bytes that tell text from other files
_INTEGER = re.compile("-?[0-9]+")
_NUMBERS = re.compile(r"(?P<path>.*?)(?P<numbers>(?:\s+-?[0-9]+){0,2})")
_KNOWN = "|".join(suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES)
_SUFFIXED = re.compile(rf"(?P<path>.*\.(?:{_KNOWN}))(?P<rest>[\s,;|\"'].*)?", re.IGNORECASE)
_QUOTED = re.compile("[\"'`\u2018\u201c].*[\"'`\u2019\u201d]")
_SEPARATED = re.compile(r"-?[0-9]+[,;|].*|.*[,;|]\s*-?[0-9]+")
_NUMBER_FIRST = re.compile(r"-?[0-9]+\s+(?P<path>.*)")
_NUMERIC = re.compile(r"[-+]*\d[\d.,eE_+-]*")
_COLUMN = re.compile(
    r"(path|file|filename|file_?path|file_?name|video|video_?path|video_?name|name|clip|image|frames|num_?frames|n_?frames"
    r"|label|labels|class|class_?id|target|category|id|start|end|split)s?",
    re.IGNORECASE,
)
FORMS = "`path frames label`, `path label` or `path`"
_COLUMNS = ("no number", "one number (a label)", "two numbers (frames and a label)")


@dataclasses.dataclass
class Line:
    """A line that names a video."""

    number: int
    """In the file, from 1."""
    text: str
    path: str = ""
    numbers: tuple[int, ...] = ()
    """Up to two integers behind the path."""
    is_clear: bool = False
    """Whether the path can end nowhere else."""

    def cut(self, columns: int) -> str:
        """The path, if `columns` numbers follow it."""
        return self.text.rsplit(maxsplit=columns)[0] if columns < len(self.numbers) else self.path


def parse(file: Path, root: str | os.PathLike[str]) -> list[Line]:
    """Returns the lines of a list file, with as many numbers each. Raises ValueError as `read_list` does."""
    lines = [Line(number, text) for number, text in _texts(file, root) if text]
    if not lines:
        raise NothingReadError(f"{file} names no video: it needs one line per video, such as `path frames label`")
    by_tab = all("\t" in line.text for line in lines)
    for line in lines:
        problem = _split(line, line is lines[0], by_tab)
        if problem and not any(is_there(line.cut(columns), root) for columns in range(len(line.numbers) + 1)):
            raise ValueError(f"{file}, line {line.number}: {problem} (no file in {Path(root).absolute()} has this name)")
        if (first := _NUMBER_FIRST.fullmatch(line.text)) and is_there(first["path"], root) and not is_there(line.text, root):
            raise ValueError(f"{file}, line {line.number}: {line.text!r} begins with a number: the label goes behind the path")
    columns = _columns(lines, file, root)
    for line in lines:
        line.path, line.numbers = line.cut(columns), line.numbers[len(line.numbers) - columns :]
    if columns:
        _check_numbers(lines, file, root)
    return lines


def is_there(path: str, root: str | os.PathLike[str]) -> bool:
    """Whether a path of a list names something. Of a video in a pack: whether the pack is there. Addresses are not asked."""
    if is_url(path):
        return True
    index, within, _ = os.fspath(Path(root, path)).partition(f"{os.sep}{INDEX}{os.sep}")
    return os.path.lexists(f"{index}{os.sep}{INDEX}" if within else index)  # Path.exists raises for long names


# --- from bytes to lines -------------------------------------------------------------------------------------------------


def _texts(file: Path, root: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Returns the lines and their numbers. A path may have any bytes if it exists; other text must be UTF-8."""
    with file.open("rb") as content:
        start = content.read(_START)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _alternates(start):
            raise ValueError(f"{file} is UTF-16: save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)")
        if b"\0" in start or file.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            raise ValueError(f"{file} is no list file: give a text file with one video per line, {FORMS}")
        data = start + content.read()
    lines = data.split(b"\n") if b"\n" in data else data.split(b"\r")  # as old Macs and some spreadsheets end lines
    found = []
    for number, line in enumerate(lines, 1):
        text = os.fsdecode(line).strip().removeprefix("\ufeff").strip()
        found.append((number, text))
        if not text.isascii() and not _is_utf8(line):
            match = _NUMBERS.fullmatch(text)
            if not any(is_there(path, root) for path in (text, match["path"] if match else text)):
                raise ValueError(
                    f"{file}, line {number}: {text!r} is not UTF-8, and there is no such file in {Path(root).absolute()}: "
                    "save the list as UTF-8"
                )
    return found


def _alternates(start: bytes) -> bool:
    """Whether every other byte is mostly 0, as in UTF-16 without a mark."""
    return any(len(half) > 1 and half.count(0) > 0.7 * len(half) for half in (start[::2], start[1::2]))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- from lines to columns -----------------------------------------------------------------------------------------------


def _split(line: Line, is_first: bool, by_tab: bool) -> str | None:
    """Finds the path of a line and the numbers behind it. Returns what looks wrong, with the remedy, or None."""
    text = line.text
    match = _NUMBERS.fullmatch(text)
    assert match
    line.path, line.numbers = match["path"], tuple(map(int, match["numbers"].split()))
    suffixed = _SUFFIXED.fullmatch(text)
    if by_tab:
        path, _, rest = text.partition("\t")
    else:
        path, rest = (suffixed["path"], suffixed["rest"] or "") if suffixed else (text, "")
    fields, last = rest.split(), text.rsplit(maxsplit=1)[-1]
    if is_first and all(_COLUMN.fullmatch(word) for word in re.split(r"[\s,;|]+", text)):
        return f"{text!r} looks like a header, and a list has none: remove the line, and put blanks or tabs between columns"
    if text.startswith("#"):
        return f"{text!r} looks like a comment, and a list has none: remove the line"
    if _QUOTED.match(text):
        return f"{text!r} has quotes, and a list has none, not even around blanks: remove them from all lines"
    if _SEPARATED.fullmatch(text) or rest.lstrip(" \"'").startswith((",", ";", "|")):
        return f"{text!r} has commas or the like between columns: put blanks or tabs in their place, on all lines"
    if not all(_INTEGER.fullmatch(field) for field in fields):
        return (
            f"{rest.strip()!r} follows the path {path!r}: a label is an integer in digits from 0 to 9, and the names of the "
            "labels go in classes.txt beside the list"
        )
    if len(fields) > 2:
        return f"{len(fields)} numbers follow the path {path!r}: a line is {FORMS}, and a video has one label"
    if by_tab or suffixed:
        line.path, line.numbers, line.is_clear = path.strip(), tuple(map(int, fields)), True
    elif last != text and not line.numbers and (last.isnumeric() or _NUMERIC.fullmatch(last)):
        return f"{last!r} ends the line {text!r}: a label is an integer in digits from 0 to 9"
    return None


def _columns(lines: Sequence[Line], file: Path, root: str | os.PathLike[str]) -> int:
    """Returns how many numbers follow the path on every line. ValueError if lines differ."""
    clear = [line for line in lines if line.is_clear]
    columns = Counter(len(line.numbers) for line in clear or lines).most_common(1)[0][0]
    if not clear:
        for fewer in range(columns - 1, -1, -1):
            longer = [line for line in lines if len(line.numbers) > fewer][:_SAMPLE]
            if any(is_there(line.cut(fewer), root) and not is_there(line.cut(len(line.numbers)), root) for line in longer):
                columns = fewer
                break
    usual = next((line for line in lines if len(line.numbers) == columns), lines[0])
    for line in lines:
        number = len(line.numbers)
        is_odd = number != columns if line.is_clear else number < columns
        if number > columns and not is_odd:  # is the path longer, or has the line a number too many?
            is_odd = is_there(line.cut(number), root) and not is_there(line.cut(columns), root)
        if is_odd:
            raise ValueError(
                f"{file}, line {line.number}: {line.text!r} has {_COLUMNS[number]} behind the path, and line {usual.number} "
                f"has {_COLUMNS[columns]}: write {FORMS} on every line alike; label {NO_LABEL} is that of a video without one"
            )
    return columns


def _check_numbers(lines: Sequence[Line], file: Path, root: str | os.PathLike[str]) -> None:
    """Raises ValueError where a label or a number of frames cannot be one."""
    max_label = max(_MAX_CLASSES, 10 * len(lines))
    for line in lines:
        *frames, label = line.numbers
        if label < NO_LABEL:
            raise ValueError(
                f"{file}, line {line.number}: label {label}: labels must be 0 or more, or {NO_LABEL} for a video without one"
            )
        if label >= max_label:
            raise ValueError(
                f"{file}, line {line.number}: label {label}: labels number the classes 0, 1, 2 and so on, and those of a "
                f"list of {len(lines)} videos must be below {max_label}"
            )
        if frames and frames[0] < 1 and INDEX not in Path(line.path).parts:  # a pack lists videos that could not be read
            raise ValueError(f"{file}, line {line.number}: {_not_frames(line)}")
    if len(lines[0].numbers) == 2:
        short = (line for line in lines if line.is_clear and line.numbers[0] < _SHORT and not is_url(line.path))
        found = [(line, _frames(Path(root, line.path))) for line in itertools.islice(short, 3)]
        if found and all(counted > 4 * line.numbers[0] for line, counted in found):
            line, counted = found[0]
            raise ValueError(f"{file}, line {line.number}: {_not_frames(line)}; the video has {counted}")


def _not_frames(line: Line) -> str:
    return (
        f"{line.numbers[0]} is not the number of frames of {line.path}: a line is {FORMS}, and a video has one label; "
        "if these are two labels, make a list for each"
    )


def _frames(path: Path) -> int:
    """The number of frames of a video file at 25 per second; 0 if it cannot be read."""
    if path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
        return 0
    try:
        with open_video(path, GRID_FPS, threads=1) as video:
            return video.num_frames
    except (VideoError, OSError):
        return 0
