"""A network between the browser and the hub that can go dark: nothing passes, and nobody is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class DarkProxy:
    """Passes bytes to the hub's port and back while `light` is set."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.light = asyncio.Event()
        self.light.set()
        self.url = ""
        self.lines: set[asyncio.Task[None]] = set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.create_task(self.connect(reader, writer))
        self.lines.add(line)
        line.add_done_callback(self.lines.discard)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its first byte to the end of both directions."""
        writers = [writer]
        try:
            await self.light.wait()
            inward, outward = await asyncio.open_connection("127.0.0.1", self.port)
            writers.append(outward)
            await asyncio.gather(self.carry(reader, outward), self.carry(inward, writer))
        except OSError:
            return
        finally:
            for each in writers:
                each.close()
            for each in writers:
                with suppress(OSError):
                    await each.wait_closed()

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self.light.wait()
            sink.write(data)
            await sink.drain()
        await self.light.wait()
        sink.close()


@asynccontextmanager
async def dark_proxy(port: int) -> AsyncIterator[DarkProxy]:
    proxy = DarkProxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for line in proxy.lines:
            line.cancel()
        await asyncio.gather(*proxy.lines, return_exceptions=True)
