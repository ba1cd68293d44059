import av
import numpy as np
from support.videos import gray_levels, write_video

from vie_models.app.example import NAMES, write_example
from vie_models.app.previews import SHORT_SIDE, frames_at, write_preview


def levels(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(stream)]
        return frames, stream.codec_context.name, stream.codec_context.pix_fmt, (stream.width, stream.height)


def test_a_preview_starts_at_its_moment(tmp_path):
    video = write_video(tmp_path / "<img src=x onerror=alert(1)>.mp4", gray_levels(48))
    preview = write_preview(video, 1.0, tmp_path / "previews", 0.4)
    frames, codec, pixels, size = levels(preview)
    assert (codec, pixels, size) == ("h264", "yuv420p", (64, 48)), "what every browser plays"
    np.testing.assert_allclose(frames, [5 * k + 10 for k in range(25, 35)], atol=4)
    assert "<" not in preview
    assert write_preview(video, 1.0, tmp_path / "previews", 0.4) == preview
    assert write_preview(video, 1.2, tmp_path / "previews", 0.4) != preview


def test_a_preview_at_the_end_starts_earlier(tmp_path):
    video = write_video(tmp_path / "v.mp4", gray_levels(40))
    frames, *_ = levels(write_preview(video, 1.5, tmp_path / "previews", 0.4))
    np.testing.assert_allclose(frames, [5 * k + 10 for k in range(30, 40)], atol=4)
    assert len(levels(write_preview(video, 0.0, tmp_path / "previews", 9.0))[0]) == 40


def test_large_frames_become_small(tmp_path):
    video = write_video(tmp_path / "v.mp4", np.zeros((3, 1000, 500, 3), np.uint8))
    *_, size = levels(write_preview(video, 0.0, tmp_path / "previews"))
    assert min(size) == SHORT_SIDE
    assert size[1] == 2 * size[0]


def test_pictures_at_times(tmp_path):
    video = write_video(tmp_path / "v.mp4", gray_levels(40))
    found = frames_at(video, [0.0, 0.5, 99.0], 24)
    assert [picture.shape for picture in found] == [(24, 32, 3)] * 3
    np.testing.assert_allclose([picture.mean() for picture in found], [10, 70, 205], atol=6)


def test_the_examples_are_two_videos(tmp_path):
    paths = [write_example(tmp_path, number) for number in (0, 1)]
    assert [path.name for path in paths] == list(NAMES)
    frames, codec, _, size = levels(paths[0])
    assert (len(frames), codec, size) == (600, "h264", (320, 240))
    before = paths[0].stat().st_mtime_ns
    assert write_example(tmp_path, 0).stat().st_mtime_ns == before
    assert paths[0].read_bytes() != paths[1].read_bytes()
