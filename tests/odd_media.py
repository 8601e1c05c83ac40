"""Odd clips and pictures for everybody's tests, made from tests/media with PyAV alone.

Each function takes nothing and returns the path of its file; a file is made on first use and kept until the run ends.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

MEDIA = Path(__file__).parent / "media"
WEBCAM = MEDIA / "man-webcam.mp4"  # 640x360, 72 pictures, 30 a second, H.264 and MP3
PAGODA = MEDIA / "bg-pagoda.jpg"  # 640x427
TICK = Fraction(1, 90_000)
FAST = {
    "libx264": {"preset": "ultrafast", "crf": "30"},
    "libx265": {"preset": "ultrafast", "crf": "34", "x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "b": "500k"},
}


@functools.cache
def folder() -> Path:
    """This run's folder, removed at its end."""
    made = Path(tempfile.mkdtemp(prefix="odd-media-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def made_once(name: str) -> Callable[[Callable[[Path], None]], Callable[[], Path]]:
    """Turn a function that writes a file into one that returns its path."""

    def decorate(make: Callable[[Path], None]) -> Callable[[], Path]:
        @functools.cache
        def path() -> Path:
            target = folder() / name
            make(target)
            return target

        path.__doc__ = make.__doc__
        return path

    return decorate


# --- how they are made ------------------------------------------------------------------------------------------


@functools.cache
def webcam_frames(count: int) -> list[Any]:
    with av.open(str(WEBCAM)) as source:
        return [frame for frame, _ in zip(source.decode(video=0), range(count))]


def every_thirtieth(index: int) -> int:
    return index * 3000


def write_clip(
    target: Path,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (640, 360),
    pixels: str = "yuv420p",
    frames: int = 36,
    audio: str | None = None,
    turned_left: int = 0,
    times: Callable[[int], int] = every_thirtieth,
    aspect: Fraction | None = None,
    muxer: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
) -> None:
    """Encode the webcam clip anew.

    `times` gives a picture's presentation time in 1/90000 s, `audio` is "copy" or an encoder's name, `turned_left` the
    display matrix in degrees counter-clockwise.
    """
    with av.open(str(target), "w", container_options=muxer or {}) as out:
        stream: Any = out.add_stream(codec, rate=30, options={**FAST.get(codec, {}), **(encoder or {})})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = TICK
        stream.codec_context.thread_count = 1
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turned_left:
            stream.set_display_rotation(turned_left)
        sound = add_sound(out, audio) if audio else iter(())
        for index, frame in enumerate(webcam_frames(frames)):
            image = frame.reformat(*size, pixels)
            image.pts, image.time_base = times(index), TICK
            image.pict_type = 0
            out.mux(stream.encode(image))
        out.mux(stream.encode(None))
        for packets in sound:
            out.mux(packets)


def add_sound(out: Any, audio: str) -> Iterator[Any]:
    """Add the sound track now, give its packets afterwards."""
    source = av.open(str(WEBCAM))
    if audio == "copy":
        stream = out.add_stream_from_template(source.streams.audio[0])
    else:
        stream = out.add_stream(audio, rate=48_000, layout="mono")

    def packets() -> Iterator[Any]:
        with source:
            if audio == "copy":
                for packet in source.demux(audio=0):
                    if packet.size:
                        packet.stream = stream
                        yield packet
                return
            resampler = av.AudioResampler("fltp" if audio == "aac" else "s16", "mono", 48_000)
            for frame in source.decode(audio=0):
                for piece in resampler.resample(frame):
                    yield stream.encode(piece)
            yield stream.encode(None)

    return packets()


# --- clips that are to be taken ---------------------------------------------------------------------------------


@made_once("turned.mp4")
def turned(target: Path) -> None:
    """Stored 640x360 with a display matrix; 90 degrees clockwise stand it upright: shown 360x640."""
    write_clip(target, turned_left=-90)


@made_once("upside-down.mp4")
def upside_down(target: Path) -> None:
    """180 degrees."""
    write_clip(target, turned_left=180)


@made_once("variable.mp4")
def variable(target: Path) -> None:
    """Pictures 33 ms and 100 ms apart."""
    write_clip(target, times=lambda index: index * 3000 + index // 3 * 6000)


@made_once("browser.webm")
def webm(target: Path) -> None:
    """VP9 and Opus, as a browser records."""
    write_clip(target, codec="libvpx-vp9", audio="libopus")


@made_once("vp8.webm")
def vp8(target: Path) -> None:
    """VP8 without sound; of its 36 pictures one is a hidden reference picture (show_frame 0), so 35 are seen."""
    whole = target.with_name("vp8-all-shown.webm")
    write_clip(whole, codec="libvpx")
    with av.open(str(whole)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(source.demux(video=0)):
            if not packet.size:
                continue
            data = bytearray(packet)
            if index == 20:
                data[0] &= 0xEF
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe = packet.is_keyframe
            copy.stream = stream
            out.mux(copy)


@made_once("hevc.mp4")
def hevc(target: Path) -> None:
    """HEVC and AAC, as a phone records."""
    write_clip(target, codec="libx265", audio="aac")


@made_once("ten-bit.mp4")
def ten_bit(target: Path) -> None:
    """H.264, 10 bits a sample."""
    write_clip(target, pixels="yuv420p10le")


@made_once("odd-size.mp4")
def odd_size(target: Path) -> None:
    """641x361, no chroma subsampling."""
    write_clip(target, size=(641, 361), pixels="yuv444p")


@made_once("silent.mp4")
def silent(target: Path) -> None:
    """No sound track."""
    write_clip(target)


@made_once("wide-pixels.mp4")
def wide_pixels(target: Path) -> None:
    """320x360 with pixels twice as wide as high: shown 640x360."""
    write_clip(target, size=(320, 360), aspect=Fraction(2, 1))


@made_once("ntsc.mp4")
def ntsc(target: Path) -> None:
    """30000/1001 pictures a second."""
    write_clip(target, times=lambda index: index * 3003)


@made_once("fragmented.mp4")
def fragmented(target: Path) -> None:
    """Fragments and an empty moov, as some recorders stream it: the header counts nothing."""
    write_clip(target, muxer={"movflags": "frag_keyframe+empty_moov"})


@made_once("camera.avi")
def avi(target: Path) -> None:
    """Motion JPEG in AVI, as old cameras do."""
    write_clip(target, codec="mjpeg", pixels="yuvj420p", frames=12, encoder={"strict": "unofficial"})


@made_once("broadcast.ts")
def mpegts(target: Path) -> None:
    """H.264 and AAC in an MPEG transport stream."""
    write_clip(target, audio="aac")


@made_once("clip.mkv")
def matroska(target: Path) -> None:
    """H.264 with B-frames and AAC in Matroska."""
    write_clip(target, audio="aac", encoder={"preset": "veryfast"})


@made_once("one-picture.mp4")
def one_picture(target: Path) -> None:
    """A film of one picture."""
    write_clip(target, frames=1)


# --- clips that are to be refused -------------------------------------------------------------------------------


@made_once("cut-moov-first.mp4")
def cut_moov_first(target: Path) -> None:
    """Index at the front, the last two thirds missing: opens and claims all its pictures."""
    whole = target.with_name("whole-moov-first.mp4")
    write_clip(whole, muxer={"movflags": "+faststart"})
    data = whole.read_bytes()
    target.write_bytes(data[:data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3])


@made_once("cut-moov-last.mp4")
def cut_moov_last(target: Path) -> None:
    """Index at the end, and the end is missing."""
    data = silent().read_bytes()
    target.write_bytes(data[:len(data) // 2])


@made_once("sound-only.mp4")
def sound_only(target: Path) -> None:
    """An MP4 with nothing but a sound track."""
    with av.open(str(target), "w") as out:
        for packets in add_sound(out, "aac"):
            out.mux(packets)


@made_once("rare-codec.mkv")
def rare_codec(target: Path) -> None:
    """A real film in a codec that only laboratories use (FFV1)."""
    write_clip(target, codec="ffv1", frames=2)


@made_once("magicyuv.avi")
def magicyuv(target: Path) -> None:
    """MagicYUV, whose decoder had an out-of-bounds write (CVE-2026-8461)."""
    write_clip(target, codec="magicyuv", pixels="yuv420p", frames=2)


@made_once("huge.mp4")
def huge(target: Path) -> None:
    """One black picture of 8192x8192: a few KiB that cost 100 MB to decode."""
    with av.open(str(target), "w") as out:
        stream: Any = out.add_stream("libx264", rate=30, options={"preset": "ultrafast", "threads": "1"})
        stream.width = stream.height = 8192
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(8192, 8192, "yuv420p")
        for plane, value in zip(frame.planes, (16, 128, 128)):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@made_once("text.mp4")
def text(target: Path) -> None:
    target.write_text("This is not a film.\n" * 500)


@made_once("zeros.mp4")
def zeros(target: Path) -> None:
    target.write_bytes(bytes(100_000))


@made_once("empty.mp4")
def empty(target: Path) -> None:
    target.write_bytes(b"")


@made_once("ftyp-only.mp4")
def ftyp_only(target: Path) -> None:
    target.write_bytes(struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 512, b"mp42"))


@made_once("ffconcat.mp4")
def ffconcat(target: Path) -> None:
    """A list that FFmpeg would follow into a neighbour's file."""
    target.write_text(f"ffconcat version 1.0\nfile {neighbour().name}\n")


@made_once("playlist.mp4")
def m3u8(target: Path) -> None:
    """An HLS playlist that names a neighbour's file."""
    target.write_text(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n"
        f"file://{neighbour()}\n#EXT-X-ENDLIST\n"
    )


@made_once("session.mp4")
def sdp(target: Path) -> None:
    """A session description that would make FFmpeg listen on the network."""
    target.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
                      "a=rtpmap:96 H264/90000\n")


@made_once("neighbour.mp4")
def neighbour(target: Path) -> None:
    """Another user's film, in the same folder as the playlists that name it."""
    shutil.copyfile(WEBCAM, target)


# --- pictures ---------------------------------------------------------------------------------------------------


@functools.cache
def pagoda_pixels() -> Any:
    with av.open(str(PAGODA)) as source:
        return next(source.decode(video=0)).reformat(320, 214, "rgb24").to_ndarray()


def write_pictures(target: Path, codec: str, pixels: str, muxer: str, count: int = 1) -> None:
    """The pagoda at 320x214, `count` times in different shades."""
    with av.open(str(target), "w", format=muxer) as out:
        stream: Any = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 214, pixels
        for index in range(count):
            shade = (pagoda_pixels() // (index + 1)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, "rgb24").reformat(format=pixels)
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@made_once("still.png")
def png(target: Path) -> None:
    write_pictures(target, "png", "rgb24", "image2")


@made_once("still.webp")
def webp(target: Path) -> None:
    write_pictures(target, "libwebp", "yuv420p", "webp")


@made_once("phone.jpg")
def phone_jpeg(target: Path) -> None:
    """The pagoda, stored 640x427 with EXIF orientation 6 (turn 90 degrees clockwise): shown 427x640."""
    tiff = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\x00\x00" + tiff
    data = PAGODA.read_bytes()
    target.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])


@made_once("cut.jpg")
def cut_jpeg(target: Path) -> None:
    data = PAGODA.read_bytes()
    target.write_bytes(data[:len(data) // 2])


@made_once("bomb.png")
def png_bomb(target: Path) -> None:
    """15000x15000 black pixels in 3 MB; 675 MB once decoded."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 15_000 * 3)
    pixels = b"".join(packer.compress(row) for _ in range(15_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 15_000, 15_000, 8, 2, 0, 0, 0)
    target.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def chunk(name: bytes, data: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@made_once("moving.gif")
def moving_gif(target: Path) -> None:
    write_pictures(target, "gif", "rgb8", "gif", count=3)


@made_once("moving.png")
def moving_png(target: Path) -> None:
    write_pictures(target, "apng", "rgb24", "apng", count=3)


@made_once("moving.webp")
def moving_webp(target: Path) -> None:
    write_pictures(target, "libwebp_anim", "yuv420p", "webp", count=3)


@made_once("drawing.svg")
def svg(target: Path) -> None:
    target.write_text('<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')


@made_once("phone.heic")
def heic(target: Path) -> None:
    """The start of a HEIC picture."""
    target.write_bytes(struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(200))
