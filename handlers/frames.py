"""Websocket frames as bytes (RFC 6455 section 5). Knows no connection."""

from __future__ import annotations

import struct

TEXT, FIN = 0x1, 0x80


def encoded(payload: bytes, opcode: int = TEXT) -> bytes:
    """One whole frame from a server: not masked, not in pieces."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | opcode, size)) + payload
    if size < 1 << 16:
        return struct.pack(">BBH", FIN | opcode, 126, size) + payload
    return struct.pack(">BBQ", FIN | opcode, 127, size) + payload
