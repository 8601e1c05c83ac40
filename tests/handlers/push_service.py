"""An interface service that is called, in the hands of a test: a real HTTP server that answers what the test says.

Owns the checks that every call must pass: signed, and with everything from the first message that was not acknowledged.
Says hello, acknowledges what it gets, and nothing else, unless told otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from hub.effects import Save
from hub.ids import new_id
from hub.interface import Interface, hash_token, new_token
from hub.messages import Hello, Message, Model, ToWorker
from hub.webhooks import push_secret
from tests.handlers.running import PATIENCE_S, Api
from worker.webhooks import Verifier

M = TypeVar("M", bound=Message)


class Call(msgspec.Struct):
    """What the hub posts."""

    session: str | None
    messages: list[ToWorker]
    ack: int
    id: str = ""
    new: bool = True


Answer = tuple[int, bytes]
Answering = Callable[[Call], Awaitable[Answer]]


@dataclass
class PushService:
    """One service; `calls` are those it got, `most_at_once` is how many of them it had to answer at the same time."""

    api: Api
    record: Interface
    token: str
    slots: int = 1
    instance: str = field(default_factory=new_id)
    calls: list[Call] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    heard: list[Message] = field(default_factory=list)
    seen: int = 0
    number: int = 0
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.answer: Answering = self.behave
        self.trust()

    def trust(self) -> None:
        """Believe the secret that goes with the record."""
        self.verifier = Verifier(push_secret(self.api.hub.settings.jwt_secret.encode(), self.record))

    @property
    def model(self) -> str:
        return f"model-of-{self.record.id}"

    async def called(self, headers: dict[str, str], body: bytes) -> Answer:
        """Take in one call and answer it."""
        call = msgspec.json.decode(body, type=Call)
        call.new = self.verifier.check(headers, body)
        call.id = headers["webhook-id"]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with self.news:
            self.calls.append(call)
            self.news.notify_all()
        try:
            return await self.answer(call)
        finally:
            self.at_once -= 1

    async def behave(self, call: Call) -> Answer:
        """Say hello where there is no session, else acknowledge everything."""
        if call.session is None:
            return self.hello()
        for message in call.messages:
            if message.n > self.seen:
                assert message.n == self.seen + 1
                self.seen = message.n
                self.heard.append(message)
        return self.said()

    def said(self, *messages: Message) -> Answer:
        """An answer that acknowledges everything and says this."""
        return 200, msgspec.json.encode({"messages": list(messages), "ack": self.seen})

    def hello(self, **changes: Any) -> Answer:
        self.number = 1
        return self.said(Hello(**{
            "n": 1, "protocol": 1, "worker": self.record.id, "instance": self.instance,
            "models": [Model(name=self.model)], "slots": self.slots, "last_seen": self.seen, **changes,
        }))

    async def next_call(self, holds: Callable[[Call], bool] = lambda call: True) -> Call:
        """The next call of this kind, out of those that were not looked at yet."""
        async with asyncio.timeout(PATIENCE_S), self.news:
            while True:
                for place, call in enumerate(self.calls):
                    if holds(call):
                        del self.calls[:place + 1]
                        return call
                await self.news.wait()

    async def expect(self, kind: type[M]) -> M:
        """The next message of this kind."""
        while True:
            for place, message in enumerate(self.heard):
                if isinstance(message, kind):
                    del self.heard[:place + 1]
                    return message
            await self.next_call()

    async def say(self, *messages: Message) -> None:
        """Call back."""
        made = []
        for message in messages:
            self.number += 1
            made.append(msgspec.to_builtins(msgspec.structs.replace(message, n=self.number, ack=self.seen)))
        session = self.api.hub.runner.core.session_of(self.record.id)
        assert session is not None
        answer = await self.api("POST", "/api/workers/poll", token=self.token, json_body={
            "session": session.id, "messages": made, "ack": self.seen, "wait": 0,
        })
        assert answer.status == 200, answer

    async def change(self, **changes: Any) -> None:
        """Change the registration, and let the hub look at it."""
        before, self.record = self.record, replace(self.record, **changes, version=self.record.version + 1)
        await self.api.hub.rooms.store.commit([Save(self.record, before.version)])
        await self.api.hub.pushers.look()


class Caller(RequestHandler):
    """The service's HTTP side."""

    async def post(self) -> None:
        service: PushService = self.settings["service"]
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        status, body = await service.called(headers, self.request.body)
        self.set_status(status)
        if status in (301, 302, 307, 308):
            self.set_header("Location", body.decode())
        self.finish(body)


@asynccontextmanager
async def push_service(
    api: Api, slots: int = 1, host: str = "127.0.0.1", name: str = "", answer: Answering | None = None
) -> AsyncIterator[PushService]:
    """A registered service that the hub calls at most `slots` times at once; `name` is how its host is written."""
    [socket] = bind_sockets(0, host)
    port = socket.getsockname()[1]
    id, token = f"box-{new_id()}", new_token()
    record = Interface(
        id, hash_token(token), api.hub.rooms.clock.wall(), dialect="push", address=f"http://{name or host}:{port}",
        path="/hub/calls", slots=slots,
    )
    service = PushService(api, record, token, slots)
    service.answer = answer or service.answer
    server = HTTPServer(Application([(r"/hub/calls", Caller)], service=service, log_function=lambda handler: None))
    server.add_sockets([socket])
    await api.hub.rooms.store.commit([Save(record, 0)])
    await api.hub.pushers.look()
    try:
        yield service
    finally:
        await service.change(enabled=False)
        server.stop()
        await server.close_all_connections()
