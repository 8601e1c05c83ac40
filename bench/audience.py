"""The audience of the fan-out benchmark: bench/audience.c as a process, and what each viewer says first."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from .wire import handshake, masked

SOURCE = Path(__file__).with_name("audience.c")
BUILD = SOURCE.parent.parent / "build"
CORE = "1"
PATIENCE = 60.0  # seconds for anything that is waited for
MARK = '"t":"'
LONGEST = 1 << 22  # bytes of a line that a process says


class Audience:
    """The viewers, once all of them look."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def hear(self, word: str) -> None:
        """Wait for a line.

        Raises:
            RuntimeError: another one came, or none.
        """
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = (await self.process.stdout.readline()).decode().strip()
        if line != word:
            raise RuntimeError(f"the audience says {line!r}")

    async def stop(self) -> dict[str, float]:
        """What was counted."""
        self.say("stop")
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            counted: dict[str, float] = json.loads(await self.process.stdout.readline())
        return counted


@asynccontextmanager
async def a_process(core: str, *command: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process on a core of its own, until the block ends; what the pipe holds of files is what the system allows."""
    process = await asyncio.create_subprocess_exec(
        "prlimit", f"--nofile={hard_limit()}", "taskset", "-c", core, *command,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=LONGEST, cwd=SOURCE.parent.parent,
        env={**os.environ, **variables},
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def hard_limit() -> int:
    """How many files a process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def compiled() -> Path:
    """The audience's program, made where it is not there or old.

    Raises:
        RuntimeError: there is no C compiler, or it does not like the program.
    """
    program = BUILD / "audience"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        made = subprocess.run(
            [os.environ.get("CC", "cc"), "-O2", "-o", str(program), str(SOURCE)], capture_output=True, text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"bench/audience.c: {made.stderr[:300]}")
    return program


@asynccontextmanager
async def audience(port: int, first: list[bytes], polls: bool = False, opening: int = 200) -> AsyncIterator[Audience]:
    """Viewers who look, each after it has said its `first`; so many of them come at the same time."""
    with tempfile.NamedTemporaryFile(prefix="audience-") as file:
        for said in first:
            file.write(struct.pack("<I", len(said)) + said)
        file.flush()
        ready = "101 " if b"/ws/" in first[0][:200] and b"subscribe" not in first[0] else '"subscribed"'
        cursor = ['"cursor":"' if b"/api/live" in first[0] else '"cursor": "'] if polls else []
        command = [str(compiled()), str(port), file.name, ready, MARK, *cursor]
        async with a_process(CORE, *command, OPENING=str(opening)) as process:
            crowd = Audience(process)
            await crowd.hear("ready")
            await asyncio.sleep(0.5)
            yield crowd


def sayings(peer: str, viewers: int, way: str, facts: dict[str, Any]) -> list[bytes]:
    """What each viewer says when it comes: a handshake and what follows, or a poll."""
    port = 1
    if peer == "hub":
        auth = masked(json.dumps({"type": "auth", "id": 1, "token": facts["token"]}).encode())
        topics = facts["topics"]
        if way == "poll":
            ask = f"GET /api/live?topics={topics[0]}&cursor=@@@&wait=50 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            return first_polls(ask + f"Authorization: Bearer {facts['token']}\r\n\r\n", viewers)
        return [
            handshake(port, "/api/live") + auth
            + masked(json.dumps({
                "type": "subscribe", "id": 2, "topic": topics[number % len(topics)], "after": facts["cursor"],
            }).encode())
            for number in range(viewers)
        ]
    if way == "poll":
        return first_polls("GET /poll?cursor=@@@ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", viewers)
    greeting = b"" if peer.startswith("nchan") else masked(b'{"type": "subscribe"}')
    return [handshake(port, f"/ws/{number if way == 'own' else 0}") + greeting for number in range(viewers)]


def first_polls(request: str, viewers: int) -> list[bytes]:
    """The same question for all; the first time there is no cursor."""
    return [request.encode()] * viewers
