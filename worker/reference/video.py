"""Files in and out: decoding a video that nobody vouches for, encoding one that every browser plays.

Owns containers, codecs, times and sound; never looks at what a picture shows. Both ends stream: what is held does not
grow with the length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import av.error
from av import AudioFrame, AudioStream, Packet, VideoFrame, VideoStream
from av.stream import Disposition

from worker.errors import BadInput

from .picture import LIMITED, UNSTATED, matrix, orientation

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
OPEN = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}  # no playlists: those open other files
MAX_PIXELS = 8192 * 4352
THREADS = 2  # what one call may use for decoding and for encoding beside its own thread
AAC_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})


@contextmanager
def blaming(code: str, what: str) -> Iterator[None]:
    """Turns what FFmpeg says of bad bytes into `BadInput(code)`; a lack of memory or of a file stays what it is."""
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, (OSError, MemoryError)):
            raise
        raise BadInput(code, f"{what} ({error.strerror})") from error


class Reader:
    """A source: facts of its picture, then `frames_and_sound` in the order of the file.

    `width` and `height` are stored pixels, `rate` frames a second, `duration` seconds (None: not known),
    `shape` the width of a stored pixel over its height.

    Raises:
        BadInput: `not_video`, `no_video`, `too_small`, `too_large`.
    """

    def __init__(self, path: Path) -> None:
        with blaming("not_video", "this is no video that can be opened"):
            self._file = av.open(str(path.resolve()), options=OPEN, metadata_errors="replace")
        try:
            self._video = self._picture_stream()
        except BaseException:
            self._file.close()
            raise
        self.audio = next(iter(self._file.streams.audio), None)
        self.width, self.height = self._video.width, self._video.height
        self.rate = self._video.guessed_rate or self._video.average_rate or Fraction(25)
        self.time_base = cast(Fraction, self._video.time_base)
        self.shape = self._video.sample_aspect_ratio or Fraction(1)
        self.duration = self._length()
        self._origin = self._start()
        self._last: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def frames_and_sound(self) -> Iterator[VideoFrame | Packet[Any]]:
        """Decoded pictures, and packets of `audio` as they are; times are whole, count from the source's start.

        Every picture has a `pts` of its own, later than the one before, in `time_base`.

        Raises:
            BadInput: `damaged_video`, a part of the file cannot be decoded.
        """
        shift = 0 if self.audio is None else self._ticks(cast(Fraction, self.audio.time_base))
        for packet in self._demux(*[stream for stream in (self._video, self.audio) if stream is not None]):
            if packet.stream is self._video:
                yield from self._decode(packet)
            elif packet.size:
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                yield packet

    def frames(self) -> Iterator[VideoFrame]:
        """The decoded pictures alone."""
        for packet in self._demux(self._video):
            yield from self._decode(packet)

    def share(self, frame: VideoFrame) -> float:
        """How much of the video is over after this picture, 0..1; 0 where nobody knows how long it is."""
        if not self.duration:
            return 0.0
        return min(1.0, float(((frame.pts or 0) + frame.duration) * self.time_base) / self.duration)

    def shape_of(self, frame: VideoFrame) -> Fraction:
        """The width of a pixel over its height, in the upright picture."""
        return 1 / self.shape if orientation(frame).swap else self.shape

    def _picture_stream(self) -> VideoStream:
        moving = [one for one in self._file.streams.video if not one.disposition & Disposition.attached_pic]
        if not moving:
            raise BadInput("no_video", "the file has no moving picture in it")
        if any(one.codec_context is None for one in moving):
            raise BadInput("unsupported_video", "the moving picture is in a format that is not known here")
        stream = max(moving, key=lambda one: one.width * one.height)  # the one that the hub looks at, too
        if min(stream.width, stream.height) < 2:
            raise BadInput("too_small", f"{stream.width}x{stream.height} pixels are no picture")
        if stream.width * stream.height > MAX_PIXELS:
            raise BadInput("too_large", f"{stream.width}x{stream.height} is over {MAX_PIXELS:,} pixels")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        stream.thread_type = "AUTO"
        stream.thread_count = THREADS
        return stream

    def _length(self) -> float | None:
        if self._video.duration:
            return float(self._video.duration * self.time_base)
        return self._file.duration / av.time_base if self._file.duration else None

    def _start(self) -> int:
        """Microseconds that become zero; sound that starts early (an encoder's run-up) does not move the picture."""
        start = self._file.start_time or 0
        return start if start > 0 or (self._video.start_time or 0) < 0 else 0

    def _ticks(self, base: Fraction) -> int:
        return round(Fraction(self._origin, av.time_base) / base)

    def _demux(self, *streams: VideoStream | AudioStream) -> Iterator[Packet[Any]]:
        packets = self._file.demux(*streams)
        while True:
            with blaming("damaged_video", "the file cannot be read to its end"):
                packet = next(packets, None)
            if packet is None:
                return
            yield packet

    def _decode(self, packet: Packet[Any]) -> Iterator[VideoFrame]:
        at = "at the end" if packet.pts is None else f"at {float(packet.pts * self.time_base):.2f} s"
        with blaming("damaged_video", f"the picture {at} cannot be decoded"):
            frames = packet.decode()
        step = max(1, round(1 / self.rate / self.time_base))
        for frame in frames:
            next_pts = 0 if self._last is None else self._last + step
            told = next_pts if frame.pts is None else frame.pts - self._ticks(self.time_base)
            frame.pts = self._last = told if self._last is None else max(told, self._last + 1)
            frame.duration = frame.duration or step
            yield frame


class Writer:
    """An MP4 with H.264 yuv420p, and AAC where the source has sound; its index stands before its data."""

    def __init__(self, path: Path, source: Reader, first: VideoFrame, width: int, height: int) -> None:
        self._file = av.open(str(path.resolve()), "w", format="mp4", options={"movflags": "+faststart"})
        self._video = self._picture_stream(source, first, width, height)
        self._durations: deque[int] = deque()
        self._audio = None if source.audio is None else Sound(self._file, source.audio)

    def write(self, frame: VideoFrame) -> None:
        self._durations.append(frame.duration)
        self._mux_pictures(frame)

    def write_sound(self, packet: Packet[Any]) -> None:
        if self._audio is not None:
            self._file.mux(self._audio.packets(packet))

    def finish(self) -> None:
        """Flushes what the encoders still hold and completes the file."""
        self._mux_pictures(None)
        if self._audio is not None:
            self._file.mux(self._audio.packets(None))
        self._file.close()

    def close(self) -> None:
        """Lets go of the file, finished or not."""
        self._file.close()

    def _mux_pictures(self, frame: VideoFrame | None) -> None:
        for packet in self._video.encode(frame):
            packet.duration = self._durations.popleft()  # the encoder forgets it; the last one ends the video
            self._file.mux(packet)

    def _picture_stream(self, source: Reader, first: VideoFrame, width: int, height: int) -> VideoStream:
        stream = self._file.add_stream("libx264", rate=source.rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = source.time_base
        stream.options = {"preset": "veryfast", "crf": "23", "bf": "0"}  # B-frames: wrong length of uneven times
        context = stream.codec_context
        context.thread_count = THREADS
        context.sample_aspect_ratio = source.shape_of(first)
        context.color_range = LIMITED
        context.colorspace = matrix(first)
        context.color_primaries, context.color_trc = stated(first.color_primaries), stated(first.color_trc)
        return stream


def stated(number: int) -> int:
    """A colour property out of H.273; reserved numbers, which encoders refuse, become "not stated"."""
    return UNSTATED if number in (0, 3) else number


class Sound:
    """The one sound track: AAC goes through as it is, everything else becomes AAC."""

    def __init__(self, file: Any, source: AudioStream) -> None:
        if source.codec_context is None:
            raise BadInput("unsupported_sound", "the sound is in a format that is not known here")
        self._source = source
        self._copies = source.codec_context.name == "aac"
        if self._copies:
            self._stream = file.add_stream_from_template(source)
            return
        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in AAC_RATES else 48000
        self._stream = file.add_stream("aac", rate=rate)
        self._stream.layout = "mono" if context.channels == 1 else "stereo"

    def packets(self, packet: Packet[Any] | None) -> list[Packet[Any]]:
        """What is to be written for one packet of the source; None: that was the last."""
        if self._copies:
            if packet is None:
                return []
            packet.stream = self._stream
            return [packet]
        encoded: list[Packet[Any]] = []
        for frame in self._decode(packet):
            encoded += self._stream.encode(frame)
        return encoded + (self._stream.encode(None) if packet is None else [])

    def _decode(self, packet: Packet[AudioStream] | None) -> list[AudioFrame]:
        try:
            return self._source.codec_context.decode(packet)
        except av.error.InvalidDataError:
            return []  # a click in the sound is no reason to refuse the picture
