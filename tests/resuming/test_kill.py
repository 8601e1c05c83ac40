"""The hub is killed at one particular call to the kernel while an upload is under way, and started again."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import shutil
import subprocess
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.resuming.client import Client, padded
from tests.resuming.process import HubProcess

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace here"),
]
SIZE = 400_000
CUTS = (0, 60_000, 150_000, SIZE)
LARGE = (0, 3_000_001, 15_000_000)


@asynccontextmanager
async def injected(hub: HubProcess, fault: str, log: Path) -> AsyncIterator[None]:
    """Inject a fault, as strace(1) describes it, into the running hub; skips where tracing is not permitted."""
    assert hub.process is not None
    name = fault.partition(":")[0]
    what = ["-e", f"trace={name}", "-e", f"inject={fault}", "-p", str(hub.process.pid)]
    command = ["strace", "-f", "-o", str(log), *what]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = await asyncio.to_thread(tracer.stderr.readline)
        if "attached" not in said:
            tracer.kill()
            pytest.skip(f"tracing is not permitted here: {said}")
        try:
            yield
        finally:
            tracer.terminate()


@dataclass
class Sending:
    """One video of somebody new, on its way to a hub that may have to be started again."""

    hub: HubProcess
    content: bytes
    client: Client
    path: str
    cuts: tuple[int, ...]  # where its pieces end
    told: int = 0  # bytes that were acknowledged
    starts: int = 0

    async def ask(self, *request: Any) -> Any:
        """What the client hears; where the hub has died, it is started and asked again, but for bytes."""
        while True:
            try:
                return await asyncio.to_thread(*request)
            except (OSError, http.client.HTTPException):
                await self.hub.ended()
                await self.hub.start()
                self.starts += 1
                if request[0] == self.client.patch:
                    return None

    async def learn(self) -> int:
        """The offset, which is never below what was acknowledged."""
        offset: int = await self.ask(self.client.offset, self.path)
        assert offset >= self.told, f"{self.told} bytes were acknowledged, {offset} are here"
        return offset

    async def piece(self) -> None:
        """Send up to the next cut."""
        offset = await self.learn()
        end = next((cut for cut in self.cuts if cut > offset), offset)
        answer = await self.ask(self.client.patch, self.path, offset, self.content[offset:end])
        if answer is not None:
            assert (answer.status, answer.offset) == (204, end), answer
            self.told = end

    async def finish(self) -> None:
        while await self.learn() < len(self.content):
            await self.piece()

    async def check(self) -> None:
        """One record, the right bytes, and nothing else."""
        async with asyncio.timeout(60):
            while (upload := (await self.ask(self.client, "GET", self.path)).json)["state"] != "ready":
                assert upload["state"] == "checking", upload
                await asyncio.sleep(0.05)
        assert upload["sha256"] == hashlib.sha256(self.content).hexdigest()
        videos = (await self.ask(self.client, "GET", "/api/videos")).json["items"]
        assert [video["id"] for video in videos] == [self.path.rsplit("/", 1)[1]]
        assert (await self.ask(self.client, "GET", videos[0]["content_url"])).body == self.content
        async with asyncio.timeout(10):
            while list(self.hub.incoming.iterdir()):
                await asyncio.sleep(0.05)


async def begin(hub: HubProcess, seed: int, cuts: tuple[int, ...] = CUTS) -> Sending:
    client = Client(hub.url, await asyncio.to_thread(hub.user))
    return Sending(hub, padded(cuts[-1], seed), client, await asyncio.to_thread(client.create, cuts[-1]), cuts)


async def killed_at(
    hub: HubProcess, tmp_path: Path, call: str, when: int, before: int, cuts: tuple[int, ...] = CUTS,
) -> int:
    """An upload in which the hub is killed at a thread's `when`-th such call once `before` pieces are there."""
    sending = await begin(hub, zlib.crc32(f"{call} {when} {before}".encode()), cuts)
    for _ in range(before):
        await sending.piece()
    async with injected(hub, f"{call}:signal=SIGKILL:when={when}", tmp_path / "trace"):
        await sending.finish()
        await sending.check()
    return sending.starts


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_p1_fault_1_killed_at_each_sync(hub: HubProcess, tmp_path: Path, before: int) -> None:
    """P1, fault 1: the hub dies as it is about to make a piece durable."""
    assert await killed_at(hub, tmp_path, "fdatasync", 1, before) == 1


@pytest.mark.parametrize(("call", "when"), [("write", 1), ("write", 2), ("readv", 3), ("fdatasync", 1)])
async def test_p1_fault_1_killed_while_large_pieces_go_round_the_cache(
    hub: HubProcess, tmp_path: Path, call: str, when: int,
) -> None:
    """P1, fault 1: whole blocks are on the disk, and others not; what was acknowledged is among them."""
    assert await killed_at(hub, tmp_path, call, when, 1, LARGE) == 1


@pytest.mark.parametrize("call", ["rename", "link", "fsync", "unlink"])
async def test_p3_fault_2_killed_between_the_last_byte_and_the_record(
    hub: HubProcess, tmp_path: Path, call: str
) -> None:
    """P3, fault 2: at the poster, at sealing, at syncing the folder after it, at removing the upload's own name."""
    assert await killed_at(hub, tmp_path, call, 1, 2) == 1


@pytest.mark.chaos
@pytest.mark.parametrize("call", ["fdatasync", "fsync", "link", "rename", "unlink", "write", "sendto", "readv"])
async def test_p1_p3_killed_at_every_call(hub: HubProcess, tmp_path: Path, call: str) -> None:
    """P1, P3: at the first, second, third ... such call of a thread, until an upload makes no more of them."""
    for when in range(1, 16):
        if await killed_at(hub, tmp_path, call, when, 0) == 0:
            return


async def test_p1_fault_17_an_io_error_is_said_once(hub: HubProcess, tmp_path: Path) -> None:
    """P1, fault 17: EIO from the sync of the second piece: 503, and the offset is that of the first."""
    sending = await begin(hub, 17)
    await sending.piece()
    async with injected(hub, "fdatasync:error=EIO:when=1+", tmp_path / "trace"):
        answer = await sending.ask(sending.client.patch, sending.path, CUTS[1], sending.content[CUTS[1]:CUTS[2]])
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert await sending.learn() == CUTS[1]
    await sending.finish()
    await sending.check()
    assert sending.starts == 0
