"""A line of a few kilobytes a second: who goes on sending or taking is not cut, however long it takes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import handlers.content
import handlers.uploads
from handlers import sendfile
from handlers.content import Content
from tests.handlers.running import Api, Person, one_loop, small_video
from tests.odd_media import WEBCAM

pytestmark = one_loop
SILENCE_S, GAP_S, GAPS = 2.0, 0.1, 50  # the whole takes more than two silences


def noisy(size: int) -> bytes:
    """A video of so many bytes, nearly all of which players skip."""
    content = small_video()
    return content + (size - len(content)).to_bytes(4) + b"free" + os.urandom(size - len(content) - 8)


@asynccontextmanager
async def others(person: Person) -> AsyncIterator[None]:
    """Somebody else asks all the while, and is answered."""
    async def ask() -> None:
        while True:
            await person.get("/api/videos")
            answered.append(1)

    answered: list[int] = []
    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        assert not asking.done() and len(answered) > 10
        asking.cancel()


async def dripped(api: Api, head: str, content: bytes) -> bytes:
    """Send a body in small pieces with pauses; the answer's first line."""
    size = len(content) // GAPS + 1
    async with api.connection(head) as (reader, writer):
        for at in range(0, len(content), size):
            writer.write(content[at:at + size])
            await asyncio.sleep(GAP_S)  # what makes the line slow
        return await reader.readline()


@pytest.mark.parametrize("size", [40_000, 2_000_000], ids=["a small file", "a large file"])
async def test_fault_15_an_upload_that_drips_in_is_not_cut(
    api: Api, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(handlers.uploads, "SILENCE_S", SILENCE_S)
    person, content = await api.user(), noisy(size)
    head = (
        f"POST /api/videos?name=v HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {person.token}\r\n"
        f"Content-Type: video/mp4\r\nContent-Length: {size}\r\n\r\n"
    )
    async with others(await api.user()):
        assert b" 201 " in await dripped(api, head, content)
    [video] = (await person.get("/api/videos"))["items"]
    assert (await api("GET", video["content_url"])).body == content


@pytest.fixture(params=["sendfile", "plainly"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sendfile, "ENABLED", request.param == "sendfile")
    return str(request.param)


async def test_fault_15_a_download_that_is_taken_slowly_is_not_cut(
    api: Api, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight kilobytes a second: less than what makes the system say that a socket has room again."""
    monkeypatch.setattr(handlers.content, "IDLE_S", SILENCE_S)
    ended, send = asyncio.Event(), Content.send

    async def watched(*arguments: Any) -> None:
        await send(*arguments)
        ended.set()

    monkeypatch.setattr(Content, "send", watched)
    size = 32 * 1024 * 1024  # more than two sockets hold
    video = await (await api.user()).upload_video(WEBCAM.read_bytes() + b"\0\0\0\x0cfree" + os.urandom(4))
    [path] = [api.folder / name for name in api.files() if name.endswith(video["sha256"])]
    os.truncate(path, size)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", api.hub.port))
        line.setblocking(False)
        line.send(f"GET {video['content_url']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        loop, taken = asyncio.get_running_loop(), 0
        async with others(await api.user()):
            for _ in range(GAPS):
                taken += len(await loop.sock_recv(line, 800))
                await asyncio.sleep(GAP_S)  # what makes the line slow
            assert not ended.is_set(), "it was cut"
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        async with asyncio.timeout(60):
            while taken < size:
                piece = await loop.sock_recv(line, 1 << 20)
                assert piece, f"it was cut after {taken} bytes"
                taken += len(piece)
