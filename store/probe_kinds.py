"""What a file is, by its first bytes, when it is nothing that is taken here: sound, other films, other pictures.

Owns the reasons that name a kind of file, so that people hear "this is a HEIC picture" and not "this cannot be read".
Decodes nothing.
"""

from __future__ import annotations

import re

from store.probe_wire import Refused

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # ISO/IEC 23008-12, annex B
AVIF_BRANDS = {b"avif", b"avis"}
STILL = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
OTHER_PICTURES = (
    (b"BM", "BMP"), (b"II*\x00", "TIFF"), (b"MM\x00*", "TIFF"), (b"\xff\x0a", "JPEG XL"), (b"8BPS", "Photoshop"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"), (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"), (b"\x00\x00\x01\x00", "Windows icon"),
)
OTHER_VIDEOS = (
    (b"FLV\x01", "FLV"), (b"\x30\x26\xb2\x75", "WMV"), (b"OggS", "Ogg"), (b".RMF", "RealMedia"),
    (b"\x00\x00\x01\xba", "MPEG program stream"),
)
SOUND = re.compile(
    rb"ID3|fLaC|#!AMR|RIFF....WAVE|FORM....AIF|\xff[\xe2\xe3\xf2\xf3\xfa\xfb\xf1\xf9]"
    rb"|OggS.{24,60}(?:OpusHead|\x01vorbis|\x7fFLAC|Speex)", re.DOTALL,
)
SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?(?><\?xml[^>]*>|<!--.*?-->|<!DOCTYPE[^>]*>|\s)*+<svg[\s>]", re.DOTALL | re.IGNORECASE,
)


def picture_kind(data: bytes) -> Refused:
    """Why something that is no JPEG, PNG or WebP is no background."""
    found = drawn(data)
    if found is not None:
        return found
    for magic, name in OTHER_PICTURES:
        if data.startswith(magic):
            return Refused("unsupported_format", f"{name} pictures are not taken; please send JPEG, PNG or WebP")
    return Refused("not_picture", "this is no JPEG, PNG or WebP picture")


def video_kind(head: bytes) -> Refused | None:
    """Why a file that begins like this is no film; None where that cannot be seen."""
    found = drawn(head)
    if found is not None:
        return found
    if SOUND.match(head):
        return Refused("no_video_stream", "this is sound; there is no film in it")
    for magic, name in OTHER_VIDEOS:
        if head.startswith(magic):
            return Refused("unsupported_format", f"{name} is not taken; please send MP4, MOV, WebM or MKV")
    moving = head.startswith(STILL[0]) and b"acTL" in head or head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    if moving and (head.startswith(STILL[0]) or head[20] & 0x02):
        return Refused("animated", "this is a moving picture, no film; please send MP4, MOV, WebM or MKV")
    if head.startswith(STILL) or head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Refused("not_video", "this is a still picture")
    return None


def drawn(data: bytes) -> Refused | None:
    """Pictures that are taken neither as a film nor as a background, and have a reason of their own."""
    if SVG.match(data[:4096]):
        return Refused("svg", "SVG drawings are not taken; please send JPEG, PNG or WebP")
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[at:at + 4] for at in range(16, min(int.from_bytes(data[:4], "big"), 256), 4))}
        if data[8:12] in HEIC_BRANDS | AVIF_BRANDS:
            if brands & AVIF_BRANDS:
                return Refused("unsupported_format", "AVIF pictures are not taken; please send JPEG, PNG or WebP")
            return Refused("heic", "HEIC pictures are not taken; please send JPEG, PNG or WebP")
    if data.startswith(b"GIF8"):
        if gif_moves(data):
            return Refused("animated", "a moving GIF; GIF is not taken, neither as a picture nor as a film")
        return Refused("unsupported_format", "GIF pictures are not taken; please send JPEG, PNG or WebP")
    return None


def gif_moves(data: bytes) -> bool:
    """Whether a GIF has a second picture or wants to be repeated (GIF89a, sections 18 to 26); True where it is cut."""
    at = 13 + color_table(data[10:11])
    pictures = 0
    while at < len(data):
        block = data[at]
        if block == 0x3B:  # the trailer
            return False
        if block == 0x2C:  # a picture: its descriptor, perhaps a colour table, the code size, sub-blocks
            pictures += 1
            at += 11 + color_table(data[at + 9:at + 10])
        elif block == 0x21:  # an extension: its label, sub-blocks
            if data[at + 3:at + 14] == b"NETSCAPE2.0":
                return True
            at += 2
        else:
            return False
        if pictures > 1:
            return True
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return True


def color_table(flags: bytes) -> int:
    """Bytes of the colour table that these packed fields announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
