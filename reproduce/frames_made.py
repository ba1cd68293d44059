"""The videos that reproduce.frames reads: a table of what is varied, and ffmpeg's options for it.

Each frame shows its number in black and white, so that no two are alike, on colors and noise that no mirror leaves alone.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Edit = Callable[[bytes], bytes]


@dataclasses.dataclass(frozen=True)
class Made:
    """How a video is made: frames are encoded, perhaps copied with other options, parts are joined, bytes are changed."""

    name: str
    suffix: str
    encode: str
    """ffmpeg's options for the output."""
    inputs: str = ""
    """Further inputs, such as sound."""
    copy: tuple[str, ...] = ()
    """Options of copies that follow; `IN` is the file so far."""
    edit: Edit | None = None
    joined: tuple[Made, ...] = ()
    """Recordings whose bytes follow."""
    frames: int = 60
    first: int = 0
    """Number that the first frame shows."""
    rate: str = "25"
    size: tuple[int, int] = (96, 64)

    def but(self, name: str, **changes: object) -> Made:
        return dataclasses.replace(self, name=f"{self.name}, {name}", **changes)  # type: ignore[arg-type]


class CannotMakeError(Exception):
    """ffmpeg has no such encoder."""


@functools.lru_cache(maxsize=8)
def picture(first: int, count: int, width: int, height: int) -> bytes:
    """RGB frames, uint8 [count, height, width, 3], whose cells hold the bits of their number."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = x * 255 // width, y * 255 // height, 128
    row, column = y * 4 // height, x * 6 // width
    noise = np.random.default_rng(0).integers(0, 256, (32, height, width), np.uint8)
    cell = np.where(row == 0, column, np.where(column == 0, 5 + row, 99))  # 0 to 5 along the top, 6 to 8 down the left
    for k, frame in zip(range(first, first + count), frames, strict=True):
        for bit in range(9):
            frame[cell == bit] = 235 if k >> bit & 1 else 20
        frame[(row == 3) & (column > 1)] = noise[k % 32][(row == 3) & (column > 1)][:, None]
    return frames.tobytes()


def make(made: Made, folder: Path, ffmpeg: str) -> Path:
    """Writes the video into a folder. CannotMakeError if this ffmpeg lacks the encoder."""
    path = folder / f"video.{made.suffix}"
    width, height = made.size
    head = [ffmpeg, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    head += ["-framerate", made.rate, "-i", "-", *made.inputs.split()]
    _run([*head, *made.encode.split(), str(path)], made, picture(made.first, made.frames, width, height))
    for options in made.copy:
        source = path.rename(folder / f"before.{path.suffix[1:]}")
        before, _, after = options.partition("IN")
        _run([ffmpeg, "-v", "error", "-y", *before.split(), "-i", str(source), *after.split(), str(path)], made)
    content = path.read_bytes()
    for part in made.joined:
        content += make(part, folder, ffmpeg).read_bytes()
    path.write_bytes(made.edit(content) if made.edit else content)
    return path


def _run(command: list[str], made: Made, given: bytes = b"") -> None:
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    if missing := re.search(r"Unknown encoder '(\w+)'", said):
        raise CannotMakeError(missing[1])
    if done.returncode:
        raise RuntimeError(f"{made.name}: {' '.join(command)}\n{said}")


X264 = "-pix_fmt yuv420p -c:v libx264 -preset veryfast -x264-params threads=1"
H264 = f"{X264}:keyint=25:bframes=0"
H264B = f"{X264}:keyint=25:bframes=3:b-adapt=0"
HEVC = (
    "-pix_fmt yuv420p -c:v libx265 -preset ultrafast "
    "-x265-params log-level=error:pools=1:frame-threads=1:keyint=25:bframes=3:b-adapt=0"
)
AV1 = "-pix_fmt yuv420p -c:v libsvtav1 -preset 12 -g 25 -svtav1-params lp=1"
AOM = "-pix_fmt yuv420p -c:v libaom-av1 -cpu-used 8 -g 25 -threads 1"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8 -g 25 -auto-alt-ref 0"
VP9 = "-pix_fmt yuv420p -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25"
ALT_REF = "-deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 12"
MPEG2B = "-c:v mpeg2video -g 15 -bf 2 -q:v 4"
MPEG4 = "-c:v mpeg4 -g 15 -q:v 4"
TS = "-muxdelay 0.2"
SOUND = "-f lavfi -i sine=duration={}:sample_rate=48000"

# codec: (options, containers, changes)
CODECS: dict[str, tuple[str, str, dict[str, object]]] = {
    "h264": (H264, "mp4 mov mkv avi ts m2ts mpg vob flv f4v asf nut 3gp wtv h264 mxf ismv", {}),
    "h264 B": (H264B, "mp4 mov mkv avi ts m2ts mpg vob flv f4v asf nut 3gp wtv h264 mxf ismv", {}),
    "h264 by openh264": ("-pix_fmt yuv420p -c:v libopenh264 -g 25 -allow_skip_frames 0", "mp4", {}),
    "hevc B": (HEVC, "mp4 mov mkv ts flv nut hevc", {}),
    "av1": (AOM, "mp4 mkv webm ivf obu ts", {"frames": 30}),
    "av1 by SVT": (AV1, "mp4 webm", {}),
    "av1 by rav1e": ("-pix_fmt yuv420p -c:v librav1e -speed 10 -g 25", "mkv", {"frames": 30}),
    "vvc": ("-c:v libvvenc -preset faster -threads 1", "mp4 ts", {"frames": 30, "size": (128, 96)}),
    "vp8": (VP8, "webm mkv ivf avi nut", {}),
    "vp8 alt-ref": (f"{VP8} {ALT_REF} -b:v 300k", "webm ivf", {}),
    "vp9": (VP9, "webm mkv mp4 ivf nut", {}),
    "vp9 alt-ref": (f"{VP9} {ALT_REF}", "webm mp4 ivf avi", {}),
    "mpeg4": (MPEG4, "avi mp4 mov mkv nut m4v 3gp ts asf", {}),
    "mpeg4 B": (MPEG4 + " -bf 2", "avi mp4 mkv nut m4v ts asf", {}),
    "mpeg4 by xvid": ("-c:v libxvid -g 15 -q:v 4", "avi mp4", {}),
    "mpeg4 by xvid B": ("-c:v libxvid -g 15 -bf 2 -q:v 4", "avi mp4 mkv", {}),
    "msmpeg4": ("-c:v msmpeg4 -q:v 4", "avi asf", {}),
    "msmpeg4v2": ("-c:v msmpeg4v2 -q:v 4", "avi asf", {}),
    "wmv1": ("-c:v wmv1 -q:v 4", "asf wmv avi", {}),
    "wmv2": ("-c:v wmv2 -q:v 4", "asf wmv", {}),
    "h261": ("-c:v h261 -q:v 4", "h261 avi mkv", {"size": (176, 144), "rate": "30000/1001"}),
    "h263": ("-c:v h263 -q:v 4", "3gp avi h263 mov", {"size": (128, 96)}),
    "h263p": ("-c:v h263p -q:v 4", "mkv avi", {}),
    "flv1": ("-c:v flv -q:v 4", "flv avi", {}),
    "rv10": ("-c:v rv10 -q:v 4", "rm", {}),
    "rv20": ("-c:v rv20 -q:v 4", "rm", {}),
    "svq1": ("-c:v svq1 -q:v 4", "mov", {}),
    "theora": ("-c:v libtheora -q:v 7 -g 16", "ogv ogg mkv", {}),
    "mpeg1": ("-c:v mpeg1video -g 15 -q:v 4", "mpg m1v avi ts", {}),
    "mpeg1 B": ("-c:v mpeg1video -g 15 -bf 2 -q:v 4", "mpg m1v mkv avi ts", {}),
    "mpeg2": ("-c:v mpeg2video -g 15 -q:v 4", "mpg vob ts m2v mxf", {}),
    "mpeg2 B": (MPEG2B, "mpg vob ts m2ts m2v mkv mp4 mov avi wtv mxf asf", {}),
    "mjpeg": ("-c:v mjpeg -q:v 4", "avi mov mp4 mkv mjpeg asf", {}),
    "ljpeg": ("-c:v ljpeg", "avi", {}),
    "jpeg2000": ("-c:v jpeg2000", "mov mkv", {}),
    "ffv1": ("-c:v ffv1 -level 3", "avi mkv nut", {}),
    "huffyuv": ("-c:v huffyuv", "avi mkv", {}),
    "ffvhuff": ("-c:v ffvhuff", "avi", {}),
    "utvideo": ("-c:v utvideo", "avi mov", {}),
    "magicyuv": ("-c:v magicyuv", "avi mkv", {}),
    "prores": ("-c:v prores_ks", "mov mkv mxf", {}),
    "prores 4444": ("-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le", "mov", {}),
    "dnxhr": ("-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p", "mov mxf", {"size": (256, 128), "frames": 30}),
    "cineform": ("-c:v cfhd", "mov avi", {}),
    "dv": ("-c:v dvvideo -pix_fmt yuv420p", "dv avi mov", {"size": (720, 576), "frames": 10}),
    "cinepak": ("-c:v cinepak", "avi mov", {"frames": 20}),
    "msvideo1": ("-c:v msvideo1", "avi", {}),
    "rpza": ("-c:v rpza", "mov", {}),
    "qtrle": ("-c:v qtrle", "mov", {}),
    "zmbv": ("-c:v zmbv", "avi", {}),
    "flashsv": ("-c:v flashsv", "flv", {}),
    "flashsv2": ("-c:v flashsv2", "flv", {}),
    "snow": ("-c:v snow -strict -2 -q:v 4", "avi nut", {}),
    "dirac": ("-c:v vc2 -strict -1", "mkv mov", {}),
    "raw": ("-c:v rawvideo -pix_fmt yuv420p", "avi nut mkv y4m mov", {}),
    "v210": ("-c:v v210", "mov avi", {}),
    "png": ("-c:v png", "mov avi mkv", {}),
    "hap": ("-c:v hap", "mov", {}),
    "asv1": ("-c:v asv1 -q:v 4", "avi", {}),
    "speedhq": ("-c:v speedhq -pix_fmt yuv422p", "avi", {}),
    "roq": ("-c:v roqvideo", "roq", {"size": (64, 64), "rate": "30", "frames": 20}),
    "gif": ("", "gif", {}),
    "apng": ("-c:v apng", "apng", {}),
    "avif": (AOM, "avif", {"frames": 20}),
}
VARIABLE = "-fps_mode passthrough -enc_time_base 1:1000 -vf settb=1/1000,"
# kind: (changes, extra options)
RATES: dict[str, tuple[str, str]] = {
    "12.5 fps": ("25/2", ""),
    "23.976 fps": ("24000/1001", ""),
    "29.97 fps": ("30000/1001", ""),
    "50 fps": ("50", ""),
    "59.94 fps": ("60000/1001", ""),
    "jitter": ("30", VARIABLE + "setpts=PTS+13*mod(N\\,3)"),
    "dropped frames": ("30", VARIABLE + "select=lt(mod(n\\,7)\\,4)"),
    "pauses": ("30", VARIABLE + "setpts=PTS+900*floor(N/20)"),
    "slowing down": ("60", VARIABLE + "setpts=PTS*(1+N/20)"),
}
OFFSETS = {"late by 20 ms": 0.02, "late by 1.4 s": 1.4, "late by an hour": 3600, "early by 0.5 s": -0.5}
LATE = "-copyts -avoid_negative_ts disabled"
TURNS = ("", "-display_hflip", "-display_vflip", "-display_hflip -display_vflip")
CROPS = {"left": (6, 0, 0, 0), "right": (0, 6, 0, 0), "top": (0, 0, 6, 0), "bottom": (0, 0, 0, 6), "all sides": (2, 4, 6, 8)}
EDITED = {  # options of a copy from mp4 to mp4 or mov
    "from 0.5 s": "-ss 0.5 IN -c copy",
    "from 1.3 s": "-ss 1.3 IN -c copy",
    "0.3 s to 1.7 s": "-ss 0.3 -t 1.4 IN -c copy",
    "without edit list": "IN -c copy -use_editlist 0",
    "from 0.5 s without edit list": "-ss 0.5 IN -c copy -use_editlist 0",
    "negative offsets": "IN -c copy -movflags negative_cts_offsets",
    "fragments": "IN -c copy -movflags frag_keyframe+empty_moov",
    "fragments of a frame": "IN -c copy -movflags frag_every_frame+empty_moov+default_base_moof",
    "fragments with delayed header": "IN -c copy -movflags frag_keyframe+delay_moov",
    "dash": "IN -c copy -movflags dash+global_sidx",
    "index in front": "IN -c copy -movflags faststart",
    "time base of 1/600": "IN -c copy -video_track_timescale 600",
    "time base of 1/25": "IN -c copy -video_track_timescale 25",
    "late by 1 s": f"-itsoffset 1 IN -c copy {LATE}",
    "all negative": "-itsoffset -0.3 IN -c copy -avoid_negative_ts disabled",
}
SOUNDS = {  # options of the second input
    "as long": SOUND.format(2.4),
    "longer": SOUND.format(5),
    "shorter": SOUND.format(1),
    "later": "-itsoffset 0.7 " + SOUND.format(2),
    "much earlier": "-itsoffset -0.6 " + SOUND.format(3),
}
GROUPS = {
    "key frames only": "keyint=1",
    "one key frame": "keyint=1000:min-keyint=1000:scenecut=0",
    "long groups": "keyint=40:min-keyint=40:scenecut=0:bframes=5:b-adapt=0",
    "open groups": "keyint=15:min-keyint=15:scenecut=0:bframes=3:b-adapt=0:open-gop=1",
    "pyramid": "keyint=30:bframes=8:b-adapt=0:b-pyramid=normal",
    "intra refresh": "keyint=15:intra-refresh=1:bframes=0",
    "slices": "keyint=25:slices=4",
}
FORMATS = {
    "h264 yuv422p": ("mp4", f"{H264B} -pix_fmt yuv422p"),
    "h264 yuv444p": ("mp4", f"{H264B} -pix_fmt yuv444p"),
    "h264 10 bit": ("mp4", f"{H264B} -pix_fmt yuv420p10le"),
    "h264 4:2:2 10 bit": ("mov", f"{H264B} -pix_fmt yuv422p10le"),
    "h264 gray": ("mp4", f"{H264B} -pix_fmt gray"),
    "h264 full range": ("mp4", f"{H264B} -pix_fmt yuvj420p"),
    "h264 rgb": ("mkv", "-c:v libx264rgb -preset veryfast -pix_fmt rgb24"),
    "h264 bt709": (
        "mp4",
        f"{H264B} -vf scale=out_color_matrix=bt709 -colorspace bt709 -color_primaries bt709 -color_trc bt709",
    ),
    "hevc 10 bit": ("mp4", f"{HEVC} -pix_fmt yuv420p10le"),
    "hevc 12 bit": ("mkv", f"{HEVC} -pix_fmt yuv420p12le"),
    "hevc 4:4:4": ("mp4", f"{HEVC} -pix_fmt yuv444p"),
    "hevc HDR": ("mp4", f"{HEVC} -pix_fmt yuv420p10le -colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084"),
    "vp8 with alpha": ("webm", "-c:v libvpx -pix_fmt yuva420p -auto-alt-ref 0 -cpu-used 8"),
    "vp9 with alpha": ("webm", "-c:v libvpx-vp9 -pix_fmt yuva420p -cpu-used 8"),
    "vp9 10 bit": ("webm", "-c:v libvpx-vp9 -pix_fmt yuv420p10le -cpu-used 8"),
    "vp9 4:4:4": ("webm", "-c:v libvpx-vp9 -pix_fmt yuv444p -cpu-used 8"),
    "ffv1 16 bit gray": ("mkv", "-c:v ffv1 -pix_fmt gray16le"),
    "ffv1 with alpha": ("mkv", "-c:v ffv1 -pix_fmt bgra"),
    "ffv1 gbrp10": ("mkv", "-c:v ffv1 -pix_fmt gbrp10le"),
    "ffv1 yuv410p": ("mkv", "-c:v ffv1 -pix_fmt yuv410p"),
    "raw rgb24": ("avi", "-c:v rawvideo -pix_fmt bgr24"),
    "raw rgb555": ("avi", "-c:v rawvideo -pix_fmt rgb555le"),
    "raw palette": ("nut", "-c:v rawvideo -pix_fmt pal8 -vf split[a][b];[a]palettegen[p];[b][p]paletteuse"),
    "raw uyvy": ("mov", "-c:v rawvideo -pix_fmt uyvy422"),
    "png 16 bit": ("mov", "-c:v png -pix_fmt rgb48be"),
    "png palette": ("mkv", "-c:v png -pix_fmt pal8 -vf split[a][b];[a]palettegen[p];[b][p]paletteuse"),
    "png with alpha": ("mov", "-c:v png -pix_fmt rgba"),
    "mjpeg 4:4:4": ("avi", "-c:v mjpeg -pix_fmt yuvj444p"),
}
INTERLACED = {
    "h264 top first": ("mp4", f"{X264}:tff=1:keyint=25", {}),
    "h264 bottom first": ("ts", f"{X264}:bff=1:keyint=25", {}),
    "mpeg2 top first": ("ts", f"{MPEG2B} -flags +ilme+ildct -field_order tt", {}),
    "mpeg2 bottom first": ("vob", f"{MPEG2B} -flags +ilme+ildct -field_order bb", {}),
    "mpeg4": ("avi", f"{MPEG4} -flags +ilme+ildct", {}),
    "mjpeg": ("mov", "-c:v mjpeg -field_order tb", {}),
    "prores": ("mov", "-c:v prores_ks -flags +ildct -field_order tt", {}),
    "ffv1": ("mkv", "-c:v ffv1 -field_order tt", {}),
    "mpeg2 from fields": ("mpg", f"-vf tinterlace=interleave_top,setfield=tff {MPEG2B} -flags +ilme+ildct", {"rate": "50"}),
    "h264 from fields": ("mkv", f"-vf tinterlace=interleave_top,setfield=tff {X264} -flags +ilme+ildct", {"rate": "50"}),
}
SIZES = {
    "h264": (H264B, "mp4 ts", [(94, 62), (98, 50), (16, 16), (130, 34)]),
    "h264 4:4:4": (f"{H264B} -pix_fmt yuv444p", "mp4", [(95, 63), (33, 17)]),
    "hevc": (HEVC, "mp4", [(94, 62), (98, 50), (130, 34)]),
    "mpeg4": (MPEG4, "avi mp4", [(95, 63), (33, 17)]),
    "mjpeg": ("-c:v mjpeg -q:v 3", "avi mov", [(95, 63)]),
    "mpeg2": (MPEG2B, "mpg", [(95, 63)]),
    "vp8": (VP8, "webm", [(95, 63)]),
    "vp9": (VP9, "webm", [(95, 63)]),
    "av1": (AV1, "mp4", [(94, 66), (130, 82)]),
    "theora": ("-c:v libtheora -q:v 7", "ogv", [(95, 63)]),
    "ffv1": ("-c:v ffv1 -pix_fmt yuv420p", "mkv", [(95, 63), (33, 17)]),
    "huffyuv": ("-c:v huffyuv -pix_fmt rgb24", "avi", [(95, 63)]),
    "png": ("-c:v png", "mov", [(95, 63)]),
    "gif": ("", "gif", [(95, 63)]),
}
TWO = "-filter_complex split[a][b];[b]scale=48:32,hflip[c]"  # a second video stream, smaller and mirrored
SEVERAL = {  # options of files with more than one video stream
    "small one first": f"{TWO} -map [c] -map [a]",
    "large one first": f"{TWO} -map [a] -map [c]",
    "small one by default": f"{TWO} -map [a] -map [c] -disposition:v:0 0 -disposition:v:1 default",
    "two of a size": "-filter_complex split[a][b];[b]hflip[c] -map [c] -map [a]",
}
STREAMS = {  # cut and joined: containers that recorders write as they go
    "h264 ts": ("ts", H264, {}),
    "h264 B ts": ("ts", f"{H264B} {TS}", {}),
    "mpeg2 B ts": ("ts", MPEG2B, {}),
    "mpeg2 B vob": ("vob", MPEG2B, {}),
    "mpeg1 mpg": ("mpg", "-c:v mpeg1video -g 15 -q:v 4", {}),
    "h264 sound ts": ("ts", f"{H264B} -c:a mp2", {"inputs": SOUND.format(2.4)}),
    "mpeg2 sound vob": ("vob", f"{MPEG2B} -c:a mp2", {"inputs": SOUND.format(2.4)}),
    "h264 flv": ("flv", H264, {}),
    "h264 B stream": ("h264", H264B, {}),
    "mpeg2 B stream": ("m2v", MPEG2B, {}),
    "mjpeg stream": ("mjpeg", "-c:v mjpeg", {}),
    "h264 B mkv": ("mkv", H264B, {}),
    "vp8 webm": ("webm", VP8, {}),
    "theora ogv": ("ogv", "-c:v libtheora -q:v 7 -g 16", {}),
    "mpeg4 avi": ("avi", MPEG4, {}),
    "wmv2 asf": ("asf", "-c:v wmv2", {}),
    "h264 B nut": ("nut", H264B, {}),
    "dv": ("dv", "-c:v dvvideo -pix_fmt yuv420p", {"size": (720, 576), "frames": 10}),
    "hevc B ts": ("ts", HEVC, {}),
}
JOINS = {  # options of two recordings whose bytes follow
    "time stamps begin anew": ("", ""),
    "time stamps go on": ("", "-output_ts_offset 2.4"),
    "a gap of 3 s": ("", "-output_ts_offset 5.4"),
    "a jump of 100 s": ("", "-output_ts_offset 100"),
    "a jump of 20 hours": ("", "-output_ts_offset 72000"),
    "a jump back of 11 s": ("-output_ts_offset 11", ""),
    "a jump back of 5000 s": ("-output_ts_offset 5000", ""),
}
JUMPING = "ts vob mpg"  # containers whose time stamps may jump


def _cut(start: float, stop: float) -> Edit:
    return lambda content: content[int(start * len(content)) : int(stop * len(content))]


def _hole(at: float, size: int, fill: bytes | None = None) -> Edit:
    def edit(content: bytes) -> bytes:
        first = int(at * len(content)) // 188 * 188
        return content[:first] + (fill * size if fill else b"") + content[first + size :]

    return edit


CUTS = {
    "end cut off": _cut(0, 0.55),
    "a packet lost": _hole(0.55, 188),
    "3 kB are zeros": _hole(0.6, 188 * 16, b"\0"),
}
HEADLESS = "ts vob mpg m2v h264 mjpeg dv"  # what can be read from the middle


def videos() -> Iterator[Made]:
    """Yields the table, row by row."""
    for codec, (options, containers, changes) in CODECS.items():
        for suffix in containers.split():
            yield Made(f"codec: {codec} in {suffix}", suffix, options, **changes)  # type: ignore[arg-type]
    rows: list[tuple[str, str]] = [("h264 B", suffix) for suffix in ["mp4", "mkv", "ts", "flv", "mpg"]]
    rows += [("mpeg4", "avi"), ("vp9", "webm"), ("mpeg2 B", "vob"), ("wmv2", "asf"), ("mjpeg", "mov")]
    for (codec, suffix), (kind, (rate, more)) in itertools.product(rows, RATES.items()):
        steady = suffix in ("avi", "mpg", "vob")  # without time stamps of single frames, or none of MPEG's rates
        if not (steady and (more or rate == "25/2")):
            yield Made(f"rate: {kind} {codec} in {suffix}", suffix, f"{CODECS[codec][0]} {more}", rate=rate)
    for suffix, (kind, offset) in itertools.product(["mp4", "mov", "mkv", "ts", "flv", "nut", "vob"], OFFSETS.items()):
        if offset > 0 or suffix in ("mp4", "mov", "mkv"):
            yield Made(f"start: {kind} in {suffix}", suffix, f"{H264B} -output_ts_offset {offset} {LATE}")
    for suffix, (kind, inputs) in itertools.product(["mp4", "mkv", "ts", "vob", "avi", "flv"], SOUNDS.items()):
        codec = MPEG4 if suffix == "avi" else H264B
        yield Made(f"sound: {kind} in {suffix}", suffix, f"{codec} -c:a {'mp2' if suffix == 'vob' else 'aac'}", inputs)
    for suffix, angle, mirror in itertools.product(["mp4", "mov", "mkv"], (0, 90, 180, 270, 30), TURNS):
        if angle == 90 or (suffix == "mp4" and not (angle == 30 and mirror)):
            turn = f"-display_rotation {angle} {mirror} IN -c copy"
            yield Made(f"turned: {angle} {mirror} in {suffix}", suffix, H264B, copy=(turn,))
    for codec, suffix, (kind, (left, right, top, bottom)) in itertools.product(("h264", "hevc"), ("mp4", "ts"), CROPS.items()):
        crop = f"IN -c copy -bsf:v {codec}_metadata=crop_left={left}:crop_right={right}:crop_top={top}:crop_bottom={bottom}"
        copies = (crop,) if suffix != "mp4" else (crop, "-display_rotation 90 -display_hflip IN -c copy")
        yield Made(f"cropped: {kind} {codec} in {suffix}", suffix, H264B if codec == "h264" else HEVC, copy=(crop,))
        if suffix == "mp4":
            yield Made(f"cropped: {kind} {codec}, turned", suffix, H264B if codec == "h264" else HEVC, copy=copies)
    for (codec, options), (kind, copy) in itertools.product((("h264 B", H264B), ("hevc B", HEVC)), EDITED.items()):
        yield Made(f"edit: {kind} {codec} in mp4", "mp4", options, copy=(copy,))
    for (kind, options), suffix in itertools.product(GROUPS.items(), ["mp4", "mkv", "ts", "avi", "h264"]):
        yield Made(f"groups: {kind} in {suffix}", suffix, f"{X264}:{options}")
    for kind, (suffix, options) in FORMATS.items():
        yield Made(f"format: {kind}", suffix, options, frames=30)
    for suffix, (kind, options) in itertools.product(["mp4", "mkv", "ts", "nut"], SEVERAL.items()):
        yield Made(f"streams: {kind} in {suffix}", suffix, f"{H264B} {options}")
    for suffix in ("mp4", "mkv"):
        cover = "-map 0 -map 1 -c:v:1 png -disposition:v:1 attached_pic"
        yield Made(f"streams: cover picture in {suffix}", suffix, f"{H264B} {cover}", "-f lavfi -i color=red:s=320x320:d=0.04")
    for kind, (suffix, options, changes) in INTERLACED.items():
        yield Made(f"interlaced: {kind} in {suffix}", suffix, options, **changes)  # type: ignore[arg-type]
    for codec, (options, containers, sizes) in SIZES.items():
        for suffix, size in itertools.product(containers.split(), sizes):
            yield Made(f"size: {size[0]} x {size[1]} {codec} in {suffix}", suffix, options, size=size, frames=30)
    for kind, (suffix, options, changes) in STREAMS.items():
        one = Made(f"joined: {kind}", suffix, options, **changes)  # type: ignore[arg-type]
        for name, (before, after) in JOINS.items():
            if name == next(iter(JOINS)) or suffix in JUMPING.split():
                one = dataclasses.replace(one, encode=f"{options} {before}")
                other = dataclasses.replace(one, encode=f"{options} {after}", first=100, frames=one.frames * 2 // 3)
                yield one.but(name, joined=(other,))
        if kind in ("h264 ts", "mpeg2 B vob"):
            one = dataclasses.replace(one, encode=options)
            yield one.but("another size", joined=(dataclasses.replace(one, first=100, size=(128, 80)),))
    for kind, (suffix, options, changes) in STREAMS.items():
        one = Made(f"cut: {kind}", suffix, options, **changes)  # type: ignore[arg-type]
        for name, edit in CUTS.items():
            yield one.but(name, edit=edit)
        if suffix in HEADLESS.split():
            yield one.but("start cut off", edit=_cut(0.3, 1))
