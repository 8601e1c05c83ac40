"""A TCP proxy between two ports of this machine that can be cut in three ways. Knows no message."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

PIECE = 64 * 1024
RESET, STALL, HALF_OPEN = "reset", "stalled", "half open"
HOWS = (RESET, STALL, HALF_OPEN)


class Proxy:
    """Passes connections on to a port of this machine, unless it is cut.

    reset: connections are reset, new ones too. stalled: nothing is lost and nothing moves, new connections included.
    half open: the far end of every connection is reset, the near end learns of it when it next says something after
    the mending; new connections stall.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.refusing = False
        self.moving = asyncio.Event()
        self.moving.set()
        self.flows: dict[asyncio.Task[None], Ends] = {}
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
        self.mend()
        self.reset()

    def cut(self, how: str) -> None:
        self.refusing = how == RESET
        if how == RESET:
            self.reset()
            return
        self.moving.clear()
        if how == HALF_OPEN:
            for ends in self.flows.values():
                ends.orphan()

    def mend(self) -> None:
        self.refusing = False
        self.moving.set()

    def reset(self) -> None:
        for flow, ends in list(self.flows.items()):
            flow.cancel()
            ends.reset()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its coming to its end."""
        ends = Ends(writer)
        this = asyncio.current_task()
        assert this is not None
        self.flows[this] = ends
        try:
            if not self.refusing:
                await self.moving.wait()
                far_reader, ends.far = await self.reach()
                await self.pass_on(ends, reader, far_reader)
                if not ends.orphaned:
                    ends.close()
                    return
            ends.reset()
        except (OSError, asyncio.CancelledError):
            ends.reset()
        finally:
            del self.flows[this]

    async def reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to whom this proxy stands for."""
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def pass_on(self, ends: Ends, near: asyncio.StreamReader, far: asyncio.StreamReader) -> None:
        """Pass on in both directions until one of them has ended.

        Raises:
            OSError: it did not end properly.
        """
        assert ends.far is not None
        back = asyncio.create_task(self.pump(far, ends.near, ends))
        out = asyncio.create_task(self.pump(near, ends.far, ends))
        try:
            done, _ = await asyncio.wait((out, back), return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
            if ends.orphaned:
                await out
            elif out.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):  # an answer may be on its way to one that says nothing more
                        await back
        finally:
            out.cancel()
            back.cancel()
            await asyncio.gather(out, back, return_exceptions=True)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: Ends) -> None:
        """Pass on what comes, until it ends; what comes for an end that is gone is the end."""
        while data := await reader.read(PIECE):
            await self.moving.wait()
            if ends.orphaned:
                return
            writer.write(data)
            await writer.drain()
        await self.moving.wait()
        if writer.can_write_eof() and not ends.orphaned:
            writer.write_eof()


class Ends:
    """Both ends of a connection; `orphaned` once the far one was reset and the near one does not know."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.orphaned = False

    def orphan(self) -> None:
        if self.far is not None:
            self.orphaned = True
            reset(self.far)

    def close(self) -> None:
        """End it properly, once all that was written has arrived."""
        for writer in (self.near, self.far):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a crashed peer does, with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    if connection is not None and not writer.is_closing():
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
