"""A hub of its own for a benchmark: a real process with a real embedded MongoDB in a folder that is thrown away."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from hub import logs, messages
from hub.effects import Save
from hub.interface import new_token, register
from store.embedded import Embedded
from store.mongo import MongoStore

from .wire import Talk

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "tests" / "media" / "man-webcam.mp4"
DATABASE = "bench"

Fill = Callable[[MongoStore], Awaitable[None]]


@dataclass(slots=True)
class Stage:
    """A running hub, a signed-in user and that user's video; `ready_s` is how long the hub took to be ready.

    The database is the stage's own, whatever the settings of this machine say, and is there before the hub.
    """

    folder: Path
    port: int
    uri: str
    database: AsyncMongoClient[dict[str, Any]]
    pid: int = 0
    token: str = ""
    video_id: str = ""
    ready_s: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None, kind: str = "") -> Any:
        """One request; the decoded answer."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Content-Type", kind or "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def resident_bytes(self) -> int:
        """Memory that the hub's process holds (its MongoDB is another process)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def register_workers(self, names: list[str]) -> dict[str, str]:
        """A token for each of some new interface services."""
        tokens = {name: new_token() for name in names}
        await self.store().commit([Save(register(name, tokens[name], time.time()), 0) for name in names])
        return tokens

    def store(self) -> MongoStore:
        """The hub's records, beside the hub or before its start."""
        return MongoStore(self.database, DATABASE, "bench")

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            **os.environ, "NODE_ENV": "development", "APP_ENV": "development", "LOG_LEVEL": "error",
            "BIND": "127.0.0.1", "PORT": str(self.port), "MONGODB_URI": self.uri, "DB_NAME": DATABASE,
            "DATA_DIR": f"{folder}/data", "UPLOAD_VIDEOS_DIR": f"{folder}/videos",
            "UPLOAD_BACKGROUNDS_DIR": f"{folder}/backgrounds", "OUTPUT_DIR": f"{folder}/output",
        }


@asynccontextmanager
async def a_hub(
    fill: Fill | None = None, patience: float = 30.0, program: Sequence[str] = ("hub", "run"),
) -> AsyncIterator[Stage]:
    """A hub that answers, until the block ends; `fill` puts into its database what should be there at its start.

    `program` is the module to run as a hub, and its arguments.
    """
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        mongod = Embedded(folder / "data")
        await mongod.start()
        stack.push_async_callback(mongod.stop)
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongod.uri)
        stack.push_async_callback(client.close)
        stage = Stage(folder, free_port(), mongod.uri, client)
        if fill is not None:
            await fill(stage.store())
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *program], cwd=ROOT, env=stage.environment(), stdout=subprocess.DEVNULL,
        )
        stack.callback(end, process, 20)
        stage.pid = process.pid
        await answering(stage, process, patience)
        stage.ready_s = time.perf_counter() - began
        account = {"email": "bench@example.org", "password": "correct horse battery"}
        stage.token = stage.call("POST", "/api/auth/register", account)["token"]
        video = stage.call("POST", "/api/videos?name=clip.mp4", CLIP.read_bytes(), "video/mp4")
        stage.video_id = video["id"]
        yield stage


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[Any], seconds: float) -> None:
    """Ask a process to end, and make it end."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def answering(stage: Stage, process: subprocess.Popen[bytes], patience: float) -> None:
    """Wait until the hub is ready.

    Raises:
        RuntimeError: it ended, or was not ready in `patience` seconds.
    """
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        try:
            stage.call("GET", "/readyz")
            return
        except OSError:
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the hub did not come up in {patience:.0f} s")


class BenchWorker:
    """A worker that accepts every offer at once; `take` gets each assignment with the time of its coming.

    By default assignments are queued in `assigned`. `ended` is called when the hub has acknowledged an end.
    """

    def __init__(self, stage: Stage, name: str, slots: int) -> None:
        self.stage = stage
        self.name = name
        self.slots = slots
        self.said = 0
        self.last_heard = 0
        self.talk: Talk
        self.welcome: asyncio.Future[None]
        self.assigned: asyncio.Queue[tuple[float, messages.Assign]] = asyncio.Queue()
        self.take: Callable[[float, messages.Assign], None] = self.queue
        self.ended: Callable[[], None] = lambda: None

    async def join(self, token: str, *models: str) -> None:
        """Connect, say hello, and take offers for `models` ("noop" where none are named) from then on."""
        self.welcome = asyncio.get_running_loop().create_future()
        self.talk = await Talk.open(
            self.stage.port, "/api/workers/session", self.hear, Authorization=f"Bearer {token}",
            Sec_WebSocket_Protocol=messages.SUBPROTOCOL,
        )
        self.say(messages.Hello(
            protocol=messages.PROTOCOL, worker=self.name, instance=self.name, slots=self.slots,
            models=[messages.Model(name) for name in models or ("noop",)], last_seen=self.last_heard,
        ))
        await self.welcome

    def queue(self, at: float, assign: messages.Assign) -> None:
        self.assigned.put_nowait((at, assign))

    def hear(self, raw: bytes) -> None:
        message = messages.decode(messages.to_worker, raw)
        self.last_heard = max(self.last_heard, message.n)
        match message:
            case messages.Offer():
                self.say(messages.Accept(offer=message.offer, ack=message.n))
            case messages.Assign():
                self.take(time.perf_counter(), message)
            case messages.FailedAck():
                self.ended()
            case messages.Welcome():
                self.welcome.set_result(None)
            case messages.Problem(code=code) if code != "offer_gone":  # that one is offered again
                raise RuntimeError(f"the hub is not content: {message}")

    def say(self, message: messages.Message) -> None:
        self.said += 1
        message.n = self.said
        self.talk.say(messages.encode(message))

    def end(self, assign: messages.Assign) -> None:
        """End a task without work: a failure that nobody should retry is one durable write, like a result."""
        self.say(messages.Failed(lease=assign.lease, code="noop", retryable=False, ack=assign.n))


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds, of seconds."""
    ordered = sorted(values)
    return {f"p{q}": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 2) for q in (50, 99)}


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family_cpu_seconds(pid: int) -> float:
    """Processor time that a process and its children have used so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(cpu_seconds(int(child)) for child in children)


def say_result(measured: Coroutine[Any, Any, dict[str, Any]], limit: float) -> None:
    """Measure for `limit` seconds at the most and print one line of JSON; all that was started is stopped."""
    logs.configure("console", "error")  # what the stage itself logs is of no interest unless it goes wrong

    async def bounded() -> dict[str, Any]:
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        async with asyncio.timeout(limit):
            return await measured

    try:
        print(json.dumps(asyncio.run(bounded())))
    except TimeoutError:
        sys.exit(f"it took longer than {limit:.0f} s")
    except asyncio.CancelledError:
        sys.exit("stopped")


def load() -> float:
    """How many processes wanted a processor, on average over the last minute."""
    return round(os.getloadavg()[0], 2)
