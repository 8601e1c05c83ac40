"""A hub of its own for a benchmark: a real process with a real embedded MongoDB in a folder that is thrown away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from hub import messages

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "tests" / "media" / "man-webcam.mp4"


@dataclass(slots=True)
class Stage:
    """A running hub, a signed-in user and that user's video."""

    url: str
    pid: int
    folder: Path
    token: str = ""
    video_id: str = ""

    def call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None, kind: str = "") -> Any:
        """One request; the decoded answer."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Content-Type", kind or "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"null")

    def cpu_seconds(self) -> float:
        """Processor time that the hub's process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def register_worker(self, name: str) -> str:
        """A token for a new interface service."""
        return subprocess.run(
            [sys.executable, "-m", "hub", "interface", "add", name], cwd=ROOT, env=self.environment(), check=True,
            capture_output=True, text=True,
        ).stdout.strip()

    def environment(self) -> dict[str, str]:
        folder, port = str(self.folder), self.url.rpartition(":")[2]
        return {
            **os.environ, "NODE_ENV": "development", "PORT": port, "LOG_LEVEL": "warning",
            "DATA_DIR": f"{folder}/data", "UPLOAD_VIDEOS_DIR": f"{folder}/videos",
            "UPLOAD_BACKGROUNDS_DIR": f"{folder}/backgrounds", "OUTPUT_DIR": f"{folder}/output",
        }


@asynccontextmanager
async def a_hub() -> AsyncIterator[Stage]:
    """A hub that answers, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stage = Stage(f"http://127.0.0.1:{port}", 0, Path(folder))
        process = subprocess.Popen(
            [sys.executable, "-m", "hub", "run"], cwd=ROOT, env=stage.environment(), stdout=subprocess.DEVNULL,
        )
        stage.pid = process.pid
        try:
            await answering(stage, process)
            account = {"email": "bench@example.org", "password": "correct horse battery"}
            stage.token = stage.call("POST", "/api/auth/register", account)["token"]
            video = stage.call("POST", "/api/videos?name=clip.mp4", CLIP.read_bytes(), "video/mp4")
            stage.video_id = video["id"]
            yield stage
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


async def answering(stage: Stage, process: subprocess.Popen[bytes]) -> None:
    """Wait until the hub is ready.

    Raises:
        RuntimeError: it ended, or was not ready in 30 seconds.
    """
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            stage.call("GET", "/readyz")
            return
        except OSError:
            await asyncio.sleep(0.05)
    raise RuntimeError("the hub did not come up")


class BenchWorker:
    """A worker that takes everything; what it does with an assignment is up to the benchmark."""

    def __init__(self, stage: Stage, name: str, slots: int) -> None:
        self.stage = stage
        self.name = name
        self.slots = slots
        self.said = 1
        self.socket: ClientConnection
        self.assigned: asyncio.Queue[tuple[float, messages.Assign]] = asyncio.Queue()

    async def join(self, token: str) -> None:
        """Connect, say hello, and take offers from then on."""
        self.socket = await connect(
            f"{self.stage.url.replace('http', 'ws', 1)}/api/workers/session", compression=None,
            subprotocols=[Subprotocol(messages.SUBPROTOCOL)], additional_headers={"Authorization": f"Bearer {token}"},
        )
        hello = messages.Hello(
            n=1, protocol=messages.PROTOCOL, worker=self.name, instance=self.name, slots=self.slots,
            models=[messages.Model("noop")],
        )
        await self.socket.send(messages.encode(hello).decode())
        await self.socket.recv()

    async def take_all(self) -> None:
        """Accept every offer and queue every assignment with the time of its coming."""
        async for raw in self.socket:
            message = messages.decode(messages.to_worker, raw)
            if isinstance(message, messages.Offer):
                await self.say(messages.Accept(offer=message.offer, ack=message.n))
            elif isinstance(message, messages.Assign):
                self.assigned.put_nowait((time.perf_counter(), message))

    async def say(self, message: messages.Message) -> None:
        self.said += 1
        message.n = self.said
        await self.socket.send(messages.encode(message).decode())

    async def end(self, assign: messages.Assign) -> None:
        """End a task without work: a failure that nobody should retry is one durable write, like a result."""
        await self.say(messages.Failed(lease=assign.lease, code="noop", retryable=False))


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds, of seconds."""
    ordered = sorted(values)
    return {f"p{q}": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 2) for q in (50, 99)}
