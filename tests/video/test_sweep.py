"""Compares the frames of videos that ffmpeg makes with its own: a sample of the table in reproduce/frames_made.py, or all."""

import numpy as np
import pytest

from reproduce.frames import alike, compare, find_ffmpeg
from reproduce.frames_made import CannotMakeError, picture, videos

ALL = list(videos())
HARD = {
    "codec: vvc in mp4",  # frames that are shown before the first key frame
    "codec: h263 in h263",  # a bare stream, whose rate only the decoder knows
    "codec: roq in roq",  # no key frame is marked
    "codec: rpza in mov",  # all are marked, and few are key frames
    "codec: apng in apng",  # what is marked keeps parts of the last frame
    "streams: small one first in ts",
    "joined: h264 B mkv, time stamps begin anew",
}
SAMPLE = [made for k, made in enumerate(ALL) if k % (len(ALL) // 14) == 4 or made.name in HARD]


@pytest.fixture(scope="module")
def ffmpeg():
    found = find_ffmpeg()
    if not found:
        pytest.skip("no ffmpeg is new enough to make the videos: pip install imageio-ffmpeg")
    return found[0]


def check(made, ffmpeg):
    try:
        found = compare(made, ffmpeg)
    except CannotMakeError as error:
        pytest.skip(f"{ffmpeg} has no encoder {error}")
    assert found.fault is None or found.known, f"{found.fault}; the reader says: {found.damage}"


@pytest.mark.parametrize("made", SAMPLE, ids=lambda made: made.name)
def test_a_sample_of_videos_is_read_as_ffmpeg_reads_it(made, ffmpeg):
    check(made, ffmpeg)


@pytest.mark.slow
@pytest.mark.parametrize("made", ALL, ids=lambda made: made.name)
def test_every_video_is_read_as_ffmpeg_reads_it(made, ffmpeg):
    check(made, ffmpeg)


@pytest.mark.parametrize("size", sorted({made.size for made in ALL if max(made.size) <= 130}))
def test_the_comparison_tells_frames_and_geometry_apart(size):
    """It takes a gray level more or less for the same frame, but not the next one, a mirrored one, or a column's shift."""
    width, height = size
    frames = np.frombuffer(picture(0, 130, width, height), np.uint8).reshape(130, height, width, 3)
    for k in (0, 1, 63, 127):
        frame = frames[k]
        assert alike(frame, np.maximum(frame, 4) - 4)
        assert not any(alike(frame, other) for j, other in enumerate(frames) if j != k)
        for changed in (
            frame[::-1],
            frame[:, ::-1],
            np.rot90(frame, 2),
            np.roll(frame, 1, 1),
            np.roll(frame, 1, 0),
            frame[:-1],
        ):
            assert not alike(frame, changed)


def test_names_of_videos_differ():
    assert len({made.name for made in ALL}) == len(ALL)
    assert {made.name for made in ALL} >= HARD
