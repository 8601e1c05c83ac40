"""Files that pretend, or that unpack to far more than they are: made like those of odd_media, and all to be refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.odd_media import PAGODA, add_sound, chunk, made_once, png, write_clip, write_pictures

PNG = b"\x89PNG\r\n\x1a\n"


@made_once("no-frames.mkv")
def no_frames(target: Path) -> None:
    """A picture track that was never written to, beside a sound track that was."""
    with av.open(str(target), "w") as out:
        stream: Any = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for packets in add_sound(out, "aac"):
            out.mux(packets)


@made_once("song.mp3")
def mp3(target: Path) -> None:
    write_song(target, "mp3")


@made_once("song.wav")
def wav(target: Path) -> None:
    write_song(target, "pcm_s16le")


@made_once("song.flac")
def flac(target: Path) -> None:
    write_song(target, "flac")


@made_once("song.opus")
def opus(target: Path) -> None:
    write_song(target, "libopus")


def write_song(target: Path, codec: str) -> None:
    """A second of silence."""
    with av.open(str(target), "w") as out:
        stream: Any = out.add_stream(codec, rate=48_000, layout="mono")
        step = stream.codec_context.frame_size or 1024
        for start in range(0, 48_000, step):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, step), "int16"), "s16", "mono")
            frame.sample_rate, frame.pts = 48_000, start
            for each in av.AudioResampler(stream.codec_context.format.name, "mono", 48_000).resample(frame):
                out.mux(stream.encode(each))
        out.mux(stream.encode(None))


# --- pictures ---------------------------------------------------------------------------------------------------


@made_once("still.gif")
def still_gif(target: Path) -> None:
    """One picture, and no wish to be repeated."""
    write_pictures(target, "gif", "rgb8", "gif")
    target.write_bytes(without_loop(target.read_bytes()))


@made_once("two.gif")
def two_gif(target: Path) -> None:
    """Two pictures that are shown once."""
    write_pictures(target, "gif", "rgb8", "gif", count=2)
    target.write_bytes(without_loop(target.read_bytes()))


def without_loop(data: bytes) -> bytes:
    """The GIF without its NETSCAPE2.0 extension."""
    at = data.index(b"\x21\xff\x0bNETSCAPE2.0")
    return data[:at] + data[at + 19:]


@made_once("burst.heic")
def heic_burst(target: Path) -> None:
    """The start of a HEIC picture whose first brand is the general one."""
    target.write_bytes(struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"heix") + bytes(200))


@made_once("picture.avif")
def avif(target: Path) -> None:
    target.write_bytes(struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", b"avif") + bytes(200))


@made_once("named-wrongly.svg")
def svg_with_preamble(target: Path) -> None:
    """An SVG that begins with all that may stand before its first element."""
    target.write_text('\ufeff<?xml version="1.0"?>\n<!-- <html> -->\n<!DOCTYPE svg>\n<SVG onload="alert(1)"/>')


@made_once("thin.png")
def thin_png(target: Path) -> None:
    """1 x 60,000,000 pixels: within the limit of pixels, and no picture for anybody."""
    rows = zlib.compress(bytes(4 * 60_000_000), 1)
    header = struct.pack(">IIBBBBB", 1, 60_000_000, 8, 2, 0, 0, 0)
    target.write_bytes(PNG + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@made_once("profile-bomb.png")
def profile_bomb(target: Path) -> None:
    """A small picture with a colour profile that unpacks to 768 MB."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(48)) + packer.flush()
    data = png().read_bytes()
    at = len(PNG) + 25  # behind IHDR
    target.write_bytes(data[:at] + chunk(b"iCCP", b"x\0\0" + packed) + data[at:])


@made_once("wide.jpg")
def wide_jpeg(target: Path) -> None:
    """A photograph whose header says 65535 x 65535."""
    data = bytearray(PAGODA.read_bytes())
    at = next(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in data)
    data[at + 5:at + 9] = b"\xff\xff\xff\xff"
    target.write_bytes(bytes(data))


@made_once("wide.webp")
def wide_webp(target: Path) -> None:
    """An extended WebP whose canvas is 2^24 x 2^24."""
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6
    target.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


# --- films ------------------------------------------------------------------------------------------------------


@made_once("noise.mp4")
def noise(target: Path) -> None:
    """Nothing but noise: as many bytes as a small picture can come to. It is to be taken."""
    chance = np.random.default_rng(1)
    with av.open(str(target), "w") as out:
        stream: Any = out.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 640, 640, "yuv420p"
        for _ in range(8):
            pixels = chance.integers(0, 256, (640, 640, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))


def brighter(target: Path) -> None:
    """64 pictures, each brighter than the one before, of which the first alone is a keyframe. It is to be taken."""
    with av.open(str(target), "w") as out:
        one_keyframe = {"preset": "ultrafast", "g": "1000", "sc_threshold": "0"}
        stream: Any = out.add_stream("libx264", rate=10, options=one_keyframe)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for number in range(64):
            pixels = np.full((180, 320, 3), number * 4, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))


@made_once("growing.webm")
def growing(target: Path) -> None:
    """The header and the first keyframe say 64 x 64, the last keyframe says 16383 x 16383 (RFC 6386, section 9.1)."""
    whole = target.with_name("growing-not.webm")
    write_clip(whole, codec="libvpx", size=(64, 64), frames=12, encoder={"g": "4"})
    with av.open(str(whole)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        last = max(index for index, packet in enumerate(packets) if packet.is_keyframe)
        for index, packet in enumerate(packets):
            data = bytearray(packet)
            if index == last:
                data[6:10] = struct.pack("<HH", 16383, 16383)
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            out.mux(copy)
