"""Makes videos that are meant to do harm."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from .videos import gray_levels, write_video


def claiming_y4m(path: Path, size: int) -> Path:
    """1 MB that claims frames of size x size."""
    path.write_bytes(f"YUV4MPEG2 W{size} H{size} F25:1 Ip C420jpeg\nFRAME\n".encode() + bytes(10**6))
    return path


def claiming_avi(path: Path, size: int) -> Path:
    """A real AVI of raw frames, 64 x 48, whose header claims frames of size x size."""
    content = bytearray(write_video(path, gray_levels(30), codec="rawvideo").read_bytes())
    at = content.index(b"strf") + 8
    assert struct.unpack_from("<ii", content, at + 4) == (64, 48)
    struct.pack_into("<ii", content, at + 4, size, size)
    at = content.index(b"avih") + 8
    assert struct.unpack_from("<ii", content, at + 32) == (64, 48)
    struct.pack_into("<ii", content, at + 32, size, size)
    path.write_bytes(content)
    return path


def large_frames_avi(path: Path, size: int, frames: int = 3) -> Path:
    """An AVI that claims 64 x 48, and holds JPEG files of size x size."""
    image = pytest.importorskip("PIL.Image")
    jpeg = io.BytesIO()
    image.new("RGB", (size, size)).save(jpeg, "jpeg", quality=5)
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i in range(frames):
            packet = av.Packet(jpeg.getvalue())
            packet.pts = packet.dts = i
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)
    return path


def slow_video(path: Path, frames: int, seconds: float) -> Path:
    """A video of 64 x 48 whose frames stand `seconds` each."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, pixels in enumerate(gray_levels(frames)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = round(i * seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


PLAYLISTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile {target}\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash.mp4": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
}
"""Texts that FFmpeg takes for videos, and that have it read another file or address."""
