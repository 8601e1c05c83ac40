"""Lean clients, for what measures must cost less than what it measures: kept HTTP connections and websockets.

They say only what a benchmark says and hear only what the hub answers: no redirects, no compression, no fragments.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable

TEXT, PING, PONG = 0x1, 0x9, 0xA


class Caller(asyncio.Protocol):
    """One kept HTTP/1.1 connection; one request at a time, each with a body and an answer of known length."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.heard = bytearray()
        self.answered: asyncio.Future[tuple[int, bytes]]

    @classmethod
    async def open(cls, port: int) -> Caller:
        _, caller = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return caller

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    async def post(self, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self.answered = asyncio.get_running_loop().create_future()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        return await self.answered

    def data_received(self, data: bytes) -> None:
        self.heard += data
        head, end, body = bytes(self.heard).partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self.heard.clear()
            if not self.answered.done():  # nobody waits any more when a benchmark is broken off
                self.answered.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if hasattr(self, "answered") and not self.answered.done():
            self.answered.set_exception(ConnectionError("the hub hung up"))


class Talk(asyncio.Protocol):
    """One websocket: `hear` gets each text message's bytes."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self.hear = hear
        self.transport: asyncio.Transport
        self.heard = bytearray()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, port: int, path: str, hear: Callable[[bytes], None], **headers: str) -> Talk:
        """A websocket whose handshake is done.

        Raises:
            ConnectionError: the hub refused it.
        """
        _, talk = await asyncio.get_running_loop().create_connection(lambda: cls(hear), "127.0.0.1", port)
        talk.transport.write(handshake(port, path, **headers))
        await talk.opened
        return talk

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def say(self, text: bytes) -> None:
        self.transport.write(masked(text))

    def close(self) -> None:
        """Hang up without a word."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if not self.opened.done():
            head, end, rest = bytes(self.heard).partition(b"\r\n\r\n")
            if not end:
                return
            self.heard[:] = rest
            if b" 101 " not in head[:16]:
                self.opened.set_exception(ConnectionError(rest.decode(errors="replace")[:300] or "refused"))
                return
            self.opened.set_result(None)
        self.take_frames()

    def take_frames(self) -> None:
        """Hear every whole frame that is there; the hub's are never masked nor in pieces (RFC 6455 section 5.2)."""
        heard, at = self.heard, 0
        while len(heard) - at >= 2:
            size, start = heard[at + 1], at + 2
            if size >= 126:
                start += 2 if size == 126 else 8
                size = int.from_bytes(heard[at + 2:start], "big")
            if len(heard) < start + size:
                break
            kind, payload = heard[at] & 0xF, bytes(heard[start:start + size])
            at = start + size
            if kind == TEXT:
                self.hear(payload)
            elif kind == PING:
                self.transport.write(masked(payload, PONG))
        del heard[:at]


def handshake(port: int, path: str, **headers: str) -> bytes:
    """A client's opening of a websocket (RFC 6455 section 4.1); underscores in names stand for dashes."""
    key = base64.b64encode(os.urandom(16)).decode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    ).encode()


def masked(text: bytes, kind: int = TEXT) -> bytes:
    """A frame from a client, masked with zeros (RFC 6455 section 5.3)."""
    size = len(text)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([0x80 | kind]) + length + b"\0\0\0\0" + text
