"""Queues that people would take instead, doing the same job: create tasks, eight workers, no work, all acknowledged.

Both run on one Redis that writes each change to disk before it answers (appendonly yes, appendfsync always), reached
through a Unix socket. Owns their processes and their numbers; how they get here is in `install`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from ..stage import end, percentiles
from .install import NotHere, Programs, install_all

HERE = Path(__file__).resolve().parent
PATIENCE = 120.0  # seconds for any answer of a peer
REDIS = ("--port", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning")
CELERY = (  # threads: with prefork it took a quarter fewer tasks a second
    "worker", "--pool", "threads", "--concurrency", "8", "--loglevel", "ERROR", "--without-gossip",
    "--without-mingle", "--without-heartbeat",
)


class Peer:
    """One peer: a program that answers lines ("sustained 1000", "idle 100") with JSON; or why there is none."""

    def __init__(self, name: str, version: str = "", skipped: str = "") -> None:
        self.name = name
        self.version = version
        self.skipped = skipped
        self.rates: list[float] = []
        self.starts: list[float] = []
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, folder: Path, *command: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
        )
        await self.ask("sustained 100")  # everything is warm, and works
        await self.ask("idle 10")

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def ask(self, line: str) -> Any:
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n")
        answer = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        if not answer:
            raise NotHere(f"{self.name} ended")
        return json.loads(answer)

    async def sustained(self, tasks: int) -> None:
        """Tasks a second from the first creation until the last acknowledgement."""
        if not self.skipped:
            self.rates.append(tasks / float(await self.ask(f"sustained {tasks}")))

    async def idle(self, tasks: int) -> None:
        """Seconds from the creation to the worker's start, one task at a time."""
        if not self.skipped:
            self.starts += await self.ask(f"idle {tasks}")

    def report(self) -> dict[str, Any]:
        if self.skipped:
            return {"skipped": self.skipped}
        return {
            "version": self.version, "tasks_per_second": round(median(self.rates)),
            "runs": [round(rate) for rate in self.rates], "start_ms": percentiles(self.starts),
        }


@asynccontextmanager
async def all_peers(wanted: bool) -> AsyncIterator[list[Peer]]:
    """BullMQ and Celery, ready, until the block ends; where one cannot be here, its reason."""
    if not wanted:
        yield []
        return
    async with AsyncExitStack() as stack:
        try:
            programs = await asyncio.to_thread(install_all)
            redis = await start_redis(stack, programs)
        except NotHere as error:
            yield [Peer("bullmq", skipped=str(error)), Peer("celery", skipped=str(error))]
            return
        yield [await start_bullmq(stack, programs, redis), await start_celery(stack, programs, redis)]


async def start_redis(stack: AsyncExitStack, programs: Programs) -> Path:
    """The socket of a Redis of our own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-redis-")))
    path = folder / "redis.sock"
    process = subprocess.Popen(
        [str(programs.redis), *REDIS, "--unixsocket", str(path), "--dir", str(folder), "--logfile", "redis.log"],
        env=programs.redis_environment,
    )
    stack.callback(end, process, 10)
    for _ in range(200):
        if path.exists():
            return path
        await asyncio.sleep(0.05)
    raise NotHere("redis-server did not come up")


async def start_bullmq(stack: AsyncExitStack, programs: Programs, redis: Path) -> Peer:
    if programs.bullmq is None:
        return Peer("bullmq", skipped=programs.reasons["bullmq"])
    peer = Peer("bullmq", programs.versions["bullmq"])
    return await started(stack, peer, HERE, "node", str(HERE / "bullmq.mjs"), str(programs.bullmq), str(redis))


async def start_celery(stack: AsyncExitStack, programs: Programs, redis: Path) -> Peer:
    if programs.celery is None:
        return Peer("celery", skipped=programs.reasons["celery"])
    peer = Peer("celery", programs.versions["celery"])
    python, folder = str(programs.celery), redis.parent
    worker = subprocess.Popen(
        [python, "-m", "celery", "--workdir", str(HERE), "-A", "celery_app", "-b", f"redis+socket://{redis}", *CELERY],
        cwd=folder, stdout=subprocess.DEVNULL,
        env={**programs.environment, "BENCH_REDIS": str(redis), "PYTHONWARNINGS": "ignore"},
    )
    stack.callback(end, worker, 10)
    return await started(stack, peer, folder, python, str(HERE / "celery_app.py"), str(redis))


async def started(stack: AsyncExitStack, peer: Peer, folder: Path, *command: str) -> Peer:
    """The peer when it is warm, or the reason why it is not."""
    stack.push_async_callback(peer.stop)
    try:
        await peer.start(folder, *command)
    except (NotHere, TimeoutError, OSError) as error:
        return Peer(peer.name, skipped=f"it did not start: {str(error) or type(error).__name__}")
    return peer
