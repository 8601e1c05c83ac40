"""One reference worker beside the hub, kept running.

Owns that process: starting it, starting it again, ending it. Never talks to it: it is a worker like any other, and
reaches the hub over the network.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 60.0  # a worker that ran for so long was well; the pauses begin anew
PATIENCE_S = 5.0  # how long it may take to end when asked
STDERR = 2

log = structlog.get_logger(__name__)


class LocalWorker:
    """Keeps `python -m worker` running against the hub at `url`; `name` is what `token` was registered for."""

    def __init__(
        self, url: str, token: str, *, name: str = "local", slots: int = 1, command: Sequence[str] | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self.token = token
        self.first_pause_s = first_pause_s
        self.command = list(command or (
            sys.executable, "-m", "worker", "--hub", url, "--name", name, "--slots", str(slots),
            "--drain-timeout", "0",  # it goes with its hub, and nobody takes a result from it then
        ))
        self.process: asyncio.subprocess.Process | None = None
        self.supervising: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it running, in the running event loop; harmless when it has begun."""
        if self.supervising is None:
            self.supervising = asyncio.create_task(self.supervise())

    async def stop(self) -> None:
        """End it, in a few seconds at most; harmless when it does not run."""
        if self.supervising is not None:
            self.supervising.cancel()
            with suppress(asyncio.CancelledError):
                await self.supervising
            self.supervising = None

    async def supervise(self) -> None:
        """Start it, wait for its end, start it again."""
        pause = self.first_pause_s
        while True:
            began = time.monotonic()
            code = await self.run_once()
            if time.monotonic() - began > STEADY_S:
                pause = self.first_pause_s
            wait = random.uniform(pause / 2, pause)
            log.info("local_worker_ended", exit_code=code, again_in_s=round(wait, 1))
            await asyncio.sleep(wait)
            pause = min(LONGEST_PAUSE_S, pause * 2)

    async def run_once(self) -> int | None:
        """One process from start to end; its exit code, or None if it could not be started."""
        try:
            # A session of its own: Ctrl-C is for the hub, which then ends the worker in its own time.
            process = await asyncio.create_subprocess_exec(
                *dying_with_parent(self.command), stdin=asyncio.subprocess.DEVNULL, stdout=STDERR,
                cwd=Path(__file__).resolve().parent.parent, env={**os.environ, "WORKER_TOKEN": self.token},
                start_new_session=True,
            )
        except OSError as error:
            log.error("local_worker_not_started", detail=str(error))
            return None
        self.process = process
        log.info("local_worker_started", pid=process.pid)
        try:
            return await process.wait()
        finally:
            self.process = None
            if process.returncode is None:
                await end(process)


def dying_with_parent(command: list[str]) -> list[str]:
    """The command so that it gets SIGTERM when its parent dies, where the system can do that."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else command


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, then make it."""
    with suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.wait()
