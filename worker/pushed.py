"""The way to a hub that calls: a small HTTP server takes its signed calls, and this side calls back.

Owns the server, who may call it, and which call is answered with hello. What the worker says goes to
/api/workers/poll, as for those who poll.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress
from http.client import HTTPException, parse_headers

import msgspec
import structlog

from .errors import Lost
from .polling import HubCaller, Inbox
from .webhooks import Untrusted, Verifier

MAX_HEAD, MAX_BODY = 16 * 1024, 1024 * 1024
CALL_S = 15.0  # how long one call may take to arrive
ANSWER_S = 5.0  # how long a call may wait for hello, or for what it brought to be handled
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
        self.connection: PushConnection | None = None

    async def listen(self) -> None:
        """Be there for calls; harmless when it is.

        Raises:
            OSError: the address is taken or not this machine's.
        """
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, self.host, self.port, limit=MAX_HEAD)
            self.port = self.server.sockets[0].getsockname()[1]
            log.info("listening", host=self.host, port=self.port)

    async def open(self) -> PushConnection:
        """Wait until the hub asks who is there."""
        await self.listen()
        await self.wanted.wait()
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
        if connection is not None and not new:
            return reply([], connection.inbox.handled)
        if connection is None or not connection.belongs_to(call.session):
            return await self.greet()
        return reply([], await connection.called(call))

    async def greet(self) -> bytes:
        """Hello, once a new connection has said it; nothing if it takes too long, and the hub asks again."""
        if self.connection is not None and self.connection.session is not None:
            self.connection.fail(Lost("the hub does not know this session"))
            self.connection = None
        self.wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while self.connection is None or self.connection.hello is None:
                    await self.hello_said.wait()
                return reply([self.connection.hello], 0)
        return reply([], 0)
