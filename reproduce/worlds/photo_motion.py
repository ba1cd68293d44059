"""Renders a pack of videos from photographs (photo_scenes.py), to train on without any real video.

    python -m reproduce.worlds.photo_motion PHOTOS OUT [--level 5] [--size 91] [--frames 75] ...

    PACK/pack.jsonl, shard-00000.bin, classes.txt     as in every pack (video/packed.py): a row per video, photo by photo
    PACK/photo_motion.json                            settings, and a hash of the photographs

Worker processes read every photograph once, small and upright, into a file that all of them map into memory. Then they render.
This process appends the videos in order (pack_writer.py), so the bytes do not depend on the number of workers or on kills.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import torch

from vie_models.cli.exit_codes import exit_code
from vie_models.datasets.lists import read_list
from vie_models.datasets.pack_writer import PackWriter, check_hash
from vie_models.datasets.parse import NO_LABEL
from vie_models.failures import MAX_FAILED, NothingReadError, check_failures, check_max_failed
from vie_models.files import replacing, sha256_of
from vie_models.processes import map_in_processes
from vie_models.video.packed import PackHeader, PackRow

from .photo_scenes import PhotoMotion, draw, render

RECORD = "photo_motion.json"
"""File of a pack that says what it was rendered from."""
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_SHORT_SIDE = 256  # pixels, of photographs in memory
_SMALLEST = 16  # pixels: a photograph with a shorter side shows nothing
_MANY = 50  # photographs; fewer are read sooner than processes start
_PIXELS, _PLACES = "photos.bin", "photos.npy"


@dataclasses.dataclass(frozen=True)
class Photos:
    """Photographs to render from."""

    root: Path
    """Folder that the names are relative to."""
    names: tuple[str, ...]
    """Paths of the photographs, with forward slashes."""
    source: Path
    """The folder or list file that they come from."""

    @property
    def classes(self) -> list[str]:
        """The folders that hold the photographs, sorted."""
        return sorted({_folder(name) for name in self.names} - {"."})

    @property
    def labels(self) -> list[int]:
        """For each photograph the position of its folder in `classes`; -1 for one that lies in `root` itself."""
        numbers = {name: label for label, name in enumerate(self.classes)} | {".": NO_LABEL}
        return [numbers[_folder(name)] for name in self.names]


def _folder(name: str) -> str:
    return Path(name).parent.as_posix()


def find_photos(source: Path, root: Path = Path()) -> Photos:
    """Finds photographs.

    Args:
        source: a folder, searched with its subfolders for .jpg, .jpeg and .png; or a list file with one path per line.
        root: folder that the paths of a list file are relative to.

    Raises:
        FileNotFoundError: there is no such folder or file.
        NothingReadError: the folder has no photographs, or the list is empty.
        ValueError: the list names one twice.
    """
    if not source.is_dir():
        paths = [
            path.relative_to(root) if path.is_relative_to(root) else path for path in map(Path, read_list(source, root).paths)
        ]
        return Photos(root, tuple(path.as_posix() for path in paths), source)
    files = (path for path in source.rglob("*") if path.suffix.lower() in _SUFFIXES and not path.is_dir())
    names = sorted(path.relative_to(source).as_posix() for path in files)
    if not names:
        raise NothingReadError(
            f"{source} holds no photographs: it needs files named {', '.join(sorted(_SUFFIXES))}, in it or below it"
        )
    return Photos(source, tuple(names), source)


def pack_size(photos: Photos, settings: PhotoMotion) -> int:
    """Size of the pack in bytes, if every photograph can be read."""
    return len(photos.names) * settings.videos * settings.frames * settings.size**2 * 3


def make_pack(
    photos: Photos,
    out: Path,
    settings: PhotoMotion,
    *,
    workers: int = 2,
    max_failed: float = MAX_FAILED,
    progress: bool = False,
) -> list[PackRow]:
    """Renders `settings.videos` videos of each photograph into a raw pack, or what is missing of it.

    A photograph that cannot be read keeps its rows, with the reason and without frames.

    Args:
        photos: what to render from.
        out: folder of the pack.
        settings: what to render.
        workers: processes that render; 0 renders in this process.
        max_failed: largest share of the photographs that may be unreadable, from 0 to 1.
        progress: show progress bars, or a line a minute where there is no terminal.

    Returns:
        The rows of the pack's index.

    Raises:
        TooManyFailuresError: more photographs are unreadable, or all are; nothing is rendered then.
        ValueError: the pack was begun with other settings or photographs; or a level that needs two photographs has fewer.
        BlockingIOError: another process writes this pack.
        OSError: the pack could not be written; what was written is kept.
    """
    listed = [
        (f"{name}#{k}", label) for name, label in zip(photos.names, photos.labels, strict=True) for k in range(settings.videos)
    ]
    classes = "".join(f"{name}\n" for name in photos.classes).encode() if photos.classes else None
    with PackWriter(out, PackHeader("raw", settings.size), listed, photos.source) as writer:
        read = _read_photos(photos, writer, workers, progress)
        for number, row in enumerate(writer.rows):
            photo = number // settings.videos
            check_hash(Path(photos.root, photos.names[photo]), row.sha256, read[photo].sha256)
        if failed := [(name, photo) for name, photo in zip(photos.names, read, strict=True) if photo.reason]:
            first = f"{failed[0][0]}: {failed[0][1].reason}"
            check_failures(len(failed), len(read), max_failed, what=f"photographs of {photos.source}", first=first)
        if settings.level >= 3 and sum(photo.reason is None for photo in read) == 1:
            raise ValueError(
                f"level {settings.level} cuts things out of other photographs, but only 1 can be read: add some, or lower it"
            )
        _check_record(out, settings, photos, read)
        if not writer.finished:
            writer.write(_rendered(writer, settings, read, workers), classes=classes, progress=progress)
    return writer.rows


def _check_record(out: Path, settings: PhotoMotion, photos: Photos, read: Sequence[_Read]) -> None:
    """Writes what a pack is rendered from, or raises ValueError if it was begun from something else."""
    hashes = "".join(f"{photo.sha256} {name}\n" for name, photo in zip(photos.names, read, strict=True))
    record = {"settings": dataclasses.asdict(settings), "photos": hashlib.sha256(hashes.encode()).hexdigest()}
    if not (out / RECORD).exists():
        with replacing(out / RECORD) as file:
            file.write_text(json.dumps(record) + "\n")
        return
    before = json.loads((out / RECORD).read_text())
    if before["settings"] != record["settings"]:
        raise ValueError(
            f"{out} was begun with {before['settings']}, not {record['settings']}: choose another folder, or the same settings"
        )
    if before != record:
        raise ValueError(f"{out} was begun with other photographs than {photos.source} has now: choose another folder")


# --- photographs ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Read:
    """What is known of a photograph."""

    sha256: str | None
    reason: str | None = None
    """Why it cannot be read."""
    pixels: np.ndarray | None = None


def _read_photos(photos: Photos, writer: PackWriter, workers: int, progress: bool) -> list[_Read]:
    """Hashes all photographs; if the pack is not finished, their pixels go to a file beside the videos that wait."""
    paths = [Path(photos.root, name) for name in photos.names]
    read, places, offset = [], np.zeros((len(paths), 3), np.int64), 0
    reading = functools.partial(_read_photo, decode=not writer.finished)
    workers = workers if len(paths) >= _MANY else 0
    with (writer.waiting / _PIXELS).open("wb") as file:
        for number, photo in enumerate(map_in_processes(reading, paths, workers, progress=progress)):
            if photo.pixels is not None:
                places[number] = offset, *photo.pixels.shape[:2]
                offset += file.write(photo.pixels.data)
            read.append(dataclasses.replace(photo, pixels=None))
    np.save(writer.waiting / _PLACES, places)
    return read


def _read_photo(path: Path, decode: bool) -> _Read:
    """A photograph, upright, its short side at most 256 pixels."""
    from PIL import Image, ImageOps

    if path.exists() and not path.is_file():  # reading a pipe could block for ever
        return _Read(None, "is not a file")
    try:
        found = sha256_of(path)
    except OSError as error:
        return _Read(None, f"cannot be read: {error.strerror}")
    if not decode:
        return _Read(found)
    try:
        with Image.open(path) as image:
            image.draft(
                "RGB", (_SHORT_SIDE, _SHORT_SIDE)
            )  # a large JPEG is decoded at half, a quarter or an eighth of its size
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # Pillow raises many kinds for what is not an image
        return _Read(found, f"cannot be read as an image: {error}")
    if min(upright.size) < _SMALLEST:
        return _Read(
            found, f"is {upright.width} x {upright.height} pixels: give a photograph of at least {_SMALLEST} x {_SMALLEST}"
        )
    scale = _SHORT_SIDE / min(upright.size)
    if scale < 1:
        width, height = (max(round(side * scale), 1) for side in upright.size)
        upright = upright.resize((width, height), Image.Resampling.BOX if scale < 0.25 else Image.Resampling.LANCZOS)
    return _Read(found, None, np.asarray(upright))


def _stored(folder: Path, numbers: Sequence[int]) -> list[np.ndarray]:
    """Pixels of photographs, uint8 [H, W, 3], from the file that `_read_photos` wrote."""
    places = np.load(folder / _PLACES, mmap_mode="r")
    pixels = np.memmap(folder / _PIXELS, np.uint8, "c")
    return [
        pixels[offset : offset + 3 * height * width].reshape(height, width, 3)
        for offset, height, width in places[list(numbers)]
    ]


# --- videos --------------------------------------------------------------------------------------------------------------


def _rendered(writer: PackWriter, settings: PhotoMotion, read: Sequence[_Read], workers: int) -> Generator[PackRow]:
    """The rows to come, in order, each once its frames wait for the writer."""
    good = np.array([number for number, photo in enumerate(read) if photo.reason is None])
    numbers = range(len(writer.rows), len(writer.listed))
    jobs = [number for number in numbers if read[number // settings.videos].reason is None]
    rendering = functools.partial(_write_video, folder=writer.waiting, settings=settings, good=good)
    videos = map_in_processes(rendering, jobs, workers)
    for number in numbers:
        (path, label), photo = writer.listed[number], read[number // settings.videos]
        if photo.reason:
            yield PackRow(path, label, photo.sha256, damage=photo.reason)
            continue
        assert next(videos) == number
        yield PackRow(path, label, photo.sha256, settings.frames, settings.size, settings.size)


def _write_video(number: int, folder: Path, settings: PhotoMotion, good: np.ndarray) -> int:
    """Renders a video to a file that waits for the writer: however many are done early, they take no memory."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it was killed, and nobody wants the rest
    photo, video = divmod(number, settings.videos)
    scene = draw(settings, photo, video, good)
    pixels, *others = _stored(folder, [photo, *(cutout.source for cutout in scene.cutouts)])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the pieces are too small for more
    try:
        frames = render(pixels, others, scene, settings.frames, settings.size)
    finally:
        torch.set_num_threads(threads)
    (folder / str(number)).write_bytes(frames.data)
    return number


