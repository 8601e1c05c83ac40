"""Decodes an untrusted file with PyAV and says what is in it; runs only inside the probe's fenced child.

Owns which demuxers and decoders a stranger's file may reach, and what each of the facts means. Writes nothing, opens
nothing but the file object that it was given.
"""

from __future__ import annotations

import io
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import Any, BinaryIO, NoReturn

import av
import av.error
import av.logging

from store.probe_header import is_cut_off, read_header
from store.probe_kinds import video_kind
from store.probe_pixels import CELL_SIDE, CELLS, as_shown, clockwise, poster, small, strip
from store.probe_wire import Job, Refused

# What phones, cameras, screen recorders and browsers write. Everything else FFmpeg knows is attack surface: playlists
# open other files, rare codecs (MagicYUV, CVE-2026-8461, for one) are where the memory errors are found.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
DECODERS = {
    "h264": "h264", "hevc": "hevc", "vp8": "vp8", "vp9": "vp9", "av1": "libdav1d,av1",
    "mpeg4": "mpeg4", "mjpeg": "mjpeg", "prores": "prores", "dnxhd": "dnxhd",
}
CONTAINERS = {"mov": "mp4", "matroska": "matroska", "avi": "avi", "mpegts": "mpegts"}
PICTURE_DECODERS = {"jpeg": "mjpeg", "png": "png", "webp": "webp"}

SHOWN = 2  # which picture of the strip, from 0, is the poster: at about 30 % of the film
STRIP_PIXELS = 30_000_000  # how many are decoded at most on the way from a keyframe to one picture of the strip
HEAD = 1 << 16  # bytes in which a kind of file is recognised
MAX_SIDE = 65_535  # pixels; as long as a JPEG's can be
MAX_DURATION_S = 48 * 3600
DAMAGE = (av.error.FFmpegError, ValueError, OverflowError, IndexError)  # how PyAV says that a file makes no sense


def decode(file: BinaryIO, job: Job) -> tuple[dict[str, Any], list[bytes]]:
    """The fields of hub.media.Facts and JPEGs: the poster, and the strip of a user's film.

    Raises:
        Refused: with the reason.
        MemoryError: over the child's limit.
    """
    look, code = (picture, "not_picture") if job.purpose == "background" else (video, "not_video")
    try:
        return look(file, job)
    except MemoryError:
        raise
    except DAMAGE as error:
        raise Refused(code, f"it cannot be decoded ({type(error).__name__})") from None


def warm_up() -> None:
    """Make everything loaded and initialised that a child needs, for a child can open no file."""
    blank = av.VideoFrame(32, 16, "yuv420p")
    jpeg = poster(blank, 90)
    strip([small(blank, 90, None, CELL_SIDE)])
    job = Job("background", len(jpeg), False, 1 << 20, 1, 1.0, 1, 0)
    decode(io.BytesIO(jpeg), job)


def open_input(file: BinaryIO, job: Job, demuxers: str, decoders: str) -> Any:
    """An opened container; the lists hold for the demuxer's own look into the streams as well.

    Raises:
        av.error.FFmpegError: it is none of these.
    """
    return av.open(
        file,
        "r",
        format=demuxers if "," not in demuxers else None,
        options={
            "format_whitelist": demuxers,
            "protocol_whitelist": "file",
            "codec_whitelist": decoders,
            "max_pixels": str(job.max_pixels),
            "threads": "1",
        },
        metadata_errors="replace",
        buffer_size=1 << 18,
        io_open=refuse_to_open,
    )


