"""A hub for tests: the worker protocol on a real websocket or by polls, files on real HTTP, everything else by hand.

    async with FakeHub() as hub:
        serving = asyncio.create_task(worker.serve(hub.url, hub.token))
        hub.put("video", b"...")
        lease = await hub.assign("my-model")
        result = await hub.expect(Result, lease=lease)
        assert hub.uploads[result.artifacts[0].upload_id] == b"..."
        await hub.send(ResultAck(lease=lease))  # else the worker waits for it before it leaves
        worker.stop()
        await serving

Owns the hub's side of the conversation and nothing of the hub's decisions: a test says what is offered and when.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections import deque
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from hub import messages
from hub.messages import SUBPROTOCOL, Accept, Assign, FromWorker, Hello, Input, Message, Offer, Welcome, decode, encode

from .testing_files import FileServer

PATIENCE_S = 20.0  # how long a test waits for a message before it fails
M = TypeVar("M", bound=Message)


class Poll(msgspec.Struct):
    """One poll."""

    session: str | None = None
    messages: list[FromWorker] = []
    ack: int = 0
    wait: float = 25.0


class FakeHub:
    """One worker's hub. `said` is everything that the worker said, in order; `uploads` what it sent, by id; `pictures`
    are its previews, as they came.

    `answers` are statuses for the next HTTP requests instead of the real answers; None lets one through, 0 hangs up.
    `cuts` are numbers of bytes after which the hub hangs up on the next PATCHes; it keeps what has come.
    `poll_answers` are the same for polls: they are given when the poll was taken in, as if its answer had been lost.
    `word_answers` are the same for those polls alone that say something and do not wait.
    """

    def __init__(
        self, *, token: str = "token", port: int = 0, renew_s: float = 30.0, heartbeat_s: float = 60.0
    ) -> None:
        self.token = token
        self.port = port
        self.renew_s = renew_s
        self.heartbeat_s = heartbeat_s
        self.said: list[Message] = []
        self.read: dict[type[Message], int] = {}
        self.news = asyncio.Condition()
        self.connection: ServerConnection | None = None
        self.greeted = asyncio.Event()
        self.instance = ""
        self.session = 0
        self.number = 0
        self.heard = 0
        self.outbox: deque[Message] = deque()
        self.ids = itertools.count(1)
        self.inputs: dict[str, Input] = {}
        self.contents: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.lengths: dict[str, int] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answers: deque[int | None] = deque()
        self.cuts: deque[int] = deque()
        self.poll_answers: deque[int | None] = deque()
        self.word_answers: deque[int | None] = deque()
        self.polls = 0
        self.arrivals: asyncio.Queue[str] = asyncio.Queue()
        self.pictures: asyncio.Queue[bytes] = asyncio.Queue()

    # --- life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> FakeHub:
        await self.listen()
        self.files = FileServer(self, asyncio.get_running_loop())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.leave()
        await self.end_polls()
        await asyncio.to_thread(self.files.stop)

    async def listen(self) -> None:
        """Take connections, on the same port as before."""
        self.server: Server = await serve(
            self.converse, "127.0.0.1", self.port, process_request=self.admit, compression=None,
            subprotocols=[Subprotocol(SUBPROTOCOL)], ping_interval=None, close_timeout=1,
        )
        self.port = next(iter(self.server.sockets)).getsockname()[1]

    async def leave(self) -> None:
        """Be away: no worker gets in until `listen`; files are still served."""
        self.server.close()
        await self.server.wait_closed()

    @property
    def url(self) -> str:
        """What a worker is told to connect to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def poll_url(self) -> str:
        """The same hub where no websocket gets through: only polls do."""
        return self.files.url

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Only the worker protocol's address, only with the token."""
        if request.path != "/api/workers/session":
            return connection.respond(404, "not here\n")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return connection.respond(401, "who are you?\n")
        return None

    # --- the conversation ---------------------------------------------------------------------------------------

    async def converse(self, connection: ServerConnection) -> None:
        """Take in what a worker says on one connection; hello is answered at once."""
        try:
            async for raw in connection:
                if isinstance(raw, bytes):
                    self.pictures.put_nowait(raw)
                    continue
                message: FromWorker = decode(messages.from_worker, raw)
                resumed = self.resumes(message) if isinstance(message, Hello) else False
                if isinstance(message, Hello):
                    await self.end_polls()
                    self.connection = connection
                for missed in list(self.outbox) if resumed else []:
                    await connection.send(encode(replace(missed, ack=self.heard)).decode())
                await self.hear(message, resumed)
        except ConnectionClosed:
            return

    async def hear(self, message: FromWorker, resumed: bool) -> None:
        """Take in one message."""
        while self.outbox and self.outbox[0].n <= message.ack:
            self.outbox.popleft()
        if isinstance(message, Hello):
            await self.welcome(message, resumed)
        elif message.n <= self.heard:
            return
        else:
            self.heard = message.n
        async with self.news:
            self.said.append(message)
            self.news.notify_all()

    def resumes(self, hello: Hello) -> bool:
        """Whether this goes on with the known session; what the worker has seen of it is done with."""
        if hello.instance != self.instance:
            return False
        self.outbox = deque(kept for kept in self.outbox if kept.n > hello.last_seen)
        return True

    async def welcome(self, hello: Hello, resumed: bool) -> None:
        """Resume a known instance, else begin a new session."""
        if not resumed:
            self.forget()
            self.instance, self.heard, self.session = hello.instance, hello.n, self.session + 1
        await self.send(Welcome(
            session=f"session-{self.session}", heartbeat_s=self.heartbeat_s, renew_s=self.renew_s, lease_s=120.0,
            resumed=resumed,
        ))
        self.greeted.set()

    # --- the conversation, by polls -----------------------------------------------------------------------------

    async def polled(self, token: str, body: bytes) -> tuple[int, bytes]:
        """Answer one poll: its status, 0 to hang up, and its body."""
        poll = msgspec.json.decode(body, type=Poll)
        if token != f"Bearer {self.token}":
            return 401, b"{}"
        hello = next((message for message in poll.messages if isinstance(message, Hello)), None)
        if hello is None and (poll.session != f"session-{self.session}" or not self.instance or self.connection):
            return 409, b"{}"
        if hello is not None:
            await self.drop_if_connected()
        for message in poll.messages:
            await self.hear(message, self.resumes(message) if isinstance(message, Hello) else False)
        while hello is None and self.outbox and self.outbox[0].n <= poll.ack:
            self.outbox.popleft()
        if poll.wait > 0:
            await self.hold(poll.wait)
        answers = self.poll_answers if poll.wait > 0 or self.poll_answers else self.word_answers
        status = answers.popleft() if answers else None
        if status is not None:
            return status, b"{}"
        due = [replace(kept, ack=self.heard) for kept in self.outbox] if not self.connection else []
        answer = {"session": f"session-{self.session}", "messages": due, "ack": self.heard}
        return 200, msgspec.json.encode(answer)

    async def hold(self, wait: float) -> None:
        """Wait until there is something to send, or a newer poll, or another connection."""
        await self.end_polls()
        number = self.polls
        with suppress(TimeoutError):
            async with asyncio.timeout(wait), self.news:
                await self.news.wait_for(lambda: self.outbox or self.polls != number)

    async def end_polls(self) -> None:
        """Answer the poll that waits."""
        self.polls += 1
        async with self.news:
            self.news.notify_all()

    async def drop_if_connected(self) -> None:
        """A worker that polls has left its websocket."""
        if self.connection is not None:
            await self.close(4000, "the worker came back on another connection")

    # --- what the test says -------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Know nothing of any session, as after a restart."""
        self.instance = ""
        self.number = self.heard = 0
        self.outbox.clear()

    async def send(self, message: Message) -> Message:
        """Number a message and send it, now or when the worker is back."""
        self.number += 1
        numbered = replace(message, n=self.number, ack=self.heard)
        self.outbox.append(numbered)
        await self.send_again(numbered)
        return numbered

    async def send_again(self, numbered: Message) -> None:
        """Send the very same message once more."""
        if self.connection is None:
            async with self.news:
                self.news.notify_all()
            return
        with suppress(ConnectionClosed):
            await self.connection.send(encode(numbered).decode())

    async def expect(self, kind: type[M], **fields: Any) -> M:
        """The next message of a kind that was not expected before, with these fields.

        Raises:
            AssertionError: it did not come in time; the text says what came instead.
        """
        try:
            async with asyncio.timeout(PATIENCE_S), self.news:
                while True:
                    for index in range(self.read.get(kind, 0), len(self.said)):
                        message = self.said[index]
                        if isinstance(message, kind) and all(getattr(message, k) == v for k, v in fields.items()):
                            self.read[kind] = index + 1
                            return message
                    await self.news.wait()
        except TimeoutError:
            raise AssertionError(f"no {kind.__name__} {fields or ''} came, but: {self.said}") from None

    async def drop(self) -> None:
        """Cut the connection without a word."""
        assert self.connection is not None
        self.connection.transport.abort()
        await self.connection.wait_closed()
        self.connection = None

    async def close(self, code: int, reason: str = "") -> None:
        """End the connection with a close code."""
        assert self.connection is not None
        connection, self.connection = self.connection, None
        await connection.close(code, reason)

    # --- work ---------------------------------------------------------------------------------------------------

    def put(self, purpose: str, content: bytes, **wrong: Any) -> None:
        """Let the next assignments have this input; `wrong` replaces fields of what is said about it."""
        path = f"/files/{purpose}"
        self.contents[path] = content
        said = Input(
            purpose=purpose, url=f"{self.files.url}{path}?job=secret", sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )
        self.inputs[purpose] = replace(said, **wrong)

    async def offer(self, model: str) -> Offer:
        """Offer a new task, once a worker has said hello."""
        async with asyncio.timeout(PATIENCE_S):
            await self.greeted.wait()
        number = next(self.ids)
        offer = Offer(offer=f"offer-{number}", task=f"task-{number}", model=model)
        await self.send(offer)
        return offer

    async def assign(self, model: str, options: dict[str, Any] | None = None) -> str:
        """Offer a new task, and assign it once the worker accepts; its lease."""
        offer = await self.offer(model)
        await self.expect(Accept, offer=offer.offer)
        lease = offer.task.replace("task", "lease")
        await self.send(Assign(
            lease=lease, task=offer.task, attempt=1, model=model, options=options or {},
            inputs=list(self.inputs.values()), upload_url=f"{self.files.url}/api/uploads?job=secret",
        ))
        return lease

    async def next_upload(self) -> str:
        """The id of the next upload that has arrived.

        Raises:
            TimeoutError: none did.
        """
        async with asyncio.timeout(PATIENCE_S):
            return await self.arrivals.get()

    def answer(self) -> int | None:
        """The status that the next HTTP request gets instead of its real answer."""
        return self.answers.popleft() if self.answers else None
