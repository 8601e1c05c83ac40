"""A line between an interface service and its session, the same on every transport.

Owns how a worker says hello, is heard and is missed, and which transport acts for a session: the last one that said
hello there has the baton. Knows no bytes: what is said arrives as messages, what is refused is raised.
"""

from __future__ import annotations

import asyncio

import structlog

from hub.errors import Conflict, Forbidden, HubError, Unavailable
from hub.interface import Interface
from hub.messages import PROTOCOL, FromWorker, Hello, Message
from hub.runner import CLOSE_RESTART, Transport
from hub.session import WorkerSession

from .answers import Rooms

log = structlog.get_logger(__name__)

CLOSE_SESSION_GONE = 4000
FINAL_CODES = range(4400, 4500)


class Line:
    """One way in which a worker reaches its session; the session outlives it."""

    def __init__(self, rooms: Rooms, interface: Interface, transport: Transport) -> None:
        self.rooms = rooms
        self.runner = rooms.runner
        self.interface = interface
        self.transport = transport
        self.session = ""

    @property
    def stands(self) -> bool:
        """Whether this line has the baton of a session."""
        return self.runner.transports.get(self.session) is self.transport

    def known(self) -> WorkerSession:
        """The session behind this line.

        Raises:
            Conflict: code session_gone: there is none, or it is not this worker's; say hello again.
        """
        session = self.runner.core.sessions.get(self.session)
        if session is None or session.worker != self.interface.id:
            raise Conflict("this session is gone, say hello again", code="session_gone")
        return session

    def take(self, message: FromWorker) -> None:
        """Decide on one message. No await between decoding and this: messages keep their order.

        Raises:
            Forbidden: the worker is not welcome, see `join`.
            HubError: code session_gone: say hello again.
        """
        if isinstance(message, Hello):
            self.join(message)
        else:
            self.pass_on(message)

    def join(self, hello: Hello) -> None:
        """Open or resume the session, take the baton, and give what a returning worker has missed to the transport.

        Raises:
            Forbidden: code unsupported_protocol, the token is another worker's, or a newer instance is here.
        """
        if hello.protocol != PROTOCOL:
            raise Forbidden(f"this hub speaks protocol {PROTOCOL}", code="unsupported_protocol")
        if hello.worker != self.interface.id:
            raise Forbidden("this token belongs to another worker")
        runner = self.runner
        before = runner.core.session_of(hello.worker)
        resumed = before is not None and before.instance == hello.instance
        missed = before.missed(hello.last_seen) if before is not None and resumed else []
        effects = runner.core.join(hello, runner.clock.now())
        session = runner.core.session_of(hello.worker)
        assert session is not None
        self.session = session.id
        holder = runner.transports.get(session.id)
        runner.transports[session.id] = self.transport
        if holder is not None and holder is not self.transport:
            holder.close(CLOSE_SESSION_GONE, "the worker came back on another connection")
        for data in missed:
            self.transport.write(data)
        runner.decide(effects)
        log.info("worker_joined", worker=hello.worker, models=[m.name for m in hello.models], resumed=resumed)

    def pass_on(self, message: Message) -> None:
        """What the worker says; a line that lost its baton is not listened to.

        Raises:
            HubError: code session_gone: the session is over, say hello again.
        """
        if self.stands:
            self.runner.decide(self.runner.core.receive(self.session, message, self.runner.clock.now()))

    def left(self) -> None:
        """The connection is gone; if it had the baton, the session waits for the next."""
        if self.session and self.stands:
            del self.runner.transports[self.session]
            self.detach()

    def detach(self) -> None:
        """The worker cannot be reached just now: nothing is offered to it."""
        session = self.runner.core.sessions.get(self.session)
        if session is not None and session.attached:
            self.runner.decide(self.runner.core.detach(self.session, self.runner.clock.now()))
            log.info("worker_disconnected", worker=self.interface.id)

    def attach(self) -> None:
        """The worker was reached, or asked by itself: it can be offered something."""
        runner, session = self.runner, self.known()
        before, now = session.attached, runner.clock.now()
        runner.core.attach(self.session, now)
        if not before:
            runner.decide(runner.core.dispatch(now))
            log.info("worker_connected_again", worker=self.interface.id)


class Pickup:
    """A transport that writes nothing by itself: what is due lies in the session's outbox until it is asked for.

    `ended` says why it lost the baton; `held` is the request that waits for news, if one does.
    """

    def __init__(self, rooms: Rooms, interface: Interface) -> None:
        self.line = Line(rooms, interface, self)
        self.ended: HubError | None = None
        self.held: asyncio.Future[None] | None = None

    def write(self, data: bytes) -> None:
        self.wake()

    def close(self, code: int, reason: str) -> None:
        self.ended = ending(code, reason)
        self.wake()

    def wake(self) -> None:
        """Let the request that waits be answered."""
        if self.held is not None and not self.held.done():
            self.held.set_result(None)

    def heard(self, ack: int) -> None:
        """The worker has handled everything up to `ack`.

        Raises:
            Conflict: code session_gone.
        """
        session = self.line.known()
        if self.line.runner.transports.setdefault(self.line.session, self) is not self:
            raise Conflict("another connection carries this session, say hello to take over", code="session_gone")
        session.acknowledge(ack)

    def due(self, most: int) -> list[bytes]:
        """The first messages that the worker has not acknowledged, in order, `most` at most."""
        session = self.line.runner.core.sessions.get(self.line.session)
        return session.missed(0)[:most] if session is not None and self.line.stands else []


def ending(code: int, reason: str) -> HubError:
    """What the end of a connection means where there are no close codes."""
    if code in FINAL_CODES:
        return Forbidden(reason)
    if code == CLOSE_RESTART:
        return Unavailable(reason)
    return Conflict(reason, code="session_gone")
