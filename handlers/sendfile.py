"""Bytes of a file that go out without passing through this process: sendfile(2) on the connection's own socket.

Owns that one fast way. Where a connection is no plain TCP socket with nothing queued on it, or Tornado is not as it is
known here, nothing is sent, and the caller takes the plain way. A piece goes out as far as the socket has room: a
stalled reader holds neither thread nor memory. What is not in the system's memory is read from the disk by a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from tornado.http1connection import HTTP1Connection
from tornado.iostream import IOStream, StreamClosedError

from .locks import Turns

ENABLED = hasattr(os, "sendfile")
PIECE = 2 * 1024 * 1024  # bytes that one turn of the loop hands over at the most
READ = 4 * 1024 * 1024  # bytes that a thread does, which has to read them
TCP_INFO_BYTES, BYTES_ACKED = 192, 120  # of struct tcp_info of Linux, and where in it tcpi_bytes_acked is (tcp(7))


class Patience:
    """How long a client may take nothing: `idle_s` seconds.

    What it acknowledges counts as taken, where the system tells. That a socket has room again does not say it in time:
    a third of all that it holds must be gone first, which over a slow line takes minutes.
    """

    def __init__(self, line: socket.socket, idle_s: float) -> None:
        self.line, self.idle_s = line, idle_s
        self.renew()

    def renew(self) -> None:
        """It has just taken something."""
        self.acknowledged = acknowledged(self.line)
        self.until = asyncio.get_running_loop().time() + self.idle_s

    def left(self) -> float:
        """Seconds that it may be waited for, until this is asked again.

        Raises:
            TimeoutError: it took nothing for `idle_s` seconds.
        """
        if (left := self.until - asyncio.get_running_loop().time()) > 0:
            return left
        if acknowledged(self.line) == self.acknowledged:
            raise TimeoutError
        self.renew()
        return self.idle_s


async def send(
    connection: HTTP1Connection, file: int, start: int, end: int, gone: asyncio.Future[None], idle_s: float,
    turns: Turns,
) -> int:
    """Send a file's bytes from `start` up to `end`, after the headers; how many went out this way, 0 where none can.

    `gone` is done when the client has hung up, `idle_s` is how long it may take nothing.

    Raises:
        StreamClosedError: the client is gone.
        TimeoutError: it took nothing for `idle_s` seconds.
    """
    if not usable(connection, end - start):
        return 0
    stream = connection.stream
    stream.set_nodelay(True)
    at = start
    with stream.socket.dup() as line:  # one of our own: Tornado may close its own while a thread still uses this one
        patience = Patience(line, idle_s)
        while at < end:
            piece = min(PIECE, end - at)
            if in_memory(file, at, piece):
                await turns.next()
                sent = hand_over(line, file, at, piece)
            else:
                sent = await asyncio.to_thread(hand_over, line, file, at, min(READ, end - at))
            if stream.closed():
                raise StreamClosedError
            if sent == 0:
                break  # the file ends early
            if sent is not None:
                at += sent
                patience.renew()
                assert connection._expected_content_remaining is not None
                connection._expected_content_remaining -= sent  # what Tornado counts as not sent yet
            if at < end and (sent or 0) < piece:
                await writable(line, gone, patience)
    return at - start


def usable(connection: HTTP1Connection, length: int) -> bool:
    """Whether nothing stands between us and the socket, and Tornado counts the body's bytes in the known way."""
    stream = connection.stream
    expected = getattr(connection, "_expected_content_remaining", None)
    return (
        ENABLED and type(stream) is IOStream and not stream.closed() and not stream.writing()
        and isinstance(expected, int) and expected >= length
    )


def in_memory(file: int, at: int, count: int) -> bool:
    """Whether the first and the last of these bytes are there without a disk being asked (RWF_NOWAIT in preadv2(2))."""
    byte = bytearray(1)
    try:
        return all(os.preadv(file, [byte], where, os.RWF_NOWAIT) for where in (at, at + count - 1))
    except OSError:
        return False


def hand_over(line: socket.socket, file: int, at: int, count: int) -> int | None:
    """Give the socket as much as it has room for: bytes; 0 at the file's end, None where there is no room.

    Raises:
        StreamClosedError: the client is gone.
    """
    try:
        return os.sendfile(line.fileno(), file, at, count)
    except BlockingIOError:
        return None
    except ConnectionError as error:
        raise StreamClosedError(error) from None


async def writable(line: socket.socket, gone: asyncio.Future[None], patience: Patience) -> None:
    """Wait until the socket has room, or the client is gone; it may say that it has room and take nothing all the same.

    Raises:
        TimeoutError: neither happened, and the client took nothing for too long.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    left = patience.left()
    loop.add_writer(line, wake)
    try:
        while not (await asyncio.wait((ready, gone), timeout=left, return_when=asyncio.FIRST_COMPLETED))[0]:
            left = patience.left()
    finally:
        loop.remove_writer(line)


def acknowledged(line: socket.socket) -> int:
    """How many bytes the other side has acknowledged; 0 where the system does not tell."""
    if not hasattr(socket, "TCP_INFO"):
        return 0
    try:
        told = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    except OSError:
        return 0
    return int(struct.unpack_from("=Q", told, BYTES_ACKED)[0]) if len(told) >= BYTES_ACKED + 8 else 0
