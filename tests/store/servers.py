"""MongoDB servers of a test's own, on loopback: one that can be told to fail, or a set of three."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from store import system
from tests.ports import free_port

SET = "test"
OPTIONS = (
    "--bind_ip", "127.0.0.1", "--nounixsocket", "--replSet", SET, "--oplogSize", "16", "--quiet",
    "--wiredTigerCacheSizeGB", "0.25", "--networkMessageCompressors", "disabled",
    "--setParameter", "diagnosticDataCollectionEnabled=false",
    "--setParameter", "enableTestCommands=1",
)


def ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class Servers:
    """Some mongods that form one set; `uri` finds its primary."""

    def __init__(self, folder: Path, count: int) -> None:
        mongod = system.find_mongod()
        assert mongod is not None
        self.ports = [free_port() for _ in range(count)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        for port in self.ports:
            home = folder / str(port)
            home.mkdir()
            self.processes[port] = subprocess.Popen(
                [str(mongod), "--dbpath", str(home), "--port", str(port), "--logpath", str(home / "log"), *OPTIONS],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/?replicaSet={SET}"

    async def elect(self) -> None:
        """Make them a set, and wait until it has a primary."""
        members = [{"_id": place, "host": f"127.0.0.1:{port}"} for place, port in enumerate(self.ports)]
        config = {"_id": SET, "members": members, "settings": {"electionTimeoutMillis": 2000}}
        async with asyncio.timeout(60), self.node(self.ports[0]) as node:
            while True:
                try:
                    await node.admin.command("replSetInitiate", config)
                    break
                except PyMongoError:
                    await asyncio.sleep(0.2)
        await self.primary()

    async def primary(self) -> int:
        """The port of the one that takes writes, once there is one."""
        async with asyncio.timeout(60):
            while True:
                for port, process in self.processes.items():
                    if process.poll() is None:
                        try:
                            async with self.node(port) as node:
                                if (await node.admin.command("hello"))["isWritablePrimary"]:
                                    return port
                        except PyMongoError:
                            continue
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def node(self, port: int) -> AsyncIterator[Any]:
        """A client of one of them alone."""
        client: Any = AsyncMongoClient(
            f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=2000, timeoutMS=10_000,
        )
        async with client:
            yield client


@asynccontextmanager
async def servers(folder: Path, count: int = 1) -> AsyncIterator[Servers]:
    """A set with a primary; it is gone afterwards."""
    async with AsyncExitStack() as stack:
        made = Servers(folder, count)
        for process in made.processes.values():
            stack.callback(ended, process)
        await made.elect()
        yield made
