"""The websocket for interface services: subprotocol vsh.worker.v1, one session core behind it."""

from __future__ import annotations

import asyncio
import math
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
from .wire import Taken, Wire
from .worker_line import CLOSE_SESSION_GONE, Line

log = structlog.get_logger(__name__)

HELLO_S = 10.0  # seconds in which a new connection must say hello
CLOSE_FORBIDDEN, CLOSE_PROTOCOL, CLOSE_BAD_MESSAGE = 4403, 4406, 1008


class WorkerConnection:
    """One websocket of an interface service; who makes it gives it its wire."""

    burst = math.inf  # a worker with many slots has much to say
    wire: Wire | PlainWire

    def __init__(self, rooms: Rooms, interface: Interface) -> None:
        self.line = Line(rooms, interface, self)
        self.gathered: list[bytes] = []

    def hear(self, raw: str | bytes) -> None:
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
        """Send what was gathered; what does not arrive, the outbox keeps for the next connection."""
        if self.gathered:
            data, self.gathered = b"".join(self.gathered), []
            self.wire.send(data)

    def close(self, code: int, reason: str) -> None:
        self.flush()
        self.wire.close(code, reason)

    def check_hello(self) -> None:
        if not self.line.session:
            self.close(CLOSE_BAD_MESSAGE, "say hello first")

    def drained(self) -> None:
        """The wire has sent all; nothing else waits for that."""

    def gone(self) -> None:
        self.line.left()


class PlainWire:
    """Tornado's websocket, where the connection cannot be taken over."""

    def __init__(self, socket: WorkerSocket) -> None:
        self.socket = socket
        self.protocol = cast(WebSocketProtocol13, socket.ws_connection)
        self.written: asyncio.Future[None] | None = None

    def send(self, data: bytes) -> None:
        """Give whole frames to the stream."""
        if not self.protocol.is_closing():
            self.written = self.protocol.stream.write(data)
            self.written.add_done_callback(asyncio.Future.exception)  # the connection may end just now

    def close(self, code: int, reason: str) -> None:
        self.socket.close(code, reason.encode()[:120].decode(errors="ignore"))

    def drained(self) -> Awaitable[Any] | None:
        """To be waited for until the worker has taken what was sent: who does not read is not listened to."""
        return None if self.written is None or self.written.done() else asyncio.wait([self.written])


class WorkerSocket(Socket):
    """GET /api/workers/session. Thin: everything is in `WorkerConnection`. Pages may not: workers are no browsers."""

    interface: Interface
    connection: WorkerConnection | None = None  # none before the handshake is over, and where it was taken over
    plain: PlainWire

    async def admit(self) -> None:
        self.interface = await self.rooms.identities.interface(bearer_of(self.request.headers.get("Authorization", "")))
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        if SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
            raise Invalid(f"ask for the subprotocol {SUBPROTOCOL}", code="upgrade_required")

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return SUBPROTOCOL

    def begin(self, taken: Taken) -> None:
        connection = self.connected()
        connection.wire = wire = Wire(*taken, self.rooms.pulse, connection)
        wire.begin()

    def open(self, *_: str, **__: str) -> None:
        self.set_nodelay(True)
        self.connection = self.connected()
        self.connection.wire = self.plain = PlainWire(self)

    def connected(self) -> WorkerConnection:
        """The connection of a worker that is to say hello."""
        connection = WorkerConnection(self.rooms, self.interface)
        asyncio.get_running_loop().call_later(HELLO_S, connection.check_hello)
        return connection

    def on_message(self, message: str | bytes) -> Awaitable[Any] | None:
        assert self.connection is not None
        self.connection.hear(message)
        self.connection.flush()
        return self.plain.drained()

    def on_close(self) -> None:
        if self.connection is not None:
            self.connection.gone()


ROUTES = [(r"/api/workers/session", WorkerSocket)]
