"""A worker of the SDK's in a process of its own, with a model that costs nothing and gives a real result.

Every result is a playable video that names its task and attempt, so none can be taken for another's. What the hub
gives is written to a ledger, one JSON line each: how many tasks ran at once is read there.
"""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from random import Random
from typing import Any

import click
import structlog

from hub import logs, messages
from hub.messages import Assign, Decline
from worker.client import Job, Model, PushTransport, Worker, way_to
from worker.polling import PollTransport
from worker.transports import Connection, Transport

MODEL = "quick"
LONGEST_S = 0.5
OLDER_ATTEMPT = 0  # services in the older dialect do not know which attempt theirs is
POLL_S = 2.0


def quick(job: Job) -> dict[str, float]:
    """The video as it came, with its task's name in a box that players skip (ISO/IEC 14496-12, 8.1.2)."""
    steps = Random(f"{job.task} {job.attempt}").randint(1, 5)
    for step in range(steps):
        job.report("segment", 100.0 * step / steps)
        time.sleep(LONGEST_S / 5)
    mark = mark_of(job.task, job.attempt)
    job.output.write_bytes(job.inputs["video"].read_bytes() + struct.pack(">I4s", 8 + len(mark), b"free") + mark)
    return {"frames": 3.0}


def mark_of(task: str, attempt: int) -> bytes:
    """What a result ends with."""
    return f"{task} {attempt}".encode()


class Ledger:
    """What one worker was given: JSON lines, each written at once."""

    def __init__(self, path: Path, worker: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.worker = worker

    def note(self, what: str, **facts: Any) -> None:
        line = {"at": round(time.monotonic(), 3), "worker": self.worker, "pid": os.getpid(), "what": what, **facts}
        os.write(self.file, json.dumps(line).encode() + b"\n")


class Watched:
    """A transport that writes down what passes."""

    def __init__(self, transport: Transport, worker: Worker, ledger: Ledger) -> None:
        self.transport = transport
        self.worker = worker
        self.ledger = ledger
        self.close = transport.close

    async def open(self) -> Connection:
        return WatchedConnection(await self.transport.open(), self.worker, self.ledger)


class WatchedConnection:
    def __init__(self, connection: Connection, worker: Worker, ledger: Ledger) -> None:
        self.connection = connection
        self.worker = worker
        self.ledger = ledger
        self.close = connection.close

    async def send(self, message: bytes) -> None:
        said = messages.decode(messages.from_worker, message)
        if isinstance(said, Decline):
            self.ledger.note("declined", reason=said.reason)
        await self.connection.send(message)

    async def receive(self) -> bytes | str:
        raw = await self.connection.receive()
        heard = messages.decode(messages.to_worker, raw)
        session = self.worker.session
        if isinstance(heard, Assign) and session is not None and heard.lease not in session.works:
            self.ledger.note(
                "assigned", task=heard.task, lease=heard.lease, attempt=heard.attempt, running=len(session.busy) + 1,
                slots=self.worker.slots,
            )
        return raw


@click.command()
@click.option("--hub", "url", required=True)
@click.option("--name", required=True)
@click.option("--transport", required=True)
@click.option("--slots", type=int, required=True)
@click.option("--host", required=True, help="With push: where to listen.")
@click.option("--port", type=int, required=True)
@click.option("--ledger", type=click.Path(path_type=Path), required=True)
def main(url: str, name: str, transport: str, slots: int, host: str, port: int, ledger: Path) -> None:
    """Serve until told to stop; secrets come from the environment."""
    logs.configure("json", "info")
    token = os.environ["WORKER_TOKEN"]
    worker = Worker([Model(MODEL)], name=name, slots=slots)
    worker.task(MODEL)(quick)
    way: Transport
    match transport:
        case "push":
            way = PushTransport(url, token, os.environ["WORKER_PUSH_SECRET"], host, port)
        case "poll":
            way = PollTransport(url, token, POLL_S)
        case _:
            way = way_to(url, token, transport)
    structlog.get_logger(__name__).info("worker_begins", transport=transport, hub=url)
    worker.run(url, token, transport=Watched(way, worker, Ledger(ledger, name)), drain_s=5.0)


if __name__ == "__main__":
    from tests.chaos.worker import main as entry  # so that the model's process finds `quick` by its module's real name

    entry()
