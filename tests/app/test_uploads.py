"""Tests the rules of uploads: what is refused, what is cut, and how long it stays."""

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.hostile import PLAYLISTS, claiming_avi, claiming_y4m, large_frames_avi, slow_video
from support.servers import LocalServer, send
from support.videos import gray_levels, write_video

from vie_models.app.uploads import UploadError, Uploads
from vie_models.app.worker import Worker
from vie_models.video.sources import open_video

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are limited on POSIX systems")


@pytest.fixture(scope="module")
def worker():
    with Worker(memory=9e8, seconds=60) as worker:
        yield worker


@pytest.fixture
def uploads(worker, tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    return Uploads(worker, folder, max_bytes=20e6, max_seconds=600)


def test_a_video_passes(uploads):
    upload = uploads.check(write_video(uploads.folder / "a b.mp4", gray_levels(50)))
    assert (upload.name, upload.width, upload.height, upload.codec, upload.note) == ("a b.mp4", 64, 48, "mpeg4", None)
    assert upload.seconds == pytest.approx(2.0)
    assert upload.path == uploads.folder / "a b.mp4"


def test_other_files_are_refused_by_sentence(uploads, tmp_path):
    (uploads.folder / "empty.mp4").touch()
    (uploads.folder / "text.mp4").write_text("no video\n" * 100)
    outside = write_video(tmp_path / "outside.mp4", gray_levels(5))
    (uploads.folder / "link.mp4").symlink_to(outside)
    (uploads.folder / "large.mp4").write_bytes(b"")
    os.truncate(uploads.folder / "large.mp4", 21_000_000)
    for name, reason in {
        "empty.mp4": "is empty",
        "text.mp4": "is not a video",
        "link.mp4": "is not an upload",
        "../outside.mp4": "is not an upload",
        "gone.mp4": "send it again",
        "large.mp4": "at most 20 MB",
        ".": "is not an upload|is gone",
    }.items():
        with pytest.raises(UploadError, match=reason) as caught:
            uploads.check(uploads.folder / name)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Mpeg4.mp4", "no video stream"), ("sample_ac3.mp4", "only audio"), ("nasa_13013.mp4.audio.mp3", "only audio")],
)
def test_real_files_without_video_are_refused(uploads, clips_folder, name, reason):
    shutil.copy(clips_folder / name, uploads.folder / name)
    with pytest.raises(UploadError, match=reason):
        uploads.check(uploads.folder / name)


def test_a_damaged_video_passes_as_far_as_it_goes(uploads, clips_folder):
    shutil.copy(clips_folder / "corrupted.mp4", uploads.folder / "corrupted.mp4")
    assert uploads.check(uploads.folder / "corrupted.mp4").width == 1280


@pytest.mark.parametrize("make", [claiming_y4m, claiming_avi])
@pytest.mark.parametrize("size", [100_000, 16_000])
def test_a_small_file_that_claims_huge_frames_is_refused(uploads, make, size):
    file = make(uploads.folder / f"bomb.{'y4m' if make is claiming_y4m else 'avi'}", size)
    assert file.stat().st_size < 2**20
    with pytest.raises(UploadError, match=r"pixels are|not a video|cannot be opened|no frame that can"):
        uploads.check(file)


def test_frames_that_are_larger_than_the_header_claims_do_no_harm(uploads):
    file = large_frames_avi(uploads.folder / "bomb.avi", 16_000)
    assert file.stat().st_size < 20e6
    with pytest.raises(UploadError):
        uploads.check(file)
    assert uploads.worker.peak < 1.5e9


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_list_of_other_files_is_refused_and_they_are_not_read(uploads, tmp_path, name):
    outside = write_video(tmp_path / "outside.mp4", gray_levels(5))
    asked = []

    class Listener(LocalServer):
        def answer(self, handler):
            asked.append(handler.path)
            send(handler, 404, {"Content-Length": 0})

    with Listener() as server:
        for target in (str(outside), "neighbor.mp4", f"file://{outside}", f"{server.url}/x.ts"):
            write_video(uploads.folder / "neighbor.mp4", gray_levels(5))
            (uploads.folder / name).write_text(PLAYLISTS[name].format(target=target))
            with pytest.raises(UploadError, match="not a video that this page reads"):
                uploads.check(uploads.folder / name)
    assert not asked


@pytest.mark.parametrize(
    ("suffix", "frames", "seconds"),
    [("mkv", 1500, 0.5), ("mp4", 1500, 0.5), ("avi", 1500, 0.5), ("mkv", 30, 86_400), ("mp4", 30, 86_400)],
    ids=["mkv of 12 min", "mp4 of 12 min", "avi of 12 min", "mkv of a month", "mp4 of a month"],
)
def test_of_a_long_video_the_beginning_is_read(uploads, frames, seconds, suffix):
    file = slow_video(uploads.folder / f"long.{suffix}", frames, seconds)
    upload = uploads.check(file)
    assert upload.note == "only its first 10 min are looked at"
    assert upload.seconds == 600
    assert upload.path != file
    assert upload.sent == file
    with open_video(upload.path, 1.0) as video:
        assert video.num_frames <= 602
        assert sum(1 for _ in video._shown(None)) == min(600, math.ceil(600 / seconds))


def test_a_video_of_unknown_length_is_read_to_its_end(uploads):
    file = slow_video(uploads.folder / "live.mkv", 40, 0.5)
    content = file.read_bytes()
    at = content.index(b"\x44\x89\x88")  # the element Duration: eight bytes
    file.write_bytes(content[:at] + b"\xec\x89" + content[at + 2 :][:1] + content[at + 3 :])
    upload = uploads.check(file)
    assert upload.note is None


def test_old_uploads_are_removed(worker, tmp_path):
    uploads = Uploads(worker, tmp_path, keep_seconds=100)
    old, new = tmp_path / "hash" / "old.mp4", tmp_path / "other" / "new.mp4"
    for file in (old, new):
        file.parent.mkdir()
        file.touch()
    for path in (old, old.parent):
        os.utime(path, (0, time.time() - 200))
    uploads.sweep()
    assert not old.exists()
    assert new.exists()
    uploads.sweep()
    uploads.close()
    assert not tmp_path.exists()


def test_folders_of_killed_servers_are_removed(tmp_path):
    code = "from vie_models.app.uploads import private_folder as make; folder = make(); (folder / 'x').touch(); "
    code += "print(folder, flush=True); "
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def start(rest):
        process = subprocess.Popen([sys.executable, "-c", code + rest], env=environment, stdout=subprocess.PIPE, text=True)
        return process, Path(process.stdout.readline().strip())

    first, its_folder = start("import time; time.sleep(60)")
    second, second_folder = start("")
    assert its_folder.exists(), "a living server lost its folder"
    second.wait()
    first.kill()
    first.wait()
    third, third_folder = start("")
    third.wait()
    assert not its_folder.exists()
    assert not second_folder.exists()
    assert oct(third_folder.parent.stat().st_mode & 0o777) == "0o700"


def test_arguments_are_checked(worker, tmp_path):
    with pytest.raises(ValueError, match="max_bytes must be > 0"):
        Uploads(worker, tmp_path, max_bytes=0)
    with pytest.raises(ValueError, match="memory must be"):
        Worker(memory=1)
