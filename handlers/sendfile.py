"""Bytes of a file that go out without passing through this process: sendfile(2) on the connection's own socket.

Owns that one fast way. Where a connection is no plain TCP socket with nothing queued on it, or Tornado is not as it is
known here, nothing is sent, and the caller takes the plain way. A piece goes out as far as the socket has room: a
stalled reader holds neither thread nor memory. What is not in the system's memory is read from the disk by a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket

from tornado.http1connection import HTTP1Connection
from tornado.iostream import IOStream, StreamClosedError

from .locks import Turns

ENABLED = hasattr(os, "sendfile")
PIECE = 2 * 1024 * 1024  # bytes that one turn of the loop hands over at the most
READ = 4 * 1024 * 1024  # bytes that a thread does, which has to read them


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
    loop = asyncio.get_running_loop()
    at, until = start, loop.time() + idle_s
    with stream.socket.dup() as line:  # one of our own: Tornado may close its own while a thread still uses this one
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
                at, until = at + sent, loop.time() + idle_s
                assert connection._expected_content_remaining is not None
                connection._expected_content_remaining -= sent  # what Tornado counts as not sent yet
            if at < end and (sent or 0) < piece:
                await writable(line, gone, until)
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


async def writable(line: socket.socket, gone: asyncio.Future[None], until: float) -> None:
    """Wait until the socket has room, or the client is gone; it may say that it has room and take nothing all the same.

    Raises:
        TimeoutError: neither happened until that time of the loop.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Event = asyncio.Event()

    def wake(_: object = None) -> None:
        ready.set()

    gone.add_done_callback(wake)
    loop.add_writer(line, wake)
    try:
        async with asyncio.timeout_at(until):
            await ready.wait()
    finally:
        loop.remove_writer(line)
        gone.remove_done_callback(wake)
