"""A worker with the test's own task functions, in front of a fake hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hub.messages import Model
from tests.worker import tasks
from worker.client import Worker
from worker.testing import FakeHub
from worker.transports import Connection, Transport

FUNCTIONS = (
    tasks.copy, tasks.spin, tasks.deaf, tasks.gate, tasks.crash, tasks.refuse, tasks.break_down, tasks.forget,
    tasks.chatter, tasks.pid, tasks.show, tasks.unseen, tasks.numpy_numbers, tasks.list_of_numbers,
    tasks.refuse_with_objects, tasks.layers,
)


def make_worker(slots: int = 1) -> Worker:
    """A worker whose models are called like the functions in `tasks`."""
    worker = Worker([Model(name=function.__name__) for function in FUNCTIONS], name="anna", slots=slots)
    for function in FUNCTIONS:
        worker.task(function.__name__)(function)
    return worker


@asynccontextmanager
async def serving(hub: FakeHub, slots: int = 1, transport: Transport | str = "websocket") -> AsyncIterator[Worker]:
    """A worker that serves the hub; it is stopped at the end and must have ended well."""
    worker = make_worker(slots)
    url = hub.url if transport == "websocket" else hub.poll_url
    service = asyncio.create_task(worker.serve(url, hub.token, transport=transport))
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(service, 20)


class Turns:
    """One transport after the other, a new one with each connection."""

    def __init__(self, *transports: Transport) -> None:
        self.transports = list(transports)
        self.opened = 0

    async def open(self) -> Connection:
        self.opened += 1
        return await self.transports[(self.opened - 1) % len(self.transports)].open()

    async def close(self) -> None:
        """Nothing is kept."""


class Brittle:
    """A transport whose connections carry everything, until one of `errors` is raised in place of the next word."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.errors: list[Exception] = []

    async def open(self) -> Connection:
        return BrittleConnection(self, await self.transport.open())

    async def close(self) -> None:
        await self.transport.close()


class BrittleConnection:
    """One connection of it."""

    def __init__(self, transport: Brittle, connection: Connection) -> None:
        self.transport = transport
        self.receive = connection.receive
        self.show = connection.show
        self.close = connection.close
        self.carry = connection.send

    async def send(self, message: bytes) -> None:
        if self.transport.errors:
            raise self.transport.errors.pop()
        await self.carry(message)
