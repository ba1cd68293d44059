"""Odd time stamps, orientations, sizes and damage: the frames are those that the ffmpeg command line shows."""

import dataclasses
import io
import struct
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from support.ffmpeg import newest_ffmpeg
from support.videos import gray_levels, write_video

import vie_models as vie
from vie_models.video.aperture import WHOLE, container_crop
from vie_models.video.decode import VideoFile
from vie_models.video.sources import open_video
from vie_models.video.timeline import FrameTimes, PacketTimes

av = pytest.importorskip("av")


def ffmpeg(*arguments) -> bytes:
    done = subprocess.run(
        [newest_ffmpeg(), "-v", "error", "-nostdin", "-y", *map(str, arguments)], capture_output=True, check=False
    )
    if b"Unknown encoder" in done.stderr:
        pytest.skip(done.stderr.decode().splitlines()[0])
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def made(path, *arguments, seconds=2, rate=25, size="64x48"):
    """A test pattern, written by ffmpeg."""
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}", *arguments, path)
    return path


def shows_what_ffmpeg_shows(path, **settings) -> VideoFile:
    """Compares every grid frame with ffmpeg's, and returns the video, closed."""
    with VideoFile(path, 25, **settings) as video:
        ours = video.retrying(lambda: next(video.read([range(video.num_frames)])))
    whole = ffmpeg("-threads", "1", "-i", path, "-map", "0:v", "-vf", "fps=25", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    theirs = np.frombuffer(whole, np.uint8).reshape(-1, *ours.shape[1:])
    assert len(ours) == len(theirs)
    assert np.abs(ours.astype(int) - theirs).mean((1, 2, 3)).max() < 2
    return video


@pytest.mark.parametrize("shift", [0, 30, 5000, 100_000])
@pytest.mark.parametrize("suffix", ["ts", "mpg", "vob"])
@pytest.mark.parametrize("back", [False, True])
def test_joined_recordings(tmp_path, suffix, shift, back):
    first = made(tmp_path / f"first.{suffix}", "-c:v", "mpeg2video", "-bf", "2")
    second = tmp_path / f"second.{suffix}"
    ffmpeg("-i", first, "-c", "copy", "-output_ts_offset", shift, second)
    path = tmp_path / f"joined.{suffix}"
    parts = [first, second][:: -1 if back else 1]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    video = shows_what_ffmpeg_shows(path)
    assert video.num_frames == 100
    assert video.metadata["joined"] == 1
    assert video.damage is None


def test_a_join_of_different_sizes(tmp_path):
    """All frames have the first one's size. ffmpeg's filters begin anew where it changes, and lose frames there."""
    parts = [made(tmp_path / f"{size}.ts", "-c:v", "mpeg2video", size=size) for size in ("64x48", "96x64")]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(path, 25) as video, open_video(parts[1], 25) as second:
        assert video.num_frames == 100
        frames, alone = next(video.read([range(100)])), next(second.read([range(50)]))
    assert frames.shape[1:3] == (48, 64)
    np.testing.assert_allclose(frames[50:].mean((1, 2)), alone.mean((1, 2)), atol=3)


def test_the_second_part_is_missed_where_ffmpeg_misses_it(tmp_path):
    """Matroska: the second part's time stamps begin anew, and no frame is shown until they have caught up."""
    part = made(tmp_path / "part.mkv", "-c:v", "mpeg4")
    path = tmp_path / "joined.mkv"
    path.write_bytes(part.read_bytes() * 2)
    video = shows_what_ffmpeg_shows(path)
    assert video.num_frames == 50
    assert "go back" in video.damage


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "mpeg2video"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_avi_has_no_presentation_times(tmp_path, codec, b_frames):
    path = made(tmp_path / "v.avi", "-c:v", codec, "-bf", b_frames, "-pix_fmt", "yuv420p")
    assert shows_what_ffmpeg_shows(path).num_frames == 50


@pytest.mark.parametrize("suffix", ["m2v", "m4v", "mjpeg"])
def test_bare_streams_have_no_times_at_all(tmp_path, suffix):
    path = made(tmp_path / f"v.{suffix}")
    assert shows_what_ffmpeg_shows(path).num_frames == 50


@pytest.mark.parametrize("rate", [24, 30, 50])
def test_a_transport_stream_counts_from_its_video(tmp_path, rate):
    sound = ["-f", "lavfi", "-i", "sine=d=2", "-map", "0:v", "-map", "1:a", "-c:v", "mpeg2video", "-bf", "2"]
    shows_what_ffmpeg_shows(made(tmp_path / "v.ts", *sound, rate=rate))


def with_matrix(path, matrix):
    """A video of one plain colour per quarter, with another display matrix."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:], image[24:, :32] = 250, 160, 80
    write_video(path, np.stack([image] * 5))
    content = path.read_bytes()
    upright = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    header = content.index(b"tkhd")
    at = content.index(upright, header)
    given = np.array([int(value * (1 << 16)) for value in matrix[:6]] + [0, 0, 1 << 30], ">i4")[[0, 1, 6, 2, 3, 7, 4, 5, 8]]
    path.write_bytes(content[:at] + given.tobytes() + content[at + 36 :])
    return path


@pytest.mark.parametrize(
    "matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]
)
def test_the_display_matrix_turns_and_mirrors(tmp_path, matrix):
    a, b, c, d = matrix
    path = with_matrix(tmp_path / "v.mp4", (a, b, c, d, 0, 0))
    with open_video(path, 25) as video:
        frame = next(video.read([[2]]))[0]
    plain = {(-1, -1): 250, (1, -1): 160, (-1, 1): 80, (1, 1): 0}  # by the side of the middle on which a quarter lies
    height, width = frame.shape[:2]
    assert (height, width) == ((48, 64) if a else (64, 48))
    for (x, y), level in plain.items():
        x, y = x * a + y * c, x * b + y * d  # where the matrix puts it
        assert frame[height // 2 + y * height // 4, width // 2 + x * width // 4].mean() == pytest.approx(level, abs=8)


@pytest.mark.parametrize("degrees", [0.4, 30, 91.4, 200, 315])
def test_any_angle(tmp_path, degrees):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    shows_what_ffmpeg_shows(with_matrix(tmp_path / "v.mp4", (cosine, sine, -sine, cosine, 0, 0)))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("crop", ["crop_left=2", "crop_left=30:crop_top=10", "crop_right=6:crop_bottom=4"])
def test_cropping_by_the_codec(tmp_path, codec, crop):
    encoder = {"h264": ["libx264"], "hevc": ["libx265", "-x265-params", "log-level=none"]}[codec]
    path = made(
        tmp_path / "v.mp4",
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        *encoder,
        "-bsf:v",
        f"{codec}_metadata={crop}",
        seconds=1,
        size="128x96",
    )
    video = shows_what_ffmpeg_shows(path)
    assert video.metadata["width"] < 128


def without_packet(path, number):
    """A transport stream that lacks one of its packets."""
    content = path.read_bytes()
    path.write_bytes(content[: number * 188] + content[(number + 1) * 188 :])
    return path


@pytest.mark.parametrize("threads", [1, None])
@pytest.mark.parametrize("codec", ["mpeg2video", "libx264", "mpeg4"])
def test_reading_goes_on_after_damage(tmp_path, codec, threads):
    path = made(tmp_path / "v.ts", "-c:v", codec, "-g", "12", "-pix_fmt", "yuv420p", "-b:v", "1M", size="128x96")
    without_packet(path, path.stat().st_size // 188 // 2)
    video = shows_what_ffmpeg_shows(path, threads=threads)
    assert video.num_frames == 50
    assert video.damage
    assert video.metadata.get("concealed", 0) + video.metadata.get("skipped", 0) >= 1


def test_frames_that_cannot_be_decoded_are_skipped_and_counted(tmp_path):
    path = made(tmp_path / "v.avi", "-c:v", "mjpeg", seconds=1)
    content = bytearray(path.read_bytes())
    starts = [at for at in range(len(content)) if content[at : at + 4] == b"00dc" and content[at + 8 : at + 10] == b"\xff\xd8"]
    for start in starts[10:12]:
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        content[start + 8 : start + 8 + size] = bytes(size)
    path.write_bytes(content)
    video = shows_what_ffmpeg_shows(path)
    assert video.metadata["skipped"] == 2
    assert "2 skipped" in video.damage


def test_what_a_full_decode_found_stays(tmp_path):
    part = made(tmp_path / "part.ts", "-c:v", "mpeg2video")
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 2)
    with open_video(path, 25) as video:
        video.recount()
        next(video.read([[0]]))  # opens the file anew, and does not read to its end
        assert video.metadata["joined"] == 1


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "mp4", "mkv", "flac"])
def test_sound_with_a_cover_picture_is_no_video(tmp_path, suffix):
    cover = made(tmp_path / "cover.jpg", "-frames:v", "1", "-update", "1")
    path = tmp_path / f"song.{suffix}"
    if suffix == "mkv":
        ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-attach", cover, "-metadata:s:t", "mimetype=image/jpeg", path)
    else:
        covered = ["-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"]
        ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-i", cover, *covered, path)
    with pytest.raises(vie.VideoError, match="only sound and a cover picture"):
        open_video(path, 25)


def test_a_video_with_a_cover_picture_is_one(tmp_path):
    cover = made(tmp_path / "cover.png", "-frames:v", "1", "-update", "1", size="640x480")
    covered = ["-i", cover, "-map", "1", "-map", "0", "-c:v:0", "copy", "-disposition:v:0", "attached_pic", "-c:v:1", "mpeg4"]
    path = made(tmp_path / "v.mp4", *covered)
    with open_video(path, 25) as video:
        assert video.num_frames == 50
        assert video.metadata["width"] == 64


def test_what_ffmpeg_cannot_decode_is_named():
    from PIL import Image

    frames = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in (0, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, "webp", save_all=True, append_images=frames[1:])
    if av.library_versions["libavcodec"] >= (63,):
        pytest.skip("this FFmpeg decodes animated WebP")
    with pytest.raises(vie.VideoError, match=r"FFmpeg .* cannot decode .*webp"):
        vie.load_clip(file.getvalue(), vie.ClipSpec(num_frames=1))


@dataclasses.dataclass
class Stamped:
    """A packet or a frame."""

    pts: int | None
    dts: int | None
    duration: int | None = 40


def repaired(stamps, *, duration=40, **settings) -> tuple[list, int]:
    """Decoding times in ms, and joins."""
    times = PacketTimes(Fraction(1, 1000), 0, **settings)
    packets = [Stamped(stamp, stamp, duration) for stamp in stamps]
    for packet in packets:
        times(packet)
        assert packet.pts == packet.dts
    return [packet.dts for packet in packets], times.joins


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("stamps", "settings", "expected", "joins"),
    [
        ([0, 40, 9_000], {"loose": True}, [0, 40, 9_000], 0),
        ([0, 40, 11_000, 11_040], {"loose": True}, [0, 40, 80, 120], 1),
        ([5_000, 5_040, 0, 40], {"loose": True}, [5_000, 5_040, 5_080, 5_120], 1),
        ([0, 40, 20 * HOUR, 80], {"loose": True}, [0, 40, 80, 120], 2),
        ([0, 40, 20 * HOUR], {"loose": False, "end": Fraction(20 * 3600)}, [0, 40, 20 * HOUR], 0),
        ([0, 40, 20 * HOUR, 80], {"loose": False, "end": Fraction(8)}, [0, 40, 80, 120], 2),
        ([0, 40, 2 * HOUR], {"loose": False}, [0, 40, 80], 1),
        ([0, 40, HOUR // 2], {"loose": False}, [0, 40, HOUR // 2], 0),
        ([0, 40, 2 * HOUR], {"loose": False, "duration": 0}, [0, 40, 2 * HOUR], 0),
        ([0, 40, 31 * HOUR, 120], {"loose": False, "end": Fraction(31 * 3600)}, [0, 40, None, 120], 0),
        ([5_000, 5_040, 0], {"loose": False, "end": Fraction(8)}, [5_000, 5_040, 0], 0),
    ],
)
def test_where_time_stamps_are_moved_on(stamps, settings, expected, joins):
    assert repaired(stamps, **settings) == (expected, joins)


def test_frames_without_trustworthy_times_follow_one_another():
    def shown(frames, **settings):
        times = FrameTimes(Fraction(1, 1000), 0, Fraction(25), **settings)
        return [times(frame) for frame in frames], times.end

    assert shown([Stamped(None, None), Stamped(None, None)]) == ([0, 40], 80)
    assert shown([Stamped(0, 0), Stamped(None, None, 20), Stamped(None, None)]) == ([0, 40, 60], 100)
    assert shown([Stamped(0, 0), Stamped(300, 100)], timed=False) == ([0, 40], 80)
    # two presentation times that go back, and decoding times that do not
    assert shown([Stamped(80, 0), Stamped(40, 40), Stamped(120, 80)])[0] == [80, 40, 80]
    # a duration of one tick is made up
    assert shown([Stamped(0, 0, 1), Stamped(120, 120, 1)]) == ([0, 120], 240)


def test_a_gap_beyond_the_end_that_the_container_claims_is_closed(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, image in zip([0, 40, 20 * HOUR, 20 * HOUR + 40], gray_levels(4), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with open_video(path, 25) as video:
        assert video.num_frames == pytest.approx(20 * 3600 * 25, abs=5)
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # Duration, in ms
    path.write_bytes(content[:at] + np.array([160.0], ">f8").tobytes() + content[at + 8 :])
    with open_video(path, 25) as video:
        assert video.num_frames == 4
        assert video.metadata["joined"] == 1


def box(name: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), name) + content


def with_clean_aperture(path, width, height, right, down):
    """Adds a `clap` box to the sample entry of an MP4 file whose header comes last."""
    clap = box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, right, 2, down, 2))
    content = bytearray(path.read_bytes())
    position = 0
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4v"):
        while content[position + 4 : position + 8] != name:
            position += int.from_bytes(content[position : position + 4], "big")
        size = int.from_bytes(content[position : position + 4], "big")
        end = position + size
        content[position : position + 4] = (size + len(clap)).to_bytes(4, "big")
        position += 16 if name == b"stsd" else 8
    path.write_bytes(content[:end] + clap + content[end:])


@pytest.mark.parametrize(
    ("aperture", "shown"),
    [
        ((50, 40, 6, -4), (slice(2, 42), slice(10, 60))),  # the middle is 3 pixels right and 2 up
        ((64, 48, 0, 0), (slice(None), slice(None))),
        ((50, 40, 80, 0), (slice(None), slice(None))),  # outside the picture
    ],
)
def test_cropping_by_an_mp4_file(tmp_path, aperture, shown):
    path = write_video(tmp_path / "v.mp4", np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), np.uint8))
    with open_video(path, 25) as video:
        whole = next(video.read([range(5)]))
    with_clean_aperture(path, *aperture)
    with open_video(path, 25) as video:
        np.testing.assert_array_equal(next(video.read([range(5)])), whole[(slice(None), *shown)])


def element(name: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + (len(content) | 1 << 28).to_bytes(4, "big") + content


def test_cropping_by_a_matroska_file():
    crops = [element(name, bytes([value])) for name, value in ((0x54BB, 2), (0x54AA, 4), (0x54CC, 6), (0x54DD, 8))]
    sound, video = element(0xAE, element(0xE1)), element(0xAE, element(0xE0, *crops))
    file = io.BytesIO(element(0x1A45DFA3) + element(0x18538067, element(0x1549A966), element(0x1654AE6B, sound, video)))
    file.seek(3)
    assert container_crop(file, "matroska,webm", 1) == (2, 4, 6, 8)
    assert file.tell() == 3
    for stream in (0, 2):  # sound, none
        assert container_crop(file, "matroska,webm", stream) == WHOLE
    for end in range(len(file.getvalue())):
        container_crop(io.BytesIO(file.getvalue()[:end]), "matroska,webm", 1)
    random = np.random.default_rng(0)
    for _ in range(300):
        container_crop(io.BytesIO(random.bytes(200)), random.choice(["matroska,webm", "mov,mp4"]), 0)
