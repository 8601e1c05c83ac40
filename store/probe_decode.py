"""Decodes an untrusted file with PyAV and says what is in it; runs only inside the probe's fenced child.

Owns which demuxers and decoders a stranger's file may reach, and what each of the facts means. Writes nothing, opens
nothing but the file object that it was given.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import Any, BinaryIO, NoReturn

import av
import av.error
import av.logging
import numpy as np

from store.probe_header import is_cut_off, read_header
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
OTHER_VIDEOS = (
    (b"FLV\x01", "FLV"), (b"\x30\x26\xb2\x75", "WMV"), (b"OggS", "Ogg"), (b"GIF8", "GIF"), (b".RMF", "RealMedia"),
)

POSTER_SIDE = 640  # pixels
MAX_DURATION_S = 48 * 3600
DAMAGE = (av.error.FFmpegError, ValueError, OverflowError, IndexError)  # how PyAV says that a file makes no sense


def decode(file: BinaryIO, job: Job) -> tuple[dict[str, Any], bytes]:
    """The fields of hub.media.Facts and a JPEG of at most 640 pixels on its long side.

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
    jpeg = poster(av.VideoFrame(32, 16, "yuv420p"), 90)
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


def picture(file: BinaryIO, job: Job) -> tuple[dict[str, Any], bytes]:
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
    return facts, poster(frame, turn)


# --- video ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Packets:
    """What demuxing one stream brought up: presentation times in ticks of `tick` seconds, those of keyframes apart."""

    tick: Fraction
    count: int = 0
    times: array[int] = field(default_factory=lambda: array("q"))
    keys: list[int] = field(default_factory=list)
    last_duration: int = 0


def video(file: BinaryIO, job: Job) -> tuple[dict[str, Any], bytes]:
    """A film: its packets are counted, its first picture, its last keyframe and one in between are decoded."""
    head = file.read(4096)
    cut_off = is_cut_off(file, job.size)
    file.seek(0)  # from here on the position belongs to FFmpeg
    with open_video(file, job, head, cut_off) as container:
        stream = best_stream(container)
        context = stream.codec_context
        check_size(context.width, context.height, job)
        context.options = {"max_pixels": str(job.max_pixels)}
        context.thread_count = 1
        packets = count(container, stream, job)
        if not packets.count:
            raise Refused("not_video", "there is no picture in it")
        if cut_off:
            raise Refused("truncated", "the end of the file is missing")
        first = decode_at(container, stream, packets.keys[0])
        check_size(first.width, first.height, job)
        decode_at(container, stream, packets.keys[-1])
        wanted = packets.keys[0] + (packets.keys[-1] - packets.keys[0]) // 3
        typical = decode_at(container, stream, max(key for key in packets.keys if key <= wanted))
        frames = count_decoded(container, stream, packets) if job.every_frame else packets.count
        turn = clockwise(first)
        aspect = stream.sample_aspect_ratio
        width, height = as_shown(first.width, first.height, aspect, turn)
        check_size(width, height, job)
        facts = {
            "width": width, "height": height, "rotation": turn, "frames": frames,
            "codec": context.codec.canonical_name, "pixel_format": first.format.name,
            "container": container_name(container, head), "audio_codec": audio_codec(container),
            **timing(packets, stream),
        }
        return facts, poster(typical, turn, aspect)


def open_video(file: BinaryIO, job: Job, head: bytes, cut_off: bool) -> Any:
    """Raises Refused with the most helpful reason there is."""
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"avif"):
        raise Refused("not_video", "this is a still picture")
    try:
        return open_input(file, job, DEMUXERS, ",".join(DECODERS.values()))
    except MemoryError:
        raise
    except DAMAGE:
        for magic, name in OTHER_VIDEOS:
            if head.startswith(magic):
                raise Refused("unsupported_format", f"{name} is not taken; please send MP4, MOV, WebM or MKV") from None
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


# --- pixels -----------------------------------------------------------------------------------------------------


def check_size(width: int, height: int, job: Job) -> None:
    if width * height > job.max_pixels:
        raise Refused("too_many_pixels", f"{width}x{height} is more than {job.max_pixels} pixels")


def clockwise(frame: Any) -> int:
    """Degrees clockwise, in quarters, by which the picture must be turned to stand upright."""
    quarters: int = round(-frame.rotation / 90)
    return quarters * 90 % 360


def as_shown(width: int, height: int, aspect: Fraction | None, turn: int) -> tuple[int, int]:
    """Size on a screen with square pixels, turned upright; as browsers do, one side grows and none shrinks."""
    if aspect and Fraction(1, 16) <= aspect <= 16:
        width = round(width * max(aspect, Fraction(1)))
        height = round(height / min(aspect, Fraction(1)))
    return (height, width) if turn in (90, 270) else (width, height)


def poster(frame: Any, turn: int, aspect: Fraction | None = None) -> bytes:
    """The picture as a JPEG, as shown, at most 640 pixels on its long side."""
    shown = as_shown(frame.width, frame.height, aspect, turn=0)
    scale = min(1.0, POSTER_SIDE / max(shown))
    width, height = (max(2, round(side * scale)) for side in shown)
    small = frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1).to_ndarray()
    upright = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(small, -turn // 90)), "rgb24")
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height = upright.width, upright.height
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.thread_count = 1
    encoder.qmin, encoder.qmax = 3, 6
    image = upright.reformat(format="yuvj420p", threads=1)  # the default starts threads, which a child may not have
    image.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(image), *encoder.encode(None)))
