"""An interface service in the hands of a test: vsh.worker.v1 over a real websocket, one step at a time.

Owns the numbers of messages and the files it sends. Does nothing by itself but listen.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from hub import messages
from hub.ids import new_id
from hub.messages import (
    SUBPROTOCOL, Accept, Artifact, Assign, Hello, Message, Model, Offer, Progress, Result, ResultAck, Welcome,
)
from tests.handlers.running import PATIENCE_S, Answer, Api, fine, metadata, small_video

M = TypeVar("M", bound=Message)


class FakeWorker:
    """One worker with one connection at a time."""

    def __init__(self, api: Api, name: str, token: str, model: str, slots: int = 1) -> None:
        self.api = api
        self.name = name
        self.token = token
        self.model = model
        self.slots = slots
        self.instance = new_id()
        self.number = 0
        self.seen = 0
        self.socket: ClientConnection

    async def connect(self) -> None:
        address = self.api.hub.url.replace("http", "ws") + "/api/workers/session"
        proof = {"Authorization": f"Bearer {self.token}"}
        self.socket = await connect(
            address, subprotocols=[Subprotocol(SUBPROTOCOL)], additional_headers=proof, proxy=None,
        )

    async def join(self, **changes: Any) -> Welcome:
        """Connect and say hello; the hub's welcome."""
        await self.connect()
        await self.say(Hello(**{
            "protocol": 1, "worker": self.name, "instance": self.instance, "models": [Model(name=self.model)],
            "slots": self.slots, "last_seen": self.seen, **changes,
        }))
        return await self.expect(Welcome)

    async def say(self, message: Message) -> None:
        """Send a message under the next number."""
        self.number += 1
        await self.send(messages.encode(replace(message, n=self.number, ack=self.seen)))

    async def send(self, raw: str | bytes) -> None:
        await self.socket.send(raw if isinstance(raw, str) else raw.decode())

    async def hear(self) -> Message:
        """The next message."""
        async with asyncio.timeout(PATIENCE_S):
            message: Message = messages.decode(messages.to_worker, await self.socket.recv())
        self.seen = max(self.seen, message.n)
        return message

    async def expect(self, kind: type[M]) -> M:
        """The next message of this kind; what comes before it is passed over."""
        while True:
            message = await self.hear()
            if isinstance(message, kind):
                return message

    async def take(self) -> Assign:
        """Accept the next offer; the assignment."""
        offer = await self.expect(Offer)
        await self.say(Accept(offer=offer.offer))
        return await self.expect(Assign)

    async def upload(self, assign: Assign, content: bytes, purpose: str = "result") -> Answer:
        """Send a file to where the assignment says."""
        return await self.api("POST", assign.upload_url, content, {
            "Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream",
            "Upload-Length": str(len(content)), "Upload-Metadata": metadata(filename="r.mp4", purpose=purpose),
        })

    async def deliver(self, assign: Assign, content: bytes | None = None) -> str:
        """Send a result and report it; the upload's id."""
        content = small_video() if content is None else content
        upload = fine(await self.upload(assign, content), 201)
        artifact = Artifact(
            purpose="result", upload_id=upload["id"], sha256=hashlib.sha256(content).hexdigest(), frames=3,
        )
        await self.say(Result(lease=assign.lease, artifacts=[artifact]))
        return str(upload["id"])

    async def finish(self, assign: Assign, content: bytes | None = None) -> None:
        """Deliver and wait until the hub has it."""
        await self.deliver(assign, content)
        await self.expect(ResultAck)

    async def tell(self, assign: Assign, percent: float, phase: str = "segment", **fields: Any) -> None:
        await self.say(Progress(lease=assign.lease, phase=phase, progress=percent, **fields))

    async def closed(self) -> tuple[int, str]:
        """Wait for the hub to hang up: its code and reason."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await self.socket.recv()
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")

    async def leave(self) -> None:
        await self.socket.close()


@asynccontextmanager
async def worker(api: Api, model: str = "", slots: int = 1) -> AsyncIterator[FakeWorker]:
    """A registered worker that has joined, with a model of its own unless told otherwise."""
    name, token = await api.interface()
    made = FakeWorker(api, name, token, model or f"model-{new_id()}", slots)
    await made.join()
    yield made
    await made.leave()
