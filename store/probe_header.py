"""What a file says about itself before anything is decoded: a picture's kind, size and motion, what is missing.

Owns the header formats of JPEG, PNG and WebP and the outermost layer of MP4, Matroska and AVI, as far as a decision
before decoding needs them. Decodes no pixel.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from store.probe_kinds import picture_kind
from store.probe_wire import Refused

PNG = b"\x89PNG\r\n\x1a\n"
SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's "start of frame" markers, ITU-T T.81 table B.1
WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
SOS = 0xDA
EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = b"\x18\x53\x80\x67"
MAX_BOXES = 10_000


@dataclass(frozen=True, slots=True)
class Header:
    """`kind` is jpeg, png or webp; `width` and `height` are pixels as stored."""

    kind: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """The header of a whole picture file.

    Raises:
        Refused: not_picture, unsupported_format, animated or truncated.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return jpeg(data)
        if data.startswith(PNG):
            return png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return webp(data)
    except (struct.error, IndexError):
        raise Refused("truncated", "the picture ends within its header") from None
    raise picture_kind(data)


def jpeg(data: bytes) -> Header:
    """ITU-T T.81 annex B: segments up to the first scan, then an end marker somewhere behind it."""
    size: tuple[int, int] | None = None
    at = 2
    while True:
        if data[at] != 0xFF:
            raise Refused("not_picture", "the JPEG's segments are damaged")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        else:
            if marker in SOF:
                height, width = struct.unpack_from(">HH", data, at + 5)
                size = width, height
            if marker == SOS:
                break
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    if size is None:
        raise Refused("not_picture", "the JPEG does not say how large it is")
    if data.find(b"\xff\xd9", at) < 0:
        raise Refused("truncated", "the end of the JPEG is missing")
    return Header("jpeg", *size)


def png(data: bytes) -> Header:
    """PNG third edition, section 5: IHDR first, acTL (if any) before the first IDAT, IEND last."""
    width, height = struct.unpack_from(">II", data, 16)
    at, seen_pixels = len(PNG), False
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"acTL" and not seen_pixels:
            raise Refused("animated", "an animated PNG; please send a still one")
        if name == b"IEND":
            return Header("png", width, height)
        seen_pixels = seen_pixels or name == b"IDAT"
        at += 12 + length
        if at > len(data) - 12:
            raise Refused("truncated", "the end of the PNG is missing")


def webp(data: bytes) -> Header:
    """RFC 9649, sections 2.3 to 2.7: a RIFF file whose first chunk is VP8, VP8L or VP8X."""
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data) + 1:
        raise Refused("truncated", "the end of the WebP is missing")
    chunk = data[12:16]
    if chunk == b"VP8X":
        if data[20] & 0x02:
            raise Refused("animated", "an animated WebP; please send a still one")
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif chunk == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif chunk == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise Refused("not_picture", "the WebP has no picture in it")
    return Header("webp", width, height)


def is_cut_off(file: BinaryIO, size: int) -> bool:
    """Whether the container itself says that it is longer than the file's `size` bytes; moves the file's position."""
    file.seek(0)
    head = file.read(256)
    if head.startswith(EBML):
        return matroska_end(head) > size
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little") > size + 1
    return any(end > size for end in boxes(file, size))


def boxes(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the top-level boxes that matter end (ISO/IEC 14496-12, section 4.2)."""
    at = 0
    for _ in range(MAX_BOXES):
        if at >= size:
            return
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8 or not name.isalnum():
            return
        at += length
        if name in (b"mdat", b"moov", b"moof"):
            yield at


def matroska_end(head: bytes) -> int:
    """Where the Segment ends, 0 where it does not say (RFC 8794, sections 4 and 6)."""
    length, at = ebml_size(head, 4)
    start = at + length
    if head[start:start + 4] != SEGMENT:
        return 0
    length, at = ebml_size(head, start + 4)
    return at + length if length else 0


def ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """An element's data size and where the data begins; size 0 stands for unknown."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    value = int.from_bytes(head[at:at + width], "big") & ((1 << 7 * width) - 1)
    return (0 if value == (1 << 7 * width) - 1 else value), at + width