def refuse_to_open(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise Refused("not_video", "it names other files; a film has to be whole in one file")


# --- still pictures ---------------------------------------------------------------------------------------------


def picture(file: BinaryIO, job: Job) -> tuple[dict[str, Any], list[bytes]]:
    """A JPEG, PNG or WebP; `width` and `height` after its EXIF orientation."""
    data = file.read(job.size)
    header = read_header(data)
    check_size(header.width, header.height, job)
    decoder = PICTURE_DECODERS[header.kind]
    with open_input(io.BytesIO(data), job, f"{header.kind}_pipe", decoder) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frame = next(container.decode(video=0), None)
    if frame is None:
        raise Refused("not_picture", "there is no picture in it")
    check_size(frame.width, frame.height, job)
    turn = clockwise(frame)
    width, height = as_shown(frame.width, frame.height, None, turn)
    facts = {
        "width": width, "height": height, "rotation": turn,
        "codec": decoder, "pixel_format": frame.format.name, "container": header.kind,
    }
    return facts, [poster(frame, turn)]


# --- video ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Packets:
    """What demuxing one stream brought up: presentation times in ticks of `tick` seconds, those of keyframes apart.

    `seen` are all packets, `count` those that a decoder shows.
    """

    tick: Fraction
    seen: int = 0
    count: int = 0
    times: array[int] = field(default_factory=lambda: array("q"))
    keys: list[int] = field(default_factory=list)
    last_duration: int = 0


def video(file: BinaryIO, job: Job) -> tuple[dict[str, Any], list[bytes]]:
    """A film: its packets are counted, its first picture, its last keyframe and some in between are decoded."""
    head = file.read(HEAD)
    cut_off = is_cut_off(file, job.size)
    file.seek(0)  # from here on the position belongs to FFmpeg
    with open_video(file, job, head, cut_off) as container:
        stream = best_stream(container)
        context = stream.codec_context
        check_size(context.width, context.height, job)
        context.options = {"max_pixels": str(job.max_pixels)}
        context.thread_count = 1
        packets = count(container, stream, job)
        if cut_off:
            raise Refused("truncated", "the end of the file is missing")
        if not packets.seen:
            raise Refused("no_frames", "it has a picture track, and not one picture in it")
        if not packets.count:
            raise Refused("not_video", "there is no picture in it that can be shown")
        first = decode_at(container, stream, packets.keys[0])
        check_size(first.width, first.height, job)
        decode_at(container, stream, packets.keys[-1])
        turn = clockwise(first)
        aspect = stream.sample_aspect_ratio
        width, height = as_shown(first.width, first.height, aspect, turn)
        check_size(width, height, job)
        facts = {
            "width": width, "height": height, "rotation": turn,
            "codec": context.codec.canonical_name, "pixel_format": first.format.name,
            "container": container_name(container, head), "audio_codec": audio_codec(container),
            **timing(packets, stream),
        }
        if job.every_frame:
            frames = count_decoded(container, stream, packets)
            return facts | {"frames": frames}, [poster(first, turn, aspect)]
        cells, shown = [], first
        for number, frame in enumerate(spread(container, stream, packets)):
            cells.append(small(frame, turn, aspect, CELL_SIDE))
            if number == SHOWN:
                shown = frame
        pictures = [poster(shown, turn, aspect), strip(cells or [small(first, turn, aspect, CELL_SIDE)])]
        return facts | {"frames": packets.count}, pictures


def open_video(file: BinaryIO, job: Job, head: bytes, cut_off: bool) -> Any:
    """Raises Refused with the most helpful reason there is."""
    other = video_kind(head)
    if other is not None:
        raise other
    try:
        return open_input(file, job, DEMUXERS, ",".join(DECODERS.values()))
    except MemoryError:
        raise
    except DAMAGE:
        if cut_off:
            raise Refused("truncated", "the end of the file is missing") from None
        raise Refused("not_video", "this is no video that can be read") from None


def best_stream(container: Any) -> Any:
    """The video stream that a player would choose: the largest, cover pictures left out."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        if container.streams:
            raise Refused("no_video_stream", "there is sound but no video in it")
        raise Refused("not_video", "there is nothing in it")
    playable = [s for s in streams if s.codec_context and s.codec_context.codec.canonical_name in DECODERS]
    if not playable:
        raise Refused("unsupported_format", f"its video codec is not taken; known are {', '.join(DECODERS)}")
    return max(playable, key=lambda s: s.codec_context.width * s.codec_context.height)


def count(container: Any, stream: Any, job: Job) -> Packets:
    """Walk over the whole file without decoding.

    What no decoder shows is not counted: empty packets, packets outside of an edit list, what comes before the first
    keyframe, hidden reference pictures of VP8 (RFC 6386, section 9.1, show_frame).
    """
    packets = Packets(stream.time_base)
    hides = stream.codec_context.codec.canonical_name == "vp8"
    for packet in container.demux(stream):
        packets.seen += packet.size > 0
        if not packet.size or packet.is_discard or not (packets.count or packet.is_keyframe):
            continue
        if hides and not memoryview(packet)[0] & 0x10:
            continue
        if packets.count == job.max_frames:
            raise Refused("too_many_frames", f"it has more than {job.max_frames} pictures")
        time = packet.dts if packet.pts is None else packet.pts
        if time is None:
            raise Refused("not_video", "its pictures have no times")
        packets.count += 1
        packets.times.append(time)
        packets.last_duration = packet.duration or packets.last_duration
        if packet.is_keyframe:
            packets.keys.append(time)
    return packets


def pictures(container: Any, stream: Any, time: int) -> Iterator[Any]:
    """Decoded pictures from the keyframe at `time` (ticks) on."""
    container.seek(time, stream=stream)
    for packet in container.demux(stream):
        yield from packet.decode()


def decode_at(container: Any, stream: Any, time: int) -> Any:
    """The first picture that can be decoded from the keyframe at `time` on."""
    for frame in pictures(container, stream, time):
        return frame
    raise Refused("not_video", "a keyframe cannot be decoded")


def spread(container: Any, stream: Any, packets: Packets) -> Iterator[Any]:
    """Up to eight pictures from all over the film, the first early, the last late; damaged places are left out.

    Each is looked for from the keyframe before it, but not for ever: where keyframes are far apart an earlier picture
    stands for it.
    """
    times, keys = sorted(packets.times), sorted(packets.keys)
    most = max(1, STRIP_PIXELS // (stream.codec_context.width * stream.codec_context.height))
    begun = -1
    run: Iterator[Any] = iter(())
    frame: Any = None
    for number in range(CELLS):
        wanted = times[(2 * number + 1) * len(times) // (2 * CELLS)]
        key = max(0, bisect_right(keys, wanted) - 1)
        if key != begun:
            begun, frame = key, None
            run = pictures(container, stream, keys[key])
        try:
            for _ in range(most):
                if frame is not None and (frame.pts is None or frame.pts >= wanted):
                    break
                frame = next(run, frame)
        except DAMAGE:
            frame, run = None, iter(())
        if frame is not None:
            yield frame


def count_decoded(container: Any, stream: Any, packets: Packets) -> int:
    """Decode all of it; each picture must come, and in the size of the first."""
    sizes = set()
    frames = 0
    for frame in pictures(container, stream, packets.keys[0]):
        sizes.add((frame.width, frame.height))
        frames += 1
        if frame.is_corrupt:
            raise Refused("not_video", f"picture {frames} is damaged")
    if len(sizes) > 1:
        raise Refused("unsupported_format", "its pictures change their size on the way")
    return frames


def timing(packets: Packets, stream: Any) -> dict[str, Any]:
    """`fps`, `duration` and `variable`, from the pictures' own times; what the header says is only believed if it fits.

    The last picture is taken to stay as long as the middle one of all the others: containers disagree about it, and a
    result in another container must come to the same duration as its source.
    """
    times = sorted(packets.times)
    named = [rate for rate in (stream.guessed_rate, stream.average_rate) if rate]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    if not gaps or times[0] == times[-1]:
        rate = named[0] if named else Fraction(0)
        duration = float(packets.last_duration * packets.tick)
        variable = False
    else:
        typical = median_low(gaps)
        span = (times[-1] - times[0]) * packets.tick
        mean = Fraction(len(gaps)) / span
        slack = Fraction(1, 500) + packets.tick / span
        rate = next((rate for rate in named if abs(rate / mean - 1) <= slack), mean)
        duration = float(span + typical * packets.tick)
        rounding = max(typical / 20, min(1.5, 0.45 * typical))  # times are whole ticks, which may be coarse
        variable = any(abs(gap - typical) > rounding for gap in (gaps[0], gaps[-1]))
    if duration > MAX_DURATION_S:
        raise Refused("unsupported_format", "it says that it lasts for days")
    if rate > 1000:
        rate = Fraction(0)
    rate = rate.limit_denominator(1001)
    return {"fps": f"{rate.numerator}/{rate.denominator}", "duration": round(duration, 6), "variable": variable}


def container_name(container: Any, head: bytes) -> str:
    """Our name of the container; WebM is Matroska with that DocType (RFC 8794, section 11.2.6)."""
    name = CONTAINERS[container.format.name.partition(",")[0]]
    return "webm" if name == "matroska" and b"\x42\x82\x84webm" in head else name


def audio_codec(container: Any) -> str | None:
    for stream in container.streams.audio:
        context = stream.codec_context
        return context.codec.canonical_name if context else "unknown"
    return None


def check_size(width: int, height: int, job: Job) -> None:
    if width * height > job.max_pixels:
        raise Refused("too_many_pixels", f"{width}x{height} is more than {job.max_pixels} pixels")
    if max(width, height) > MAX_SIDE:
        raise Refused("too_many_pixels", f"{width}x{height}: no side may be longer than {MAX_SIDE} pixels")
