"""The websocket for interface services: subprotocol vsh.worker.v1, one session core behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from tornado.websocket import WebSocketClosedError

from hub import messages
from hub.errors import HubError, Invalid
from hub.interface import Interface
from hub.messages import PROTOCOL, SUBPROTOCOL, BadMessage, Hello

from .base import Rooms, bearer_of
from .sockets import Socket

log = structlog.get_logger(__name__)

HELLO_S = 10.0  # seconds in which a new connection must say hello
CLOSE_FORBIDDEN, CLOSE_PROTOCOL, CLOSE_BAD_MESSAGE, CLOSE_SESSION_GONE = 4403, 4406, 1008, 4000


class WorkerConnection:
    """One connection of an interface service; the session outlives it."""

    def __init__(self, rooms: Rooms, interface: Interface, socket: WorkerSocket) -> None:
        self.rooms = rooms
        self.interface = interface
        self.socket = socket
        self.session = ""
        self.written: asyncio.Future[None] | None = None

    def receive(self, raw: str | bytes) -> None:
        """Decide on one message. No await between decoding and the decision: messages keep their order."""
        try:
            message = messages.decode(messages.from_worker, raw)
        except BadMessage as error:
            refusal = messages.Problem(code="bad_message", detail=str(error)[:300])
            self.write(messages.encode(refusal))
            return
        if isinstance(message, Hello):
            self.join(message)
        elif self.session:
            self.pass_on(message)
        else:
            self.close(CLOSE_BAD_MESSAGE, "say hello first")

    def join(self, hello: Hello) -> None:
        """Open or resume the session and send what a returning worker has missed."""
        if hello.protocol != PROTOCOL:
            self.close(CLOSE_PROTOCOL, f"this hub speaks protocol {PROTOCOL}")
            return
        if hello.worker != self.interface.id:
            self.close(CLOSE_FORBIDDEN, "this token belongs to another worker")
            return
        runner = self.rooms.runner
        known = runner.core.session_of(hello.worker)
        resumed = known is not None and known.instance == hello.instance
        missed = known.missed(hello.last_seen) if known is not None and resumed else []
        effects = runner.core.join(hello, runner.clock.now())
        session = runner.core.session_of(hello.worker)
        assert session is not None
        self.session = session.id
        before = runner.transports.get(session.id)
        runner.transports[session.id] = self
        if before is not None and before is not self:
            before.close(CLOSE_SESSION_GONE, "the worker came back on another connection")
        for data in missed:
            self.write(data)
        runner.decide(effects)
        log.info("worker_joined", worker=hello.worker, models=[m.name for m in hello.models], resumed=resumed)

    def pass_on(self, message: messages.FromWorker) -> None:
        runner = self.rooms.runner
        if runner.transports.get(self.session) is not self:
            return
        try:
            runner.decide(runner.core.receive(self.session, message, runner.clock.now()))
        except HubError as error:
            self.close(CLOSE_SESSION_GONE, error.detail)

    def left(self) -> None:
        """The connection is gone; if it was the session's, the session waits for the next."""
        runner = self.rooms.runner
        if self.session and runner.transports.get(self.session) is self:
            del runner.transports[self.session]
            runner.decide(runner.core.detach(self.session, runner.clock.now()))
            log.info("worker_disconnected", worker=self.interface.id)

    def write(self, data: bytes) -> None:
        try:
            self.written = self.socket.write_message(data.decode())
        except WebSocketClosedError:
            return  # the outbox keeps it for the next connection
        self.written.add_done_callback(asyncio.Future.exception)  # the same, if the connection ends just now

    async def drained(self) -> None:
        """Wait until the worker has taken what was written: who does not listen is not listened to."""
        if self.written is not None:
            await asyncio.wait([self.written])

    def close(self, code: int, reason: str) -> None:
        self.socket.close(code, reason.encode()[:120].decode(errors="ignore"))


class WorkerSocket(Socket):
    """GET /api/workers/session. Thin: everything is in `WorkerConnection`. Pages may not: workers are no browsers."""

    connection: WorkerConnection
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
        if not self.connection.session:
            self.close(CLOSE_BAD_MESSAGE, "say hello first")

    async def on_message(self, message: str | bytes) -> None:
        self.connection.receive(message)
        await self.connection.drained()

    def on_close(self) -> None:
        self.connection.left()

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        log.error("worker_socket_failed", exc_info=(typ, value, tb))


ROUTES = [(r"/api/workers/session", WorkerSocket)]
