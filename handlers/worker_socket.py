"""The websocket for interface services: subprotocol vsh.worker.v1, one session core behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import structlog
from tornado.websocket import WebSocketProtocol13

from hub import messages
from hub.errors import Forbidden, HubError, Invalid
from hub.interface import Interface
from hub.messages import SUBPROTOCOL, BadMessage, Hello
from hub.previews import TYPE as PREVIEW

from . import previews
from .base import Rooms, bearer_of
from .frames import encoded
from .sockets import Socket
from .worker_line import CLOSE_SESSION_GONE, Line

log = structlog.get_logger(__name__)

HELLO_S = 10.0  # seconds in which a new connection must say hello
CLOSE_FORBIDDEN, CLOSE_PROTOCOL, CLOSE_BAD_MESSAGE = 4403, 4406, 1008


class WorkerConnection:
    """One websocket of an interface service."""

    def __init__(self, rooms: Rooms, interface: Interface, socket: WorkerSocket) -> None:
        self.line = Line(rooms, interface, self)
        self.socket = socket
        self.wire = cast(WebSocketProtocol13, socket.ws_connection)
        self.gathered: list[bytes] = []
        self.written: asyncio.Future[None] | None = None

    def receive(self, raw: str | bytes) -> None:
        """Decide on one message, or say why it cannot be used."""
        if isinstance(raw, bytes) and raw[:1] == PREVIEW:
            return self.receive_preview(raw)
        try:
            message = messages.decode(messages.from_worker, raw)
        except BadMessage as error:
            refusal = messages.Problem(code="bad_message", detail=str(error)[:300])
            self.write(messages.encode(refusal))
            return
        if not self.line.session and not isinstance(message, Hello):
            self.close(CLOSE_BAD_MESSAGE, "say hello first")
            return
        try:
            self.line.take(message)
        except Forbidden as error:
            self.close(CLOSE_PROTOCOL if error.code == "unsupported_protocol" else CLOSE_FORBIDDEN, error.detail)
        except HubError as error:
            self.close(CLOSE_SESSION_GONE, error.detail)

    def receive_preview(self, raw: bytes) -> None:
        """Pass a picture on, or say why it is none."""
        try:
            previews.receive(self.line.rooms, self.line.interface.id, raw)
        except BadMessage as error:
            self.write(messages.encode(messages.Problem(code="bad_preview", detail=str(error)[:300])))

    def write(self, data: bytes) -> None:
        """Send a message; what gathers in one turn of the loop leaves as one write."""
        if not self.gathered:
            asyncio.get_running_loop().call_soon(self.flush)
        self.gathered.append(encoded(data))

    def flush(self) -> None:
        data, self.gathered = b"".join(self.gathered), []
        if not data or self.wire.is_closing():
            return  # the outbox keeps it for the next connection
        self.written = self.wire.stream.write(data)
        self.written.add_done_callback(asyncio.Future.exception)  # the same, if the connection ends just now

    def drained(self) -> Awaitable[Any] | None:
        """To be waited for until the worker has taken what was written: who does not listen is not listened to."""
        self.flush()
        return None if self.written is None or self.written.done() else asyncio.wait([self.written])

    def close(self, code: int, reason: str) -> None:
        self.flush()
        self.socket.close(code, reason.encode()[:120].decode(errors="ignore"))


class WorkerSocket(Socket):
    """GET /api/workers/session. Thin: everything is in `WorkerConnection`. Pages may not: workers are no browsers."""

    connection: WorkerConnection | None = None  # none before the handshake is over
    interface: Interface

    async def admit(self) -> None:
        self.interface = await self.rooms.identities.interface(bearer_of(self.request.headers.get("Authorization", "")))
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        if SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
            raise Invalid(f"ask for the subprotocol {SUBPROTOCOL}", code="upgrade_required")

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return SUBPROTOCOL

    def open(self, *_: str, **__: str) -> None:
        self.set_nodelay(True)
        self.connection = WorkerConnection(self.rooms, self.interface, self)
        asyncio.get_running_loop().call_later(HELLO_S, self.check_hello)

    def check_hello(self) -> None:
        if self.connection is not None and not self.connection.line.session:
            self.close(CLOSE_BAD_MESSAGE, "say hello first")

    def on_message(self, message: str | bytes) -> Awaitable[Any] | None:
        assert self.connection is not None
        self.connection.receive(message)
        return self.connection.drained()

    def on_close(self) -> None:
        if self.connection is not None:
            self.connection.line.left()


ROUTES = [(r"/api/workers/session", WorkerSocket)]
