"""Websocket frames as bytes (RFC 6455 section 5): what a server sends and what it hears. Knows no connection."""

from __future__ import annotations

import struct

from tornado.util import _websocket_mask  # in C, where Tornado has that; a preview has many bytes

from hub.previews import Shot
from hub.topics import Frame

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION, FIN, MASKED = 0x0, 0x80, 0x80
PROTOCOL_ERROR, BAD_DATA, TOO_BIG = 1002, 1007, 1009


class BadFrame(Exception):
    """What was heard breaks the protocol; `code` is the close code that says how."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def encoded(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole frame from a server: not masked, not in pieces."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | opcode, size)) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", FIN | opcode, 126, size) + payload
    return struct.pack(">BBQ", FIN | opcode, 127, size) + payload


def event(frame: Frame) -> bytes:
    """A live event as one text frame."""
    return encoded(frame.data)


def picture(shot: Shot) -> bytes:
    """A preview as one binary frame, made once for everybody."""
    if shot.wrapped is None:
        shot.wrapped = encoded(shot.data, BINARY)
    return shot.wrapped


def closing(code: int, reason: str) -> bytes:
    """A close frame; its reason has at most 123 bytes."""
    return encoded(struct.pack(">H", code) + reason.encode()[:123].decode(errors="ignore").encode(), CLOSE)


def first(data: bytes, largest: int, at: int = 0) -> tuple[int, bool, bytes, int] | None:
    """The first frame from `at` on in what a client sent: opcode, whether it is final, payload, and where it ends.

    None where it is not whole yet.

    Raises:
        BadFrame: it is none, or longer than `largest` bytes, which is told from its head.
    """
    if len(data) < at + 2:
        return None
    kind, size, at = data[at], data[at + 1], at + 2
    opcode, final, masked, size = kind & 0xF, bool(kind & FIN), size & MASKED, size & 0x7F
    if kind & 0x70 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise BadFrame(PROTOCOL_ERROR, "reserved bits or an unknown opcode")
    if opcode >= CLOSE and (size > 125 or not final):
        raise BadFrame(PROTOCOL_ERROR, "a control frame is short and whole")
    if not masked:
        raise BadFrame(PROTOCOL_ERROR, "a client masks what it sends")
    if size >= 126:
        begin, at = at, at + (2 if size == 126 else 8)
        if len(data) < at:
            return None
        size = int.from_bytes(data[begin:at], "big")
    if size > largest:
        raise BadFrame(TOO_BIG, "message too big")
    end = at + 4 + size
    if len(data) < end:
        return None
    return opcode, final, _websocket_mask(data[at:at + 4], data[at + 4:end]), end
