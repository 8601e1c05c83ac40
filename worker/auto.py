"""The best way to the hub that there is: a websocket, or polls until one gets through.

Owns when to give up on websockets and when to try them again. What was said and heard is the session's: it goes on
over whatever transport comes next.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from .errors import Lost, NoWebSocket, Refused
from .transports import Connection, Transport

GIVE_UP_AFTER = 2  # handshakes that failed, one after the other
AGAIN_S = 60.0

log = structlog.get_logger(__name__)


class AutoTransport:
    """`socket` while its handshakes succeed, else `poll`, with `socket` tried again every `again_s` seconds."""

    def __init__(self, socket: Transport, poll: Transport, again_s: float = AGAIN_S) -> None:
        self.socket = socket
        self.poll = poll
        self.again_s = again_s
        self.failures = 0
        self.found: Connection | None = None

    async def open(self) -> Connection:
        if self.found is not None:
            found, self.found = self.found, None
            return found
        if self.failures < GIVE_UP_AFTER:
            try:
                connection = await self.socket.open()
            except NoWebSocket as error:
                self.failures += 1
                if self.failures < GIVE_UP_AFTER:
                    raise
                log.info("polling_instead", reason=str(error))
            else:
                self.failures = 0
                return connection
        return Interim(await self.poll.open(), self)

    async def search(self) -> None:
        """Try again and again, until there is a websocket, which the next `open` gives."""
        while self.found is None:
            await asyncio.sleep(self.again_s)
            with suppress(Lost, Refused):
                self.found = await self.socket.open()
        self.failures = 0

    async def close(self) -> None:
        if self.found is not None:
            await self.found.close()
            self.found = None


class Interim:
    """A connection that ends when a websocket gets through again."""

    def __init__(self, connection: Connection, auto: AutoTransport) -> None:
        self.connection = connection
        self.search = asyncio.create_task(auto.search())

    async def send(self, message: bytes) -> None:
        await self.connection.send(message)

    async def show(self, picture: bytes) -> None:
        await self.connection.show(picture)

    async def receive(self) -> bytes | str:
        receiving = asyncio.ensure_future(self.connection.receive())
        try:
            await asyncio.wait({receiving, self.search}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
            raise Lost("a websocket gets through again")
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def close(self) -> None:
        self.search.cancel()
        await asyncio.gather(self.search, return_exceptions=True)
        await self.connection.close()