# --- the command ---------------------------------------------------------------------------------------------------------


def write_pack(
    photos: Path,
    out: Path,
    settings: PhotoMotion,
    *,
    root: Path = Path(),
    workers: int = 2,
    max_failed: float = MAX_FAILED,
) -> int:
    """Renders a pack, says how large it is and what could not be read, and returns the exit code of `vie`.

    The same command continues a job that was stopped.

    Args:
        photos: folder of photographs (.jpg, .jpeg, .png; subfolders are searched), or a list file with one path per line.
        out: folder to write to.
        settings: what to render.
        root: folder that the paths of a list file are relative to.
        workers: number of processes that render.
        max_failed: largest share of the photographs that may be unreadable, from 0 to 1.
    """
    check_max_failed(max_failed)
    found = find_photos(photos, root)
    print(
        f"{len(found.names)} photographs in {len(found.classes)} folders, {settings.videos} videos of each: "
        f"{pack_size(found, settings) / 1e9:.3g} GB"
    )
    rows = make_pack(found, out, settings, workers=workers, max_failed=max_failed, progress=True)
    failed = {row.path.rpartition("#")[0]: row.damage for row in rows if row.damage}
    for path, reason in failed.items():
        print(f"failed: {path}: {reason}", file=sys.stderr)
    print(
        f"{sum(row.frames > 0 for row in rows)} videos, {sum(row.size for row in rows) / 1e9:.3g} GB; {len(failed)} "
        f"photographs skipped: `vie train ... --train-list {out}`"
    )
    return exit_code(len(failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photographs, or a list file with one path per line")
    parser.add_argument("out", type=Path, help="folder of the pack")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the paths of a list file are relative to")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--max-failed", type=float, default=MAX_FAILED, help="largest share that may be unreadable")
    for field in dataclasses.fields(PhotoMotion):
        parser.add_argument(f"--{field.name}", type=int, default=field.default, help="as in PhotoMotion (photo_scenes.py)")
    options = parser.parse_args()
    settings = PhotoMotion(**{field.name: getattr(options, field.name) for field in dataclasses.fields(PhotoMotion)})
    raise SystemExit(
        write_pack(
            options.photos,
            options.out,
            settings,
            root=options.root,
            workers=options.workers,
            max_failed=options.max_failed,
        )
    )


if __name__ == "__main__":
    main()
