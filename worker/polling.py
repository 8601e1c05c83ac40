"""The long-poll way to the hub: one request waits for news, others say things meanwhile.

Owns the requests to /api/workers/poll and /api/workers/previews, what came by their answers, and what of it was
handled. Requests block in threads; who does not wait for one any more breaks it off, so that the hub notices at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import msgspec

from hub.messages import Ack, encode

from .errors import Lost, Refused
from .threads import in_thread
from .transports import FINAL_STATUSES

POLL, PREVIEWS = "/api/workers/poll", "/api/workers/previews"
WAIT_S = 25.0
TIMEOUT_S = 15.0  # for a request, beyond the time that the hub is asked to wait
LONGEST_ANSWER = 4 * 1024 * 1024
OK = 200


class Numbered(msgspec.Struct):
    """Of a message, what its way needs to know."""

    n: int = 0


class Polled(msgspec.Struct):
    """What the hub answers."""

    session: str
    messages: list[msgspec.Raw] = []
    ack: int = 0


class Told(msgspec.Struct):
    """Of a problem, what a log should say."""

    detail: str = ""


class NoAnswer(Lost):
    """The hub did not answer one request, or could not just now; the next may get through."""


class Inbox:
    """What has arrived, in order and once, and how much of it was handled.

    A message counts as handled when the next one is asked for. `moved` is set, and replaced, when any of this changes.
    """

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.newest = 0
        self.given = 0
        self.handled = 0
        self.told = 0
        self.moved = asyncio.Event()

    def put(self, messages: list[msgspec.Raw], ack: int) -> None:
        """Take in what is new of an answer; an `ack` that nothing carries becomes a message of its own."""
        for raw in messages:
            number = msgspec.json.decode(raw, type=Numbered).n
            if number > self.newest:
                self.newest = number
                self.waiting.append(bytes(raw))
        if ack > self.told:
            self.told = ack
            self.waiting.append(encode(Ack(ack=ack)))
        self.move()

    def move(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()

    def ask(self) -> None:
        """Everything that was given out is handled: somebody asks for more."""
        self.handled = self.given
        self.move()

    def take(self) -> bytes:
        """The next message."""
        raw = self.waiting.popleft()
        self.given = max(self.given, msgspec.json.decode(raw, type=Numbered).n)
        return raw


class Exchange:
    """One blocking request on a connection of its own, which another thread can break off."""

    def __init__(
        self, url: str, token: str, path: str, body: bytes, timeout: float, content_type: str = "application/json",
    ) -> None:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self.connection = kind(parts.hostname or "", parts.port, timeout=timeout)
        self.path = parts.path.rstrip("/") + path
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        self.body = body
        self.broken = False

    def carry_out(self) -> tuple[int, bytes]:
        """The answer's status and body.

        Raises:
            OSError, HTTPException: there is none.
        """
        try:
            self.connection.connect()
            if self.broken:
                raise OSError("broken off")
            self.connection.request("POST", self.path, self.body, self.headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read(LONGEST_ANSWER)
        finally:
            self.connection.close()

    def break_off(self) -> None:
        """Nobody waits for this any more."""
        self.broken = True
        if self.connection.sock is not None:
            with suppress(OSError):
                self.connection.sock.shutdown(socket.SHUT_RDWR)


class HubCaller:
    """Requests to one hub as one worker."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    async def call(self, session: str | None, said: list[bytes], ack: int, wait: float) -> Polled:
        """One request.

        Raises:
            Lost: the hub does not know the session; NoAnswer where the same request may work soon.
            Refused: the hub does not want this worker.
        """
        body = msgspec.json.encode({
            "session": session, "messages": [msgspec.Raw(message) for message in said], "ack": ack, "wait": wait,
        })
        try:
            status, answer = await carried_out(Exchange(self.url, self.token, POLL, body, wait + TIMEOUT_S))
        except (OSError, HTTPException) as error:
            raise NoAnswer(f"no answer: {type(error).__name__}: {error}") from error
        if status != OK:
            kind = Refused if status in FINAL_STATUSES else NoAnswer if status == 429 or status >= 500 else Lost
            raise kind(f"the hub answered {status} {detail_of(answer)}".strip())
        try:
            return msgspec.json.decode(answer, type=Polled)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Lost(f"the hub's answer makes no sense: {error}") from error

    async def show(self, picture: bytes) -> None:
        """Post a preview; whether it arrives does not matter."""
        with suppress(OSError, HTTPException):
            await carried_out(
                Exchange(self.url, self.token, PREVIEWS, picture, TIMEOUT_S, "application/octet-stream")
            )


async def carried_out(exchange: Exchange) -> tuple[int, bytes]:
    """The answer to a request, which is broken off when the waiting for it is cancelled; raises like `carry_out`."""
    try:
        return await in_thread(exchange.carry_out)
    except asyncio.CancelledError:
        exchange.break_off()
        raise


def detail_of(answer: bytes) -> str:
    """What a problem says, or nothing."""
    try:
        return msgspec.json.decode(answer, type=Told).detail[:300]
    except (msgspec.DecodeError, RecursionError):
        return ""


class PollTransport:
    """POST {hub}/api/workers/poll: where no websocket gets through."""

    def __init__(self, url: str, token: str, wait_s: float = WAIT_S) -> None:
        self.caller = HubCaller(url, token)
        self.wait_s = wait_s

    async def open(self) -> PollConnection:
        return PollConnection(self.caller, self.wait_s)

    async def close(self) -> None:
        """Nothing is kept between connections."""


class PollConnection:
    """From one hello to the end of what it began; hello is the first message that is sent."""

    def __init__(self, caller: HubCaller, wait_s: float) -> None:
        self.caller = caller
        self.wait_s = wait_s
        self.inbox = Inbox()
        self.session: str | None = None
        self.sending = asyncio.Lock()  # one at a time: messages that overtake each other would look like repeats

    async def send(self, message: bytes) -> None:
        async with self.sending:
            answer = await self.caller.call(self.session, [message], self.inbox.handled, 0)
        self.session = answer.session
        self.inbox.put(answer.messages, answer.ack)

    async def show(self, picture: bytes) -> None:
        await self.caller.show(picture)

    async def receive(self) -> bytes:
        self.inbox.ask()
        while not self.inbox.waiting:
            try:
                answer = await self.caller.call(self.session, [], self.inbox.handled, self.wait_s)
            except (Lost, Refused):
                async with self.sending:  # what is being said may be goodbye, and deserves its answer
                    raise
            self.inbox.put(answer.messages, answer.ack)
        return self.inbox.take()

    async def close(self) -> None:
        """Nothing stays open between requests."""
