"""Reads video files with PyAV: frames by presentation time, whatever rate and length the container claims.

Two shortcuts avoid decoding everything. The length is read from the packets at the end of the file, and reading seeks to the
key frame before a wanted frame if that skips others. If decoding contradicts the packets (`LengthError`), or if the packets
leave room for doubt, the whole file is decoded from its beginning. That full decode defines what its frames are.

Reading stops at the first damaged frame that it meets. Frames between clips may be skipped, so damage there goes unseen.
"""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .frames import LengthError, Video, VideoError
from .remote import RemoteFile, is_url

MAX_PIXELS = 2**26  # of a frame, twice 8K: a larger claim is taken for damage
_LOOSE_TIMES = 0x200  # AVFMT_TS_DISCONT: time stamps may jump, as in MPEG program and transport streams
_JUMP = 12  # from this gap between wanted frames (grid points), looking for a key frame is worth it


class VideoFile(Video):
    """A video file. `packets_read` counts the packets read so far."""

    def __init__(self, source: str | os.PathLike[str] | bytes | BinaryIO, fps: float, *, threads: int | None = None) -> None:
        super().__init__(source if isinstance(source, (str, os.PathLike)) else f"<{type(source).__name__}>", fps)
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be >= 1, got {threads}")
        self._av = _import_av()
        self._source = _file(source)
        self._threads = threads
        self._scaler = self._av.video.reformatter.VideoReformatter()  # one for all frames: it is costly to set up
        documentation = self._scaler.reformat.__doc__ or ""  # older versions use one thread, newer ones all cores
        self._scaler_threads = {"threads": 1} if threads == 1 and "threads" in documentation else {}
        self._num_frames: int | None = None
        self._by_packets = False  # whether num_frames and _origin are from packets, not from decoding
        self._first = 0  # time stamp of the first packet
        self._origin = 0  # grid index of the first frame, counted from the container's start
        self.packets_read = 0
        self._last_dts = 0  # in an AVI, a count of frames from 0
        self._open()

    def _open(self) -> None:
        """Opens the file at its start."""
        if not isinstance(self._source, str):
            self._source.seek(0)
        try:
            self._container = self._av.open(self._source, metadata_errors="replace")
        except (self._av.error.FFmpegError, OverflowError) as error:
            self._check_connection()
            raise VideoError(self.name, f"cannot be opened as a video: {_text(error)}") from error
        try:
            self._stream = self._pick_stream()
        except VideoError:
            self.close()
            raise
        codec = self._stream.codec_context
        codec.options = {"err_detect": "crccheck+bitstream+buffer", "max_pixels": str(MAX_PIXELS)}  # whatever the headers claim
        codec.thread_count = self._threads or 0
        codec.thread_type = "AUTO"
        ticks = Fraction(self._container.start_time or 0, 1_000_000) / self._stream.time_base
        self._start = math.floor(ticks + Fraction(1, 2)) * self._stream.time_base  # as ffmpeg rounds it
        self._untouched = True
        self._size = (codec.width, codec.height)
        self._quarter_turns: int | None = None
        duration = self._container.duration
        self.facts = {
            "container": self._container.format.name,
            "codec": codec.name,
            "width": codec.width,
            "height": codec.height,
            "pixel_format": codec.format.name if codec.format else None,
            "fps": float(self._stream.average_rate) if self._stream.average_rate else None,
            "claimed_duration": duration / 1_000_000 if duration else None,
        }

    def _reopen(self) -> None:
        if not self._untouched:
            self._container.close()
            self._open()

    def _pick_stream(self) -> Any:
        """Returns the video stream that ffmpeg would pick: the largest one that is not a cover picture."""
        streams = self._container.streams
        stream = streams.best("video") if hasattr(streams, "best") else next(iter(streams.video), None)
        if stream is None:
            kinds = sorted({stream.type for stream in streams}) or ["nothing"]
            raise VideoError(self.name, f"has no video stream, only {', '.join(kinds)}")
        if stream.codec_context is None or stream.codec_context.codec is None:
            raise VideoError(self.name, "has a video stream that this build of FFmpeg cannot decode")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise VideoError(self.name, f"claims frames of {width} x {height}; at most {MAX_PIXELS} pixels are allowed")
        return stream

    def close(self) -> None:
        self._container.close()
        if isinstance(self._source, RemoteFile):
            self._source.close()

    @property
    def num_frames(self) -> int:
        if self._num_frames is None:
            self._reopen()
            self._num_frames = self._length_by_packets()
            self._by_packets = self._num_frames is not None
        if self._num_frames is None:
            self.recount()
        assert self._num_frames is not None
        return self._num_frames

    def recount(self) -> None:
        self._by_packets = False
        for _ in self._whole():
            pass

    def _length_by_packets(self) -> int | None:
        """Returns the length in grid points by the time stamps of the first and last packets. None if they are in doubt."""
        container = self._container.format
        if container.flags & _LOOSE_TIMES or (container.name == "avi" and self._stream.codec_context.has_b_frames):
            return None  # AVI has no presentation times: B-frames are out of order
        try:
            packets = self._packets()
            first = next(packets)
            if not _is_key(first) or first.pts is None:
                return None
            self._first = first.pts
            self._origin = self.nearest(self._seconds(first.pts))
            if claimed := self._stream.duration or math.floor((self.facts["claimed_duration"] or 0) / self._stream.time_base):
                packets = self._packets((self._stream.start_time or 0) + claimed)
            else:
                packets = itertools.chain([first], packets)
            end: Fraction | None = None
            for packet in packets:
                if packet.size == 0:  # marks the end of demuxing
                    continue
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return None
                its_end = self._seconds(packet.pts) + self._duration(packet)
                end = its_end if end is None else max(end, its_end)
        except (self._av.error.FFmpegError, StopIteration):
            return None
        claimed_end = self._seconds((self._stream.start_time or 0) + (self._stream.duration or 0))
        if end is None or end + 1 / self.rate < claimed_end:
            return None
        return max(self.nearest(end) - self._origin, 1)

    def _shown(self, wanted: Sequence[int] | None) -> Iterator[tuple[int, int, Any]]:
        if wanted is None or not self._by_packets:
            yield from self._whole()
        else:
            for run in self._runs(wanted):
                yield from self._part(*run)

    def _runs(self, wanted: Sequence[int]) -> list[tuple[int, int, int]]:
        """Splits the wanted indices where a key frame saves reading: (time stamp to seek to, first index, last index)."""
        runs: list[tuple[int, int, int]] = []
        seek, first, previous = self._first, wanted[0], 0
        for k in wanted:
            if k - previous > _JUMP and self._key_before(k) > previous:
                if k > first:
                    runs.append((seek, first, previous))
                seek, first = self._time_stamp(k), k
            previous = k
        return [*runs, (seek, first, previous)]

    def _key_before(self, index: int) -> int:
        """Returns the grid index of the key frame that seeking to a grid index finds, or 0 if it finds none."""
        time_stamp = self._time_stamp(index)
        try:
            for packet in self._packets(time_stamp):
                if packet.pts is None or packet.pts > time_stamp:
                    return 0
                if _is_key(packet):
                    return self.nearest(self._seconds(packet.pts)) - self._origin
        except self._av.error.FFmpegError:
            pass
        return 0

    def _whole(self) -> Iterator[tuple[int, int, Any]]:
        """As `_shown`, for all frames from the start. This defines the file's content. Sets `num_frames` and `damage`."""
        self._reopen()
        clock = _Clock(self._seconds, self._duration)
        held: Any = None
        origin = begin = 0
        damage = None
        try:
            for frame in self._frames(self._packets()):
                index = self.nearest(clock(frame))
                if held is None:
                    origin = index
                index = max(index - origin, begin)
                if held is not None and index > begin:
                    yield begin, index, held
                held, begin = frame, index
        except _DamageError as error:
            damage = f"{error} after {float(clock.seconds):.2f} s"
        # an error may have damaged the frame before it
        end = begin if damage else max(self.nearest(clock.end) - origin, 1)
        if held is None or not end:
            raise VideoError(self.name, f"has a video stream but no frame that can be decoded; {damage or 'no key frame'}")
        if not damage and self._key_frames_lost:
            damage = f"begins with {self._key_frames_lost} key frames that cannot be decoded; time 0 is after them"
        if not damage and self._container.format.name == "avi" and self._last_dts + 3 < self._stream.frames:
            damage = f"has only {self._last_dts + 1} of the {self._stream.frames} frames that it claims"
        self._origin, self._num_frames, self.damage = origin, end, damage
        if begin < end:
            yield begin, end, held

    def _part(self, time_stamp: int, first: int, last: int) -> Iterator[tuple[int, int, Any]]:
        """As `_shown`, for grid indices `first` to `last`, after seeking. LengthError if the packets were wrong."""
        clock = _Clock(self._seconds, self._duration)
        held: Any = None
        begin = 0
        try:
            for frame in self._frames(self._packets_from(time_stamp)):
                index = self.nearest(clock(frame)) - self._origin
                if self._key_frames_lost or (index > first if held is None else index < begin):
                    raise LengthError(self.name, f"has a frame at {index} that its packets did not announce")
                if held is not None and index > begin:
                    yield begin, index, held
                    if last < index:
                        return
                held, begin = frame, index
        except (_DamageError, self._av.error.FFmpegError) as error:
            raise LengthError(self.name, str(error)) from error
        end = max(self.nearest(clock.end) - self._origin, 1)
        if held is None or end != self._num_frames:
            raise LengthError(self.name, f"has {end} grid frames, but its packets said {self._num_frames}")
        if begin < end:
            yield begin, end, held

    def _packets(self, time_stamp: int | None = None) -> Iterator[Any]:
        """Yields packets from the key frame at or before a time stamp, or without one from the current position."""
        self._untouched = False
        try:
            if time_stamp is not None:
                self._container.seek(time_stamp, stream=self._stream, backward=True)
            for packet in self._container.demux(self._stream):
                self._check_connection()
                self.packets_read += 1
                self._last_dts = self._last_dts if packet.dts is None else packet.dts
                yield packet
        except self._av.error.FFmpegError:
            self._check_connection()
            raise
        self._check_connection()

    def _check_connection(self) -> None:
        """Raises the VideoError of a connection that broke, which FFmpeg may take for damage or the end of the file."""
        if isinstance(self._source, RemoteFile) and self._source.error:
            raise self._source.error

    def _packets_from(self, time_stamp: int) -> Iterator[Any]:
        """As `_packets`, but finds the start even if seeking to it fails (MPEG program streams)."""
        packets = self._packets(time_stamp)
        if time_stamp == self._first:
            if (packet := next(packets, None)) is None or packet.pts != self._first:
                self._reopen()
                packets = self._packets()
            else:
                packets = itertools.chain([packet], packets)
        return packets

    def _frames(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yields decoded frames from the first key frame on. Raises _DamageError at the first damaged one.

        Frames shown before the key frame are left out, because they may refer to frames that were not read. A key frame that
        cannot be decoded is skipped for the next one, and counted in `_key_frames_lost`.
        """
        self._key_frames_lost = 0
        key = begun = None
        try:
            for packet in packets:
                if self.progress:
                    self.progress()
                if key is None:
                    if not packet.is_keyframe:
                        continue
                    key = packet.pts if packet.pts is not None else -math.inf
                try:
                    if packet.is_corrupt:
                        raise _DamageError("a damaged packet")
                    for frame in packet.decode():
                        if frame.pts is not None and frame.pts < key:
                            continue
                        if frame.is_corrupt:  # the decoder concealed an error
                            raise _DamageError("a damaged frame")
                        begun = True
                        yield frame
                except (self._av.error.FFmpegError, _DamageError):
                    if begun:
                        raise
                    if packet.pts is None or packet.pts >= key:
                        self._key_frames_lost += 1
                        key = None
        except self._av.error.FFmpegError as error:
            raise _DamageError(_text(error)) from error

    def _seconds(self, time_stamp: int) -> Fraction:
        """Returns the presentation time in seconds since the container's start, as ffmpeg counts it."""
        return time_stamp * self._stream.time_base - self._start

    def _time_stamp(self, index: int) -> int:
        """Returns the last time stamp at or before a grid point."""
        return math.floor(((index + self._origin) / self.rate + self._start) / self._stream.time_base)

    def _duration(self, frame_or_packet: Any) -> Fraction:
        if duration := getattr(frame_or_packet, "duration", None):
            return duration * self._stream.time_base
        return 1 / (self._stream.average_rate or self._stream.guessed_rate or Fraction(25))

    def _rgb(self, frame: Any) -> np.ndarray:
        if self._quarter_turns is None:
            self._quarter_turns = _quarter_turns(frame)
        width, height = self._size
        image = self._scaler.reformat(
            frame, width=width or frame.width, height=height or frame.height, format="rgb24", **self._scaler_threads
        )
        return np.ascontiguousarray(np.rot90(image.to_ndarray(), self._quarter_turns))


class _DamageError(Exception):
    """Damage in the file stops reading."""


class _Clock:
    """Presentation times of successive frames, in seconds since the container's start.

    Some containers hold decoding times instead of presentation times. As in libavcodec, the kind that has gone back less often
    is trusted. A frame without either follows the previous one.
    """

    def __init__(self, seconds: Callable[[int], Fraction], duration: Callable[[Any], Fraction]) -> None:
        self._seconds, self._duration = seconds, duration
        self._latest = dict.fromkeys(("pts", "dts"))
        self._faults = dict.fromkeys(("pts", "dts"), 0)
        self.seconds = self.end = Fraction(0)

    def __call__(self, frame: Any) -> Fraction:
        for kind, latest in self._latest.items():
            value = getattr(frame, kind)
            if value is not None:
                self._faults[kind] += latest is not None and value <= latest
                self._latest[kind] = value
        by_pts = frame.dts is None or self._faults["pts"] <= self._faults["dts"]
        time_stamp = frame.pts if by_pts and frame.pts is not None else frame.dts
        self.seconds = self.end if time_stamp is None else self._seconds(time_stamp)
        self.end = self.seconds + self._duration(frame)
        return self.seconds


def _is_key(packet: Any) -> bool:
    return packet.is_keyframe and not packet.is_discard and not packet.is_corrupt


def _file(source: str | os.PathLike[str] | bytes | BinaryIO) -> Any:
    """Returns what PyAV can open: a path, or a file object that can seek."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if is_url(source):
        return RemoteFile(source)
    if not isinstance(source, (str, os.PathLike)):
        if not source.seekable():
            raise ValueError("a file object must be able to seek: read it and pass its bytes instead")
        return source
    if not Path(source).is_file():
        hint = "; pass an address as a string, because a Path loses one of its slashes"
        raise FileNotFoundError(f"no video file at {source}{hint if str(source).startswith(('http:/', 'https:/')) else ''}")
    return str(source)


def _quarter_turns(frame: Any) -> int:
    """Returns the counter-clockwise quarter turns in the frame's display matrix (3 x 3 integers, rotation in rows first)."""
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            cosine, sine = np.frombuffer(bytes(side_data), "<i4")[:2].tolist()
            return round(math.atan2(-sine, cosine) / (math.pi / 2))
    return 0


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading video files needs PyAV: pip install av") from error
    return av
