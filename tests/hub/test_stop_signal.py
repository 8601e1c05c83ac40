"""A real hub process is told to stop, again and again, while something is under way."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from .process import hub_process

pytestmark = pytest.mark.mongo
EXIT_S = 15.0


async def said(port: int, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    await writer.drain()
    return reader, writer


async def insist(hub: asyncio.subprocess.Process) -> None:
    """SIGTERM until the process is gone: some come before, some while, and some after it stops."""
    while hub.returncode is None:
        hub.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.02)


async def test_p15_fault_31_sigterm_twice_during_an_upload(tmp_path: Path) -> None:
    async with hub_process(tmp_path) as hub:
        account = json.dumps({"email": "ann@example.org", "name": "Ann", "password": "a long enough password"})
        head = f"Host: 127.0.0.1:{hub.port}\r\nContent-Length: "
        reader, writer = await said(
            hub.port, f"POST /api/auth/register HTTP/1.1\r\n{head}{len(account)}\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\n\r\n{account}",
        )
        answer = (await asyncio.wait_for(reader.read(), 30)).decode()
        writer.close()
        assert " 201 " in answer.partition("\r\n")[0], answer
        token = json.loads(answer.partition("\r\n\r\n")[2])["token"]
        _, upload = await said(
            hub.port, f"POST /api/videos?name=v.mp4 HTTP/1.1\r\n{head}1000000\r\nContent-Type: video/mp4\r\n"
            f"Authorization: Bearer {token}\r\n\r\n" + 1000 * "x",
        )
        insisting = asyncio.create_task(insist(hub.process))
        output, _ = await asyncio.wait_for(hub.process.communicate(), EXIT_S)
        await insisting
        assert hub.process.returncode == 0, output.decode()[-2000:]
        assert b"Traceback" not in output
        upload.close()
