"""The way to a hub that calls: a small HTTP server takes its signed calls, and this side calls back.

Owns the server, who may call it, and which call is answered with hello. What the worker says goes to
/api/workers/poll, as for those who poll.
"""

from __future__ import annotations

import asyncio
import io
import random
from contextlib import suppress
from http.client import HTTPException, parse_headers

import msgspec
import structlog

from .errors import Lost
from .polling import HubCaller, Inbox, NoAnswer
from .webhooks import Untrusted, Verifier

MAX_HEAD, MAX_BODY = 16 * 1024, 1024 * 1024
CALL_S = 15.0  # how long one call may take to arrive
ANSWER_S = 5.0  # how long a call may wait for hello, or for what it brought to be handled
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0  # between two tries to say something
REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 405: "Method Not Allowed", 411: "Length Required",
    413: "Content Too Large",
}

log = structlog.get_logger(__name__)


class Call(msgspec.Struct):
    """One call of the hub's."""

    session: str | None = None
    messages: list[msgspec.Raw] = []
    ack: int = 0


class BadCall(Exception):
    """A call that is answered with this status and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(REASONS[status])
        self.status = status


class PushTransport:
    """Listens at `host` and `port` for the hub's calls, which prove themselves with `secret` ("whsec_...").

    Raises:
        ValueError: the secret is none.
    """

    def __init__(self, url: str, token: str, secret: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.caller = HubCaller(url, token)
        self.verifier = Verifier(secret)
        self.host = host
        self.port = port
        self.server: asyncio.Server | None = None
        self.wanted = asyncio.Event()
        self.said_hello = asyncio.Event()
        self.connection: PushConnection | None = None

    async def listen(self) -> None:
        """Be there for calls; harmless when it is.

        Raises:
            Lost: the address is taken, or not this machine's.
        """
        if self.server is None:
            try:
                self.server = await asyncio.start_server(self.serve, self.host, self.port, limit=MAX_HEAD)
            except OSError as error:
                raise Lost(f"cannot listen at {self.host}:{self.port}: {error.strerror}") from error
            self.port = self.server.sockets[0].getsockname()[1]
            log.info("listening", host=self.host, port=self.port)

    async def open(self) -> PushConnection:
        """Wait until the hub asks who is there."""
        await self.listen()
        self.said_hello.clear()
        await self.wanted.wait()
        self.wanted.clear()
        self.connection = PushConnection(self)
        return self.connection

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    # --- calls --------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one call, and hang up."""
        try:
            async with asyncio.timeout(CALL_S):
                headers, body = await read_call(reader)
            answer = await self.called(headers, body)
            writer.write(response(200, answer))
            await writer.drain()
        except BadCall as bad:
            writer.write(response(bad.status, b""))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def called(self, headers: dict[str, str], body: bytes) -> bytes:
        """The answer to a call: hello where the hub knows no session of this process, else what was handled.

        Raises:
            BadCall: it is not the hub's.
        """
        try:
            new = self.verifier.check(headers, body)
        except Untrusted as error:
            log.info("call_refused", reason=str(error))
            raise BadCall(401) from None
        try:
            call = msgspec.json.decode(body, type=Call)
        except (msgspec.DecodeError, RecursionError):
            raise BadCall(400) from None
        connection = self.connection
        if not new:
            return reply([], connection.inbox.handled if connection is not None else 0)
        if connection is None or not connection.belongs_to(call.session):
            return await self.greet()
        return reply([], await connection.called(call))

    async def greet(self) -> bytes:
        """Hello, once a new connection has said it; nothing if that takes too long, for the hub asks again."""
        if self.connection is not None and self.connection.session is not None:
            self.connection.end(Lost("the hub does not know this session"))
        if self.connection is None:
            self.wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self.said_hello.wait()
        connection = self.connection
        return reply([connection.hello] if connection is not None and connection.hello is not None else [], 0)


class PushConnection:
    """From one hello to the end of what it began; hello is the first message that is sent."""

    def __init__(self, transport: PushTransport) -> None:
        self.transport = transport
        self.inbox = Inbox()
        self.hello: bytes | None = None
        self.session: str | None = None
        self.ended: Lost | None = None
        self.sending = asyncio.Lock()

    def belongs_to(self, session: str | None) -> bool:
        """Whether a call for this session is for this connection, now that hello was said."""
        return self.hello is not None and session is not None and self.session in (None, session)

    async def called(self, call: Call) -> int:
        """Take in what a call brought; the last number handled, when that is all of it or time is up."""
        self.session = call.session
        self.inbox.put(call.messages, call.ack)
        last = self.inbox.newest
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while self.inbox.handled < last and self.ended is None:
                    await self.inbox.moved.wait()
        return self.inbox.handled

    async def send(self, message: bytes) -> None:
        """Say it until the hub answers: a new hello, which only a call of the hub's could take, would be no quicker."""
        if self.hello is None:
            self.hello = message
            self.transport.said_hello.set()
            return
        async with self.sending:
            pause = FIRST_PAUSE_S
            while True:
                try:
                    answer = await self.transport.caller.call(self.session, [message], self.inbox.handled, 0)
                    break
                except NoAnswer as error:
                    wait = random.uniform(pause / 2, pause)
                    log.info("hub_not_reached", reason=str(error), again_in_s=round(wait, 1))
                await asyncio.sleep(wait)
                pause = min(LONGEST_PAUSE_S, pause * 2)
        self.inbox.put(answer.messages, answer.ack)

    async def show(self, picture: bytes) -> None:
        await self.transport.caller.show(picture)

    async def receive(self) -> bytes:
        self.inbox.ask()
        while not self.inbox.waiting:
            if self.ended is not None:
                raise self.ended
            await self.inbox.moved.wait()
        return self.inbox.take()

    def end(self, reason: Lost) -> None:
        """This conversation is over."""
        self.ended = self.ended or reason
        self.inbox.move()
        if self.transport.connection is self:
            self.transport.connection = None
            self.transport.said_hello.clear()

    async def close(self) -> None:
        self.end(Lost("closed"))


# --- HTTP -------------------------------------------------------------------------------------------------------


async def read_call(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """The headers, names in lower case, and the body of a POST with a Content-Length (RFC 9112).

    Raises:
        BadCall: it is something else, or too long.
        asyncio.IncompleteReadError, asyncio.LimitOverrunError: it broke off, or its head is too long.
    """
    line, _, head = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
    if not line.startswith(b"POST "):
        raise BadCall(405)
    try:
        headers = {name.lower(): value for name, value in parse_headers(io.BytesIO(head)).items()}
    except HTTPException:
        raise BadCall(400) from None
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 10) or "transfer-encoding" in headers:
        raise BadCall(411)
    if int(length) > MAX_BODY:
        raise BadCall(413)
    return headers, await reader.readexactly(int(length))


def response(status: int, body: bytes) -> bytes:
    """A whole answer, after which the connection is closed."""
    head = (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def reply(messages: list[bytes], ack: int) -> bytes:
    """What a call is answered."""
    return msgspec.json.encode({"messages": [msgspec.Raw(message) for message in messages], "ack": ack})
