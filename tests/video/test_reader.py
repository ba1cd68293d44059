"""Many videos at once: what worker processes do, and what becomes of them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.videos import gray_levels, write_video

import vie_models as vie
from vie_models.models import MODELS
from vie_models.video import reader as reader_module
from vie_models.video.decode import VideoFile
from vie_models.video.reader import VideoReader, WorkerBugError
from vie_models.video.sampling import ClipRead, Sampling, VideoRead, read_video

SAMPLING = Sampling(spec=vie.ClipSpec(num_frames=4, resize=32, crop=32))
needs_proc = pytest.mark.skipif(not list(Path("/proc/self/task").glob("*/children")), reason="finds the workers in /proc")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{i}.mp4", gray_levels(20 + 7 * i)) for i in range(6)]


def children(process: int) -> list[int]:
    return [int(number) for task in Path(f"/proc/{process}/task").glob("*/children") for number in task.read_text().split()]


def state(process: int) -> str:
    """What /proc says of a process: S it sleeps, R it runs, T it is paused, Z it ended, X there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


@needs_proc
def test_a_decoder_that_crashes_is_one_videos_failure(videos):
    before = children(os.getpid())  # other tests' servers
    with VideoReader(videos, SAMPLING, workers=1, ahead=1) as reader:
        messages = iter(reader)
        found = [next(messages)]
        assert found[0][0] == 0
        (server,) = set(children(os.getpid())) - set(before)
        (worker,) = children(server)
        os.kill(worker, signal.SIGKILL)
        found += messages
    assert set(children(os.getpid())) <= set(before)
    ends = {number: message for number, message in found if isinstance(message, (VideoRead, vie.VideoError))}
    assert sorted(ends) == list(range(len(videos)))
    (lost,) = [end for end in ends.values() if isinstance(end, vie.VideoError)]
    assert "died" in lost.reason


def test_a_decoder_without_progress_is_stopped(videos):
    with VideoReader(videos, SAMPLING, workers=2, time_limit=1e-4) as reader:
        ends = dict(reader)
    assert all(isinstance(end, vie.VideoError) and "0.0001 s" in end.reason for end in ends.values())


@needs_proc
def test_pauses_stop_the_workers_and_do_not_count(videos, monkeypatch):
    """The model takes no time from the decoders."""
    now = [100.0]
    monkeypatch.setattr(reader_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    before = set(children(os.getpid()))
    with VideoReader(videos, SAMPLING, workers=1, ahead=1) as reader:
        next(iter(reader))
        (server,) = set(children(os.getpid())) - before
        (worker,) = children(server)
        start = reader.clock()
        with reader.paused():
            now[0] += 1000
            while state(worker) not in "TX":
                pass
            assert state(worker) == "T"
            assert reader.clock() == start
        now[0] += 1
        assert reader.clock() == start + 1


@needs_proc
@pytest.mark.parametrize("end", ["TERM", "KILL"])
def test_nothing_is_left_running(videos, end):
    """Also where the run ends while its workers are paused."""
    program = f"""
import time
from vie_models.clip_spec import ClipSpec
from vie_models.video.sampling import Sampling
from vie_models.video.reader import VideoReader
with VideoReader({list(map(str, videos))!r}, Sampling(spec=ClipSpec(num_frames=4)), workers=2) as reader:
    for _ in reader:
        with reader.paused():
            print("paused", flush=True)
            time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout.readline() == "paused\n"
    (server,) = children(run.pid)
    started = [run.pid, server, *children(server)]
    assert len(started) >= 3
    os.killpg(run.pid, signal.SIGTERM) if end == "TERM" else run.kill()
    run.wait()
    deadline = time.monotonic() + 20
    while any(state(process) not in "ZX" for process in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {state(process) for process in started} <= {"Z", "X"}


@needs_proc
def test_closing_early_leaves_nothing(videos):
    before = set(children(os.getpid()))
    with VideoReader(videos, SAMPLING, workers=2):
        pass
    assert set(children(os.getpid())) <= before


def test_what_pyav_raises_is_damage_whatever_its_kind(videos, monkeypatch):
    """A fuzzed header made PyAV's list of streams end too early: an IndexError, and not an error of FFmpeg."""
    monkeypatch.setattr(VideoFile, "_rgb", lambda self, frame: self._container.streams.get(video=99))
    for read in (lambda: list(read_video(videos[0], SAMPLING)), lambda: vie.load_clip(videos[0], SAMPLING.spec)):
        with pytest.raises(vie.VideoError, match="IndexError"):
            read()
    monkeypatch.setattr(VideoFile, "_rgb", lambda self, frame: [][99])
    for read in (lambda: list(read_video(videos[0], SAMPLING)), lambda: vie.load_clip(videos[0], SAMPLING.spec)):
        with pytest.raises(IndexError):
            read()


def test_an_error_of_the_program_is_no_damaged_video(videos):
    """In a worker or in this process, it stops the job."""
    sampling = Sampling(spec=SAMPLING.spec)
    object.__setattr__(sampling, "clips", "many")
    with pytest.raises(TypeError):
        list(read_video(videos[0], sampling))
    with VideoReader(videos[:2], sampling, workers=1) as reader, pytest.raises(WorkerBugError, match="TypeError"):
        list(reader)


def test_workers_do_not_import_from_the_current_folder(videos, tmp_path, monkeypatch):
    (tmp_path / "types.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    with VideoReader(videos, SAMPLING, workers=1) as reader:
        assert sum(isinstance(message, VideoRead) for _, message in reader) == len(videos)


def test_clips_and_windows_are_equally_long(tmp_path):
    video = write_video(tmp_path / "v.mp4", gray_levels(80))
    for name in ("vie_single_tiny", "vie_trn", "vie_3dresnet_tiny", "vie_slow", "vie_slowfast_tiny"):
        spec = vie.ClipSpec(**{**MODELS[name].clip_spec.to_dict(), "resize": 40, "crop": 32})
        for sampling in (Sampling(spec=spec), Sampling(spec=spec, clips=None, stride=0.5)):
            for clip in read_video(video, sampling):
                if isinstance(clip, ClipRead):
                    assert clip.end - clip.start == pytest.approx(spec.seconds), name


@pytest.fixture
def open_folder():
    """A folder that others may read; those of pytest are closed, and each run closes them again."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "fork"), reason="needs POSIX permissions")
def test_folders_that_may_not_be_read_are_found_with_the_reason(open_folder):
    """Run by a user without special rights, since root may read everything."""
    write_video(open_folder / "good.mp4", gray_levels(30))
    for mode in (0o000, 0o444, 0o111):
        closed = open_folder / f"{mode:o}"
        closed.mkdir()
        write_video(closed / "hidden.mp4", gray_levels(30))
        closed.chmod(mode)
    code = f"""
import os
from pathlib import Path
from vie_models.features.inputs import find_inputs
from vie_models.clip_spec import ClipSpec
from vie_models.video.frames import VideoError
from vie_models.video.sampling import Sampling, read_video

sampling = Sampling(spec=ClipSpec(num_frames=1), clips=1)
folder = Path({str(open_folder)!r})
list(read_video(folder / "good.mp4", sampling))  # everything is imported now
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for found in find_inputs([folder], None, Path("nowhere")):
    try:
        list(read_video(found.path, sampling))
        print(found.name, "ok")
    except VideoError as error:
        print(found.name, error.reason)
"""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    finally:
        for path in open_folder.glob("[0-9]*"):
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines.pop("good.mp4") == "ok"
    assert {name.partition("/")[0] for name in lines} == {"0", "444", "111"}
    assert all("Permission denied" in reason for reason in lines.values())
