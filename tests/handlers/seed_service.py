"""An interface service in the older dialect in the hands of a test, and a hub that it can call.

Owns how such a service is spoken to and answers; does nothing by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest_asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from handlers.worker_seed import service_of
from hub.__main__ import Hub
from hub.effects import Save
from hub.ids import new_id
from hub.interface import Interface, hash_token, new_token
from tests.handlers.running import Answer, Api, Person, Place, eventually, fine, refused, running_hub
from tests.ports import free_port

WORD = "another secret of the tests"


def settings(**changes: str) -> dict[str, str]:
    """A hub that knows its own address, because services call it there."""
    port = str(free_port())
    return {"PORT": port, "API_BASE_URL": f"http://127.0.0.1:{port}", **changes}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(place: Place) -> AsyncIterator[Hub]:
    async with running_hub(place, **settings()) as running:
        yield running


class Service:
    """An interface service in the older dialect: keeps its orders, answers with `reply`, says what a test says."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.model = f"model-{new_id()}"
        self.name = f"seed-{new_id()}"
        self.orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.reply: Callable[[dict[str, Any]], tuple[int, Any]] = lambda order: (200, {"status": "accepted"})
        self.server = HTTPServer(self.application(Process))
        sockets = bind_sockets(0, "127.0.0.1")
        self.server.add_sockets(sockets)
        self.address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        self.paths: list[str] = []

    def application(self, kind: type[Process]) -> Application:
        return Application([(r"/.*", kind, {"service": self})], log_function=lambda handler: None)

    async def register(self, **changes: Any) -> None:
        """What an admin does beforehand."""
        record = Interface(**{
            "id": self.name, "token_hash": hash_token(new_token()), "created_at": 0.0, "dialect": "seed",
            "address": self.address, "models": (f"{self.model}:Fine", ), **changes,
        })
        await self.api.hub.rooms.store.commit([Save(record, record.version - 1)])

    async def heartbeat(self, **changes: Any) -> Answer:
        said = {"interfaceAddress": self.address, "Identification": WORD, **changes}
        return await self.api("POST", "/api/tasks/interface/heartbeat", json_body=said)

    async def order(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.orders.get()

    async def call(self, order: dict[str, Any], status: str, /, path: str = "", **changes: Any) -> Answer:
        """A callback; to the address of the order, if no other is given."""
        said = {
            "Identification": WORD, "taskId": order["taskId"], "workerUrl": order["workerUrl"], "status": status,
            **changes,
        }
        said = {name: value for name, value in said.items() if value is not ...}
        path = path or order["callbackUrl"].removeprefix(self.api.hub.settings.api_base_url)
        return await self.api("POST", path, json_body=said)

    async def stop(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()


class Process(RequestHandler):
    """The one route of a service."""

    def initialize(self, service: Service) -> None:
        self.service = service

    def post(self) -> None:
        order = json.loads(self.request.body)
        self.service.paths.append(self.request.path)
        status, answer = self.service.reply(order)
        self.set_status(status)
        self.write(answer)
        self.service.orders.put_nowait(order)


@asynccontextmanager
async def present(api: Api, **changes: Any) -> AsyncIterator[Service]:
    """A registered service that has just sent a heartbeat."""
    service = Service(api)
    await service.register(**changes)
    fine(await service.heartbeat())
    try:
        yield service
    finally:
        if (session := api.hub.runner.core.session_of(service.name)) is not None:
            api.hub.rooms.registry.dismiss(session, "the test is over")
        await service.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def service(api: Api) -> AsyncIterator[Service]:
    async with present(api) as service:
        yield service


async def state(person: Person, task: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The task, once it is in that state."""
    async with asyncio.timeout(20):
        while (seen := await person.get(f"/api/tasks/{task['id']}"))["state"] != wanted:
            await asyncio.sleep(0.02)
    found: dict[str, Any] = seen
    return found


async def ordered(api: Api, service: Service, **fields: Any) -> tuple[Person, dict[str, Any], dict[str, Any]]:
    """A user, a task of theirs, and the order that the service got for it."""
    person = await api.user()
    task = await person.create(service.model, **fields)
    order = await service.order()
    await eventually(lambda: all(job.taken.is_set() for job in jobs(api, service).values()))
    return person, task, order


def jobs(api: Api, service: Service) -> dict[str, Any]:
    found = service_of(api.hub.rooms, service.name)
    return found.jobs if found is not None else {}


def fine_bytes(answer: Answer) -> bytes:
    assert answer.status == 200, answer.body[:300]
    return answer.body


def beside(order: dict[str, Any], name: str) -> str:
    return str(Path(order["foregroundPath"]).parent / name)


def refused_too(answer: Answer, status: int, code: str) -> None:
    """A problem, with what old services look at beside its own fields."""
    problem = answer.json
    assert (problem.pop("success"), problem.pop("message")) == (False, problem["detail"])
    refused(Answer(answer.status, answer.headers, json.dumps(problem).encode()), status, code)
