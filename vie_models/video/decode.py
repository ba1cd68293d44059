"""Reads video files with PyAV: frames by presentation time, whatever rate and length the container claims.

Two shortcuts avoid decoding everything. The length is read from the packets at the end of the file, and reading seeks to the
key frame before a wanted frame if that skips others. If decoding contradicts the packets (`LengthError`), if it meets damage,
or if the packets leave room for doubt, the whole file is decoded from its beginning. That full decode defines what its frames
are: those that the ffmpeg command line shows, also after damage. Frames between clips may be skipped, so damage there goes
unseen.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .aperture import container_crop
from .frames import LengthError, Video, VideoError
from .remote import RemoteFile, is_url
from .timeline import FrameTimes, PacketTimes
from .upright import clockwise, display_matrix, is_askew, is_on_its_side, upright

MAX_PIXELS = 2**26  # of a frame, twice 8K: a larger claim is taken for damage
_LOOSE_TIMES = 0x200  # AVFMT_TS_DISCONT: time stamps may jump, as in MPEG program and transport streams
_NO_TIMES = 0x80  # AVFMT_NOTIMESTAMPS: a bare stream of frames
_MADE_UP_TIMES = 0x1  # AVFMT_FLAG_GENPTS, which PyAV sets: presentation times that are wrong for B-frames in AVI
_MARKED_BY_JOIN = 3  # the most packets before a join among which libavformat marks one as damaged
_DEFAULT = 0x1  # AV_DISPOSITION_DEFAULT
_SEARCH_FOR_DAMAGE = {"err_detect": "crccheck+bitstream+buffer"}
_ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC
_FALSE_KEYS = frozenset({"apng"})  # containers that mark frames as key frames that keep parts of the last one
_UNMARKED_KEYS = frozenset({"cfhd"})  # codecs whose frames all stand alone, and whose decoder marks none as a key frame
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
        self._scaler_threads = {"threads": 1} if threads == 1 else {}  # otherwise all cores
        self._num_frames: int | None = None
        self._by_packets = False  # whether num_frames and _origin are from packets, not from decoding
        self._size: tuple[int, int] | None = None  # height and width of the first frame, upright
        self._first = 0  # time stamp of the first packet
        self._origin = 0  # grid index of the first frame, counted from the container's start
        self.packets_read = 0
        self._last_dts = 0  # in an AVI, a count of frames from 0
        self._keys_flagged = True  # whether the container marks key frames
        self._crop: dict[str, str] = {}  # what the container takes off, as FFmpeg's filter
        self._open()
        self._read_crop()

    def _read_crop(self) -> None:
        by_path = isinstance(self._source, str)
        with Path(self._source).open("rb") if by_path else contextlib.nullcontext(self._source) as file:
            crop = container_crop(file, self._container.format.name, self._stream.index)
        self._check_connection()
        if any(crop):
            left, top = crop.left, crop.top
            self._crop = {"crop": f"w=iw-{left}-{crop.right}:h=ih-{top}-{crop.bottom}:x={left}:y={top}"}

    def _open(self) -> None:
        """Opens the file at its start."""
        if not isinstance(self._source, str):
            self._source.seek(0)
        try:
            self._container = self._av.open(self._source, metadata_errors="replace")
        except (self._av.error.FFmpegError, OverflowError) as error:
            self._check_connection()
            raise VideoError(self.name, f"cannot be opened as a video: {_text(error)}") from error
        self._container.flags &= ~_MADE_UP_TIMES
        try:
            self._stream = self._pick_stream()
        except VideoError:
            self.close()
            raise
        codec = self._stream.codec_context
        codec.options = {
            **_SEARCH_FOR_DAMAGE,
            "flags": "+unaligned",  # cropping at the left stops short of the picture otherwise
            "max_pixels": str(MAX_PIXELS),  # whatever the headers claim
        }
        codec.thread_count = self._threads or 0
        codec.thread_type = "AUTO"
        self._loose = bool(self._container.format.flags & _LOOSE_TIMES)
        self._timed = not self._container.format.flags & _NO_TIMES
        start = Fraction(self._container.start_time or 0, 1_000_000)
        if self._loose and self._stream.start_time is not None:  # ffmpeg counts from the streams that it reads, then
            start = Fraction(_rounded(self._stream.start_time * self._stream.time_base * 1_000_000), 1_000_000)
        self._start = _rounded(start / self._stream.time_base)
        self._untouched = True
        self._claimed_size = (codec.width, codec.height)
        duration = self._container.duration
        self.metadata |= {
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
        """Returns the video stream that ffmpeg would pick: one by default or the largest, and no cover picture."""
        streams = self._container.streams
        videos = [stream for stream in streams.video if not self._is_cover(stream)]
        stream = max(videos, key=_rank, default=None)
        if stream is None:
            kinds = sorted({"a cover picture" if stream.type == "video" else stream.type for stream in streams}) or ["nothing"]
            only = "sound and a cover picture" if kinds == ["a cover picture", "audio"] else ", ".join(kinds)
            raise VideoError(self.name, f"has no video stream, only {only}")
        if stream.codec_context is None or stream.codec_context.codec is None:
            raise VideoError(self.name, f"has a video stream that {self._ffmpeg()} cannot decode")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise VideoError(self.name, f"claims frames of {width} x {height}; at most {MAX_PIXELS} pixels are allowed")
        return stream

    def _is_cover(self, stream: Any) -> bool:
        """Whether a video stream is the picture on a record's sleeve."""
        return bool(stream.disposition.value & _ATTACHED_PICTURE)

    def _ffmpeg(self) -> str:
        return f"this FFmpeg (libavcodec {'.'.join(map(str, self._av.library_versions['libavcodec']))})"

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
        for _ in self._decode_all():
            pass

    def _length_by_packets(self) -> int | None:
        """Returns the length in grid points by the time stamps of the first and last packets. None if they are in doubt."""
        if self._loose or not self._timed or self._container.format.name in _FALSE_KEYS:
            return None
        if self._container.format.name == "avi" and self._stream.codec_context.has_b_frames:
            return None  # AVI has no presentation times: B-frames are out of order
        packet_times = self._new_packet_times()
        try:
            packets = self._packets()
            first = next(packets)
            if not _is_key(first) or first.pts is None:
                return None
            self._first = first.pts
            self._origin = self.nearest(self._seconds(first.pts))
            begun = [first]
            while begun[-1].dts is not None and begun[-1].dts < first.pts:
                begun.append(next(packets))
                if begun[-1].pts is not None and begun[-1].pts < first.pts:  # it is shown before the first key frame
                    return None
            if claimed := self._stream.duration or math.floor(
                (self.metadata["claimed_duration"] or 0) / self._stream.time_base
            ):
                packets = self._packets((self._stream.start_time or 0) + claimed)
            else:
                packets = itertools.chain(begun, packets)
            end: Fraction | None = None
            for packet in packets:
                if packet.size == 0:
                    continue
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return None
                its_end = self._seconds(packet.pts) + self._duration(packet)
                if end is not None and its_end < end - 1:
                    return None
                end = its_end if end is None else max(end, its_end)
        except (self._av.error.FFmpegError, StopIteration):
            return None
        claimed_end = self._seconds((self._stream.start_time or 0) + (self._stream.duration or 0))
        if end is None or end + 1 / self.rate < claimed_end or not packet_times.believes(end):
            return None
        return max(self.nearest(end) - self._origin, 1)

    def _shown(self, wanted: Sequence[int] | None) -> Iterator[tuple[int, int, Any]]:
        if wanted is None or not self._by_packets:
            yield from self._decode_all()
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

    def _decode_all(self) -> Iterator[tuple[int, int, Any]]:
        """As `_shown`, for all frames from the start. This defines the file's content. Sets `num_frames` and `damage`."""
        done = 0
        try:
            for shown in self._once():
                yield shown
                done = shown[1]
            return
        except _DamageError as error:
            damage = error.damage
        for begin, end, frame in self._once(damage):
            if end > done:
                yield max(begin, done), end, frame

    def _once(self, damage: _Damage | None = None) -> Iterator[tuple[int, int, Any]]:
        """As `_decode_all`. Raises _DamageError unless the file's first damage is known."""
        self._reopen()
        if damage:  # several threads conceal differently from run to run, and looking for damage changes what is shown there
            codec = self._stream.codec_context
            codec.options = {key: value for key, value in codec.options.items() if key not in _SEARCH_FOR_DAMAGE}
            codec.thread_count = 1
        frame_times: FrameTimes | None = None
        held: Any = None
        back: str | None = None
        origin = begin = 0
        for frame in self._frames(self._packets(), known=damage, leading=True):
            frame_times = frame_times or self._frame_times()
            index = self.nearest(self._seconds(frame_times(frame)))
            if held is None:
                origin = index
                self._size = None
                self._rgb(frame)  # sets it
            index -= origin
            if begin - index > self.rate and not back:
                back = f"time stamps go back by {self._time(begin - index)} after {self._time(begin)}, and frames are left out"
            index = max(index, begin)
            self._damage.after = index + 1
            if held is not None and index > begin:
                yield begin, index, held
            held, begin = frame, index
        if held is None and self._keys_flagged and not self._damage:
            self._keys_flagged = False
            yield from self._once(damage)
            return
        if frame_times is None:
            codec = self._stream.codec_context.name
            why = (
                f"{self._ffmpeg()} cannot decode its {codec} stream ({self._damage})" if self._damage else "it has no key frame"
            )
            raise VideoError(self.name, f"has a video stream but no frame that can be decoded: {why}")
        end = max(self.nearest(self._seconds(frame_times.end)) - origin, begin, 1)
        found = self._damage
        if damage:
            found.concealed, found.skipped = max(found.concealed, damage.concealed), max(found.skipped, damage.skipped)
        if self._container.format.name == "avi" and self._last_dts + 3 < self._stream.frames:
            found.note(f"has only {self._last_dts + 1} of the {self._stream.frames} frames that it claims")
        found.first = found.first or back
        self._origin, self._num_frames, self.damage = origin, end, str(found) or None
        counts = {"joined": self._packet_times.joins, "concealed": found.concealed, "skipped": found.skipped}
        self.metadata |= {what: count for what, count in counts.items() if count}
        if begin < end:
            yield begin, end, held

    def _part(self, time_stamp: int, first: int, last: int) -> Iterator[tuple[int, int, Any]]:
        """As `_shown`, for grid indices `first` to `last`, after seeking. LengthError if the packets were wrong."""
        frame_times = self._frame_times()
        held: Any = None
        begin = 0
        try:
            for frame in self._frames(self._packets_from(time_stamp)):
                index = self.nearest(self._seconds(frame_times(frame))) - self._origin
                if index > first if held is None else index < begin:
                    raise LengthError(self.name, f"has a frame at {index} that its packets did not announce")
                if frame_times.pts_faults or self._packet_times.joins or (frame.width, frame.height) != self._claimed_size:
                    raise LengthError(self.name, "has time stamps or sizes of frames that depend on what came before")
                if held is not None and index > begin:
                    yield begin, index, held
                    if last < index:
                        return
                held, begin = frame, index
        except (_DamageError, self._av.error.FFmpegError) as error:
            raise LengthError(self.name, str(error)) from error
        end = max(self.nearest(self._seconds(frame_times.end)) - self._origin, 1)
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

    def _frames(self, packets: Iterator[Any], known: _Damage | None = None, *, leading: bool = False) -> Iterator[Any]:
        """Yields decoded frames from the first key frame on. Raises _DamageError at damage; goes on if the first is known.

        Frames that follow the key frame but are shown before it may refer to frames that were not read, after a seek. Without
        `leading` they are left out.
        """
        damage = self._damage = _Damage(self.rate, known.first if known else None)
        key: float | None = None
        for packet in self._timed_packets(packets):
            if self.progress:
                self.progress()
            if packet is not None:
                if key is None and (packet.is_keyframe or not self._keys_flagged):
                    key = -math.inf if leading or packet.pts is None else packet.pts
                if packet.is_corrupt:
                    damage.packets.add(packet.pts)
            if key is None:
                continue
            try:
                frames = packet.decode() if packet else self._stream.codec_context.decode(None)
            except self._av.error.FFmpegError as error:
                damage.skip(_text(error))
                frames = []
            for frame in frames:
                if frame.pts is not None and frame.pts < key:
                    continue
                if frame.pts == key != self._first and not (frame.key_frame or self.metadata["codec"] in _UNMARKED_KEYS):
                    raise LengthError(self.name, "has a packet that is marked as a key frame and is none")
                damage.show(frame)
                if damage and not known:
                    break
                yield frame
            if damage and not known:
                raise _DamageError(damage)

    def _timed_packets(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yields packets with the time stamps that ffmpeg gives them, and at last None."""
        self._packet_times = times = self._new_packet_times()
        waiting: deque[Any] = deque()
        try:
            for packet in packets:
                if packet.size == 0:
                    continue
                joins = times.joins
                times(packet)
                if not self._timed:
                    packet.pts = packet.dts = None
                if times.joins > joins:
                    for before in waiting:
                        before.is_corrupt = False  # it is only that the counter of transport packets begins anew
                waiting.append(packet)
                if len(waiting) > (_MARKED_BY_JOIN if self._loose else 0):
                    yield waiting.popleft()
        except self._av.error.FFmpegError as error:
            yield from waiting
            waiting.clear()
            self._damage.note(_text(error))
        yield from waiting
        yield None

    def _new_packet_times(self) -> PacketTimes:
        claimed = self.metadata["claimed_duration"]
        end = None if claimed is None else Fraction(claimed)
        return PacketTimes(self._stream.time_base, self._start, loose=self._loose, end=end)

    def _frame_times(self) -> FrameTimes:
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not self._timed:  # the decoder knows it from the first frame on
            rate = self._stream.codec_context.framerate or rate
        return FrameTimes(self._stream.time_base, self._start, rate, timed=self._timed)

    def _seconds(self, time_stamp: int) -> Fraction:
        """Returns the presentation time in seconds since the container's start, as ffmpeg counts it."""
        return (time_stamp - self._start) * self._stream.time_base

    def _time(self, length: int) -> str:
        return f"{float(length / self.rate):.2f} s"

    def _time_stamp(self, index: int) -> int:
        """Returns the last time stamp at or before a grid point."""
        return math.floor((index + self._origin) / self.rate / self._stream.time_base) + self._start

    def _duration(self, frame_or_packet: Any) -> Fraction:
        if duration := getattr(frame_or_packet, "duration", None):
            return duration * self._stream.time_base
        return 1 / (self._stream.average_rate or self._stream.guessed_rate or Fraction(25))

    def _rgb(self, frame: Any) -> np.ndarray:
        matrix = display_matrix(frame)
        filters = dict(self._crop)
        if is_askew(matrix):
            filters["rotate"] = f"{clockwise(matrix):f}*PI/180"
        frame = _filtered(self._av, frame, filters) if filters else frame
        lies = is_on_its_side(matrix)
        size = (frame.width, frame.height) if lies else (frame.height, frame.width)
        self._size = self._size or size
        height, width = reversed(self._size) if lies else self._size
        image = self._scaler.reformat(frame, width, height, "rgb24", interpolation="BICUBIC", **self._scaler_threads)
        return np.ascontiguousarray(upright(image.to_ndarray(), matrix))


class _Damage:
    """What was damaged in one pass over a file."""

    def __init__(self, rate: Fraction, first: str | None) -> None:
        self._rate = rate
        self.first = first
        self.packets: set[int | None] = set()  # time stamps of damaged packets
        self.concealed = self.skipped = 0  # numbers of frames
        self.after = 0  # grid points shown so far

    def __bool__(self) -> bool:
        return self.first is not None

    def __str__(self) -> str:
        counts = {"concealed": self.concealed, "skipped": self.skipped}
        frames = " and ".join(f"{count} {how}" for how, count in counts.items() if count)
        return f"{self.first or ''}{f'; frames: {frames}' if frames else ''}"

    def note(self, reason: str) -> None:
        """Notes the first damage."""
        self.first = self.first or f"{reason} after {float(self.after / self._rate):.2f} s"

    def skip(self, reason: str) -> None:
        """Notes that a packet gave an error instead of a frame."""
        self.note(reason)
        self.skipped += 1

    def show(self, frame: Any) -> None:
        """Notes whether a frame that is shown is damaged: the decoder concealed what was missing."""
        if frame.is_corrupt or (self.packets and frame.pts in self.packets):
            self.note("a damaged frame")
            self.concealed += 1


class _DamageError(Exception):
    """Damage in the file, where there must be none."""

    def __init__(self, damage: _Damage) -> None:
        super().__init__(damage.first)
        self.damage = damage


def _rank(stream: Any) -> tuple[bool, int]:
    """Ranks video streams as ffmpeg does (map_auto_video), but an animation before its still picture."""
    codec = stream.codec_context
    pixels = codec.width * codec.height if codec else 0
    return stream.frames != 1, pixels + 5_000_000 * bool(stream.disposition.value & _DEFAULT)


def _filtered(av: Any, frame: Any, filters: dict[str, str]) -> Any:
    """Returns a frame after some of FFmpeg's filters, name to arguments."""
    graph = av.filter.Graph()
    chain = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=1)]
    chain += [graph.add(name, arguments) for name, arguments in filters.items()]
    chain.append(graph.add("buffersink"))
    for one, following in itertools.pairwise(chain):
        one.link_to(following)
    graph.configure()
    graph.push(frame)
    return graph.pull()


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


def _rounded(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading video files needs PyAV: pip install av") from error
    return av
