"""A bad line between a client and the hub: slow, cut when told to; it reads along what is said about offsets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

PIECE = 32 * 1024
SLOWLY_S = 0.002  # per piece: about 16 MB a second
REQUEST = re.compile(rb"(POST|PATCH|HEAD|DELETE|GET) (/api/uploads\S*) HTTP/1.1\r\n(.*?)\r\n\r\n", re.DOTALL)
OFFSET = re.compile(rb"^upload-offset: (\d+)\r?$", re.IGNORECASE | re.MULTILINE)


@dataclass
class Line:
    """A listening end that passes everything on to `port`."""

    port: int
    said: list[tuple[str, str, int | None]] = field(default_factory=list)  # method, path, Upload-Offset of requests
    told: dict[str, int] = field(default_factory=dict)  # the highest offset that was acknowledged, by path
    fallen: list[str] = field(default_factory=list)  # offsets that fell
    links: set[asyncio.StreamWriter] = field(default_factory=set)
    sent: int = 0  # bytes on their way to the hub
    watch: Callable[[], None] = lambda: None  # called after each piece
    here: int = 0

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        self.here = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.server.close()
        self.cut()
        await self.server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.here}"

    def cut(self) -> None:
        """All connections are gone, without a goodbye."""
        for writer in list(self.links):
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        self.links |= {writer, up_writer}
        path: list[str] = []
        ways = [
            asyncio.create_task(self.forth(reader, up_writer, path)),
            asyncio.create_task(self.back(up_reader, writer, path)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, up_writer):
                self.links.discard(end)
                end.transport.abort()

    async def forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: list[str]) -> None:
        try:
            while piece := await reader.read(PIECE):
                for method, target, headers in REQUEST.findall(piece):
                    offset = OFFSET.search(headers)
                    self.said.append((method.decode(), target.decode(), int(offset[1]) if offset else None))
                    path[:] = [target.decode()]
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
                await asyncio.sleep(SLOWLY_S)  # what makes the line slow
                self.watch()
        except ConnectionError:
            pass

    async def back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: list[str]) -> None:
        try:
            while piece := await reader.read(PIECE):
                if path and piece.startswith(b"HTTP/1.1 20") and (offset := OFFSET.search(piece)):
                    self.acknowledged(path[0], int(offset[1]))
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass

    def acknowledged(self, path: str, offset: int) -> None:
        if offset < self.told.get(path, 0):
            self.fallen.append(f"{path}: {self.told[path]} was told, then {offset}")
        self.told[path] = max(offset, self.told.get(path, 0))
