"""The body of a request that a thread takes from its socket, past Tornado.

Owns how the socket is borrowed from Tornado and given back: before Tornado reads the body, as much of it as possible is
taken here, and Content-Length is set to what is left, so that Tornado does the rest as always; mostly that is nothing,
and the connection goes on with its next request. Where anything is unusual (TLS, a chunked body, another Tornado than
the known one) nothing is taken. Moving the bytes is the store's business.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError

from hub.errors import HubError

ENABLED = sys.platform == "linux"  # whose calls these are
LEAST = 256 * 1024  # bytes of a body that are worth it
STEP = 8 * 1024 * 1024  # bytes that Tornado may have read along with the headers, at most at a time
GATHER = 1024 * 1024  # bytes that are worth a thread's turn, and a write of their own,
GATHER_S = 0.02  # and seconds after which fewer are
FLOW = 64 * 1024  # bytes for which the thread goes on while it fills a buffer


class Taker(Protocol):
    """Who takes the body, and watches over the client's silence while nothing comes."""

    refusal: HubError | None

    async def data_received(self, chunk: bytes) -> None:
        """Take a piece that Tornado has read already."""

    async def draw(self, source: int, most: int) -> int:
        """Take up to `most` bytes out of a socket, 0 where it has none for now; refuses the request where it cannot.

        Raises:
            EOFError: the client has hung up.
        """


async def take_body(connection: HTTP1Connection, headers: HTTPHeaders, taker: Taker) -> None:
    """Take what can be taken of a body; to be awaited in prepare(), when nothing else speaks against the request.

    The `headers` tell Tornado afterwards what is left to be read. A client that hangs up closes the stream.
    """
    left = length_of(headers)
    stream = connection.stream
    if left < LEAST or not usable(stream):
        return
    if headers.get("Expect", "").lower() == "100-continue":
        del headers["Expect"]
        try:
            await stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except StreamClosedError:
            return
    while left and stream._read_buffer_size and taker.refusal is None:  # came along with the headers
        chunk = await stream.read_bytes(min(left, STEP), partial=True)
        left = remember(headers, left - len(chunk))
        await taker.data_received(chunk)
    if stream.closed():
        return
    with borrowed(stream) as line:
        while left and taker.refusal is None and not stream.closed():
            await line.readable(left)
            line.wake_for(min(FLOW, left))
            try:
                left = remember(headers, left - await taker.draw(line.fileno(), left))
            except EOFError:
                stream.close()
                return


def length_of(headers: HTTPHeaders) -> int:
    """The length of a body that is told and plain; 0 for all others."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and "Transfer-Encoding" not in headers else 0


def remember(headers: HTTPHeaders, left: int) -> int:
    """Tell Tornado how much of the body is left."""
    headers["Content-Length"] = str(left)
    return left


def usable(stream: IOStream) -> bool:
    """Whether this is a plain TCP socket, and Tornado reads from it in the known way."""
    return (
        ENABLED and type(stream) is IOStream and not stream.closed() and not stream.reading()
        and isinstance(getattr(stream, "_read_buffer_size", None), int) and hasattr(stream, "_state")
    )


class Line:
    """A socket of our own to the client: Tornado may close its own while a thread still uses this one."""

    def __init__(self, own: socket.socket) -> None:
        self.own = own
        self.woken = asyncio.Event()
        self.low = 1  # bytes for which the system wakes us

    def fileno(self) -> int:
        return self.own.fileno()

    async def readable(self, left: int) -> None:
        """Wait until there is enough to read for a turn, or something and no more for a while, or the stream is closed.

        The system makes room for so much (SO_RCVLOWAT in socket(7)).
        """
        enough, there = min(GATHER, left), self.waiting()
        if there >= enough:
            return
        if not there:
            await self.wait_for(1, None)
        await self.wait_for(enough, GATHER_S)

    def waiting(self) -> int:
        """How many bytes could be read now."""
        count: int
        count, = struct.unpack("i", fcntl.ioctl(self.own, termios.FIONREAD, bytes(4)))
        return count

    def wake_for(self, count: int) -> None:
        """Have the system wake nobody for less."""
        if count != self.low:
            self.own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self.low = count

    async def wait_for(self, count: int, seconds: float | None) -> None:
        self.wake_for(count)
        self.woken.clear()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.own, self.woken.set)
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_reader(self.own)


@contextmanager
def borrowed(stream: IOStream) -> Iterator[Line]:
    """The stream's socket, which Tornado does not look at meanwhile, although it may close it."""
    with stream.socket.dup() as own:
        line = Line(own)
        stream.set_close_callback(line.woken.set)
        if stream._state is not None:
            stream.io_loop.update_handler(stream.fileno(), IOLoop.ERROR)
        try:
            yield line
        finally:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            stream.set_close_callback(None)
            if stream._state is not None:
                stream.io_loop.update_handler(stream.fileno(), stream._state)
