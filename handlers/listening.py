"""Taking connections in: a few in each turn of the loop, so that a crowd at the door keeps nobody inside waiting.

Owns the listening sockets. Where the system has no descriptor left it waits a second and tries again, with one line in
the log; what has not been taken in waits in the listen backlog.
"""

from __future__ import annotations

import asyncio
import socket

import structlog
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

log = structlog.get_logger(__name__)

AT_ONCE = 8  # connections taken in one turn
PAUSE_S = 1.0


class Listening:
    """The open doors of a server."""

    def __init__(self, server: HTTPServer, sockets: list[socket.socket]) -> None:
        self.server = server
        self.sockets = sockets
        self.loop = asyncio.get_running_loop()
        for each in sockets:
            each.setblocking(False)
            self.loop.add_reader(each, self.accept, each)

    def accept(self, door: socket.socket) -> None:
        """Take in a few of those who wait."""
        for _ in range(AT_ONCE):
            try:
                connection, address = door.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                log.warning("connections_refused", reason=error.strerror)
                self.loop.remove_reader(door)
                self.loop.call_later(PAUSE_S, self.open_again, door)
                return
            connection.setblocking(False)
            self.server.handle_stream(IOStream(
                connection, max_buffer_size=self.server.max_buffer_size, read_chunk_size=self.server.read_chunk_size,
            ), address)

    def open_again(self, door: socket.socket) -> None:
        if door.fileno() >= 0:
            self.loop.add_reader(door, self.accept, door)

    def stop(self) -> None:
        """Take in nobody any more."""
        for each in self.sockets:
            self.loop.remove_reader(each)
            each.close()
