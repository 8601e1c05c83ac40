"""A hub as a process of its own, with its own database, for tests of what only a process does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0


@dataclass(frozen=True)
class HubProcess:
    """The process, where it listens, and the environment that it and its errands have."""

    process: asyncio.subprocess.Process
    port: int
    environment: dict[str, str]


@asynccontextmanager
async def hub_process(folder: Path, **settings: str) -> AsyncIterator[HubProcess]:
    """A hub that has said where it is; what still runs at the end is told to stop."""
    port = free_port()
    environment = {
        **os.environ, "PORT": str(port), "DATA_DIR": str(folder / "data"), "NODE_ENV": "development",
        "UPLOAD_VIDEOS_DIR": str(folder / "v"), "UPLOAD_BACKGROUNDS_DIR": str(folder / "b"),
        "OUTPUT_DIR": str(folder / "o"), **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "run", cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            while b"The hub is at" not in await process.stdout.readline():
                assert process.returncode is None
        yield HubProcess(process, port, environment)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
