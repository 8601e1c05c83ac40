"""Frames in and out, byte by byte, and a connection that is taken over only where it is known."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.iostream import IOStream
from websockets.frames import Frame, Opcode

from bench.wire import handshake
from handlers import frames, wire
from handlers.frames import BadFrame
from tests.handlers.running import Api, one_loop

LARGEST = 100_000


@given(st.binary(max_size=200), st.sampled_from([frames.TEXT, frames.BINARY, frames.CONTINUATION]), st.booleans())
def test_what_a_client_library_sends_is_understood(payload: bytes, opcode: int, final: bool) -> None:
    sent = Frame(Opcode(opcode), payload, final).serialize(mask=True, extensions=[])
    assert frames.first(sent + b"more", LARGEST) == (opcode, final, payload, len(sent))
    assert frames.first(b"before" + sent, LARGEST, 6) == (opcode, final, payload, 6 + len(sent))
    assert all(frames.first(b"before" + sent[:size], LARGEST, 6) is None for size in range(len(sent)))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 99_999])
def test_frames_of_every_length_go_both_ways(size: int) -> None:
    payload = os.urandom(size)
    sent = Frame(Opcode.BINARY, payload).serialize(mask=True, extensions=[])
    assert frames.first(sent, LARGEST) == (frames.BINARY, True, payload, len(sent))
    assert frames.encoded(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False, extensions=[])


@pytest.mark.parametrize(("raw", "code"), [
    (b"\x83\x80", 1002), (b"\xc1\x80", 1002), (b"\x89\xfe", 1002), (b"\x09\x80", 1002), (b"\x81\x05hello", 1002),
    (b"\x81\xff" + b"\xff" * 8, 1009), (b"\x81\xff" + (100_001).to_bytes(8, "big"), 1009),
])
def test_row_106_what_breaks_the_protocol_is_told_from_its_head(raw: bytes, code: int) -> None:
    with pytest.raises(BadFrame) as bad:
        frames.first(raw, LARGEST)
    assert bad.value.code == code


def test_the_reason_of_a_close_fits_its_frame() -> None:
    sent = frames.closing(4401, "再" * 100)
    assert len(sent) <= 127
    assert sent[4:].decode().strip("再") == ""


async def test_a_stream_that_is_not_known_is_left_to_tornado() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = IOStream(ours)
    assert wire.can_take_over(stream)

    class Another(IOStream):
        """Perhaps one that encrypts."""

    assert not wire.can_take_over(Another(theirs))
    del stream._state
    assert not wire.can_take_over(stream) and wire.take_over(stream) is None
    stream._state = None
    stream.close()
    assert not wire.can_take_over(stream)
    theirs.close()


@one_loop
async def test_a_message_may_come_in_pieces_and_with_the_handshake(api: Api) -> None:
    """Rows 106 and 107 are in test_live; this is what browsers and proxies may do."""
    parts = [
        Frame(Opcode.TEXT, b'{"type":"pi', False), Frame(Opcode.PING, b"are you there"),
        Frame(Opcode.CONT, b'ng","id":1}', True),
    ]
    said = b"".join(part.serialize(mask=True, extensions=[]) for part in parts)
    async with api.connection(handshake(api.hub.port, "/api/live") + said) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(15) == frames.encoded(b"are you there", frames.PONG)
        rest = await reader.read()
    assert b'"code":"unauthorized"' in rest and rest[-17:-13] == b"\x88\x0f\x11\x31"


@one_loop
async def test_bytes_that_come_one_by_one_are_a_message_too(api: Api) -> None:
    said = Frame(Opcode.CLOSE, (1000).to_bytes(2, "big")).serialize(mask=True, extensions=[])
    async with api.connection(handshake(api.hub.port, "/api/live")) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for byte in said:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await reader.read() == frames.encoded((1000).to_bytes(2, "big"), frames.CLOSE)
