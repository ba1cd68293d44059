from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import grey_levels, write_video

import vie_models as vie
from vie_models.video.decode import count_grid, read_clips, read_grid

av = pytest.importorskip("av")
SPEC = vie.ClipSpec(num_frames=4, frame_interval=2, resize=40, crop=32)


def numbers(frames) -> list[int]:
    """Which frames of a `grey_levels` video these are."""
    return [round((float(np.asarray(frame).mean()) - 10) / 5) for frame in frames]


def test_clip_spec_checks_its_fields_and_travels_as_json():
    assert vie.ClipSpec.from_dict(SPEC.to_dict()) == SPEC
    assert SPEC.seconds == pytest.approx(7 / 25)
    for field, value in {
        "num_frames": 0,
        "fps": 0,
        "crop": 41,
        "std": (1, 1),
        "interpolation": "area",
        "placement": "anywhere",
        "frame_interval": 1.5,
    }.items():
        with pytest.raises(ValueError, match=field):
            vie.ClipSpec(**{**SPEC.to_dict(), field: value})
    with pytest.raises(ValueError, match="unknown ClipSpec field"):
        vie.ClipSpec.from_dict({**SPEC.to_dict(), "codec": 1})


def test_load_clip_by_time(tmp_path):
    path = write_video(tmp_path / "v.mp4", grey_levels(30))
    clip = vie.load_clip(path, SPEC)
    assert clip.dtype == torch.uint8
    assert clip.shape == (4, 48, 64, 3)
    assert numbers(clip) == [0, 2, 4, 6]
    assert numbers(vie.load_clip(path, SPEC, start=0.4)) == [10, 12, 14, 16]


def test_a_clip_that_runs_over_the_end_begins_again(tmp_path):
    path = write_video(tmp_path / "v.mp4", grey_levels(5))
    assert numbers(vie.load_clip(path, SPEC)) == [0, 2, 4, 1]
    with pytest.raises(ValueError, match=r"lasts 0.20 s, got 0.20 s"):
        vie.load_clip(path, SPEC, start=0.2)
    with pytest.raises(ValueError, match="start must be >= 0"):
        vie.load_clip(path, SPEC, start=-1)


@pytest.mark.parametrize("rate", [10, 24, 25, 30, 50])
def test_the_grid_does_not_depend_on_the_files_rate(tmp_path, rate):
    path = write_video(tmp_path / "v.mp4", grey_levels(40), rate=rate)
    length = round(Fraction(40 * 25, rate))
    assert count_grid(path, 25).num_frames == pytest.approx(length, abs=1)
    shown = numbers(read_grid(path, 25, range(length - 1)).frames[k] for k in range(length - 1))
    # the last frame whose time, rounded to the grid, is not after the grid point
    nearest = [int(Fraction(i * 25, rate) + Fraction(1, 2)) for i in range(40)]
    assert shown == [max(i for i in range(40) if nearest[i] <= k) for k in range(length - 1)]


def test_variable_frame_rate_and_late_start(tmp_path):
    """Times are those of the frames, counted from the first one, not of a frame counter."""
    path = tmp_path / "v.mkv"
    times = [0, 40, 80, 480, 520, 560]  # ms: a gap of ten grid points
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, image in zip(times, grey_levels(6), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = time + 2000, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    shown = read_grid(path, 25, range(15)).frames
    assert numbers(shown[k] for k in range(15)) == [0, 1] + [2] * 10 + [3, 4, 5]


def test_damage_keeps_what_came_before(tmp_path):
    whole = write_video(tmp_path / "whole.avi", np.random.default_rng(0).integers(0, 256, (50, 48, 64, 3), np.uint8))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 10 < count_grid(cut, 25).num_frames < 50


@pytest.mark.parametrize(("content", "reason"), [(b"", "cannot be opened"), (b"no video" * 100, "cannot be opened")])
def test_what_is_no_video_says_so(tmp_path, content, reason):
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(vie.VideoError, match=reason):
        vie.load_clip(path, SPEC)
    with pytest.raises(FileNotFoundError, match="no video file at"):
        vie.load_clip(tmp_path / "none.mp4", SPEC)


def test_audio_alone_is_named(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(vie.VideoError, match="no video stream, only audio"):
        vie.load_clip(path, SPEC)


def test_rotation_metadata_turns_frames_upright(clips_folder):
    upright = vie.load_clip(clips_folder / "video_0.mov", SPEC).float()
    assert upright.shape[1:3] == (320, 568)
    for name, quarter_turns in (("video_90.mov", 1), ("video_180.mov", 2)):
        clip = vie.load_clip(clips_folder / name, SPEC).float()
        assert clip.shape[1:3] == ((568, 320) if quarter_turns == 1 else (320, 568))
    assert vie.load_clip(clips_folder / "nasa_13013_rotated.mp4", SPEC).shape[1:3] == (480, 270)


def test_clips_of_one_pass_are_those_of_several(tmp_path):
    path = write_video(tmp_path / "v.mp4", grey_levels(40))
    clips = [[0, 2, 4], [3, 4, 5], [30, 31, 0], [7, 7, 8], [39, 38, 37]]
    found = list(read_clips(path, 25, clips))
    assert [numbers(clip) for clip in found] == clips
    with pytest.raises(vie.VideoError, match="ends before grid frame 40"):
        list(read_clips(path, 25, [[0, 1], [39, 40]]))
