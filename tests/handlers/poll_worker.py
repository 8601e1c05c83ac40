"""A worker that polls, in the hands of a test: one request at a time, or many at once.

Owns the numbers of messages and the session's name. Does nothing by itself.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from hub.ids import new_id
from hub.messages import Accept, Assign, Hello, Message, Model, Offer, ToWorker, Welcome
from tests.handlers.running import Answer, Api, fine

M = TypeVar("M", bound=Message)


class Polled(msgspec.Struct):
    """What the hub answers to a poll."""

    session: str
    messages: list[ToWorker]
    ack: int


class PollWorker:
    """One worker; `seen` is the last number that it has handled, `got` everything that it ever heard, in order."""

    def __init__(self, api: Api, name: str, token: str, model: str = "m", slots: int = 1) -> None:
        self.api = api
        self.name = name
        self.token = token
        self.model = model
        self.slots = slots
        self.instance = new_id()
        self.session: str | None = None
        self.before = ""
        self.number = 0
        self.seen = 0
        self.got: list[Message] = []

    def numbered(self, *said: Message) -> list[Any]:
        """Messages as they go into a request, under the next numbers."""
        made = []
        for message in said:
            self.number += 1
            made.append(msgspec.to_builtins(replace(message, n=self.number, ack=self.seen)))
        return made

    async def ask(self, body: dict[str, Any], token: str | None = None) -> Answer:
        """One request as it is."""
        path = "/api/workers/poll"
        return await self.api("POST", path, json_body=body, token=self.token if token is None else token)

    async def poll(self, *said: Message, wait: float = 0) -> Polled:
        """One request with these messages; what is new in its answer is handled."""
        body = {"session": self.session, "messages": self.numbered(*said), "ack": self.seen, "wait": wait}
        answer = await self.ask(body)
        fine(answer)
        polled = msgspec.json.decode(answer.body, type=Polled)
        if polled.session != self.session and polled.session != self.before:
            self.seen = 0
        self.session = self.before = polled.session
        for message in polled.messages:
            if message.n > self.seen:
                assert message.n == self.seen + 1
                self.seen = message.n
                self.got.append(message)
        return polled

    def hello(self, **changes: Any) -> Hello:
        return Hello(**{
            "protocol": 1, "worker": self.name, "instance": self.instance, "models": [Model(name=self.model)],
            "slots": self.slots, "last_seen": self.seen, **changes,
        })

    async def join(self, **changes: Any) -> Welcome:
        """Say hello; the welcome."""
        self.session = None
        await self.poll(self.hello(**changes), wait=10)
        return await self.expect(Welcome)

    async def expect(self, kind: type[M], wait: float = 10) -> M:
        """The newest message of this kind, polled for if it has not come since it was last expected."""
        while True:
            for place, message in enumerate(self.got):
                if isinstance(message, kind):
                    del self.got[:place + 1]
                    return message
            before = self.seen
            await self.poll(wait=wait)
            assert self.seen > before, f"no {kind.__name__} came"

    async def take(self) -> Assign:
        """Accept the next offer; the assignment."""
        offer = await self.expect(Offer)
        await self.poll(Accept(offer=offer.offer))
        return await self.expect(Assign)
