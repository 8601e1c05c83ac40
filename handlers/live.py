"""The live websocket for browsers: sign in, subscribe, and see what happens while it happens.

GET /api/live without a handshake is the long poll of handlers/live_poll: the same topics and cursors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from hub import messages
from hub.account import User
from hub.errors import HubError, RateLimited, Unauthorized
from hub.messages import Auth, BadMessage, Ping, Subscribe, Subscribed, Unsubscribe
from hub.subscriber import Direct, Subscriber

from . import door, frames, kept_line, sight, wire
from .audience import CLOSE_CROWDED, CLOSE_FORBIDDEN, CLOSE_SLOW, CLOSE_UNAUTHORIZED, TICKET_S, Seat
from .base import Endpoint, Rooms, bearer_of
from .live_poll import Poll
from .poll_line import PollLine
from .sockets import Socket
from .wire import Wire

__all__ = ["CLOSE_CROWDED", "CLOSE_FORBIDDEN", "CLOSE_SLOW", "CLOSE_UNAUTHORIZED", "Viewer"]

AUTH_S = 10.0  # seconds in which a socket must say who it is
CLOSE_BAD_MESSAGE = 1008
BURST = 300  # messages at once before a viewer has to wait


class Viewer(Seat):
    """A conversation with one browser over a websocket; `puzzled` is whether an unknown message was answered."""

    __slots__ = ("puzzled",)
    burst = BURST

    def __init__(self, rooms: Rooms, connection: Any, subscriber: Subscriber) -> None:
        super().__init__(rooms, connection, subscriber)
        self.puzzled = False

    def hear(self, raw: str | bytes) -> Coroutine[Any, Any, None] | None:
        """Answer one message with exactly one reply; what needs the database is returned as work."""
        try:
            message = messages.decode(messages.from_browser, raw)
        except BadMessage as error:
            self.misheard(raw, error)
            return None
        if isinstance(message, Auth | Subscribe):
            return self.reply_later(message)
        self.reply_now(message)
        return None

    def misheard(self, raw: str | bytes, error: BadMessage) -> None:
        """A message of an unknown type is answered once and ignored from then on; anything else ends the connection."""
        try:
            said = msgspec.json.decode(raw, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            said = {}
        kind, id = said.get("type"), said.get("id", 0)
        if not isinstance(kind, str) or kind in messages.BROWSER_WORDS or not isinstance(id, str | int):
            self.close(CLOSE_BAD_MESSAGE, str(error)[:100].encode("ascii", "replace").decode())
        elif not self.puzzled:
            self.puzzled = True
            detail = "ignored, like all that follow of a kind that the hub does not know"
            self.say(messages.Refused(id=id, code="unknown_message", detail=detail))

    def reply_now(self, message: Unsubscribe | Ping) -> None:
        if self.user is None:
            self.refuse(message, Unauthorized("sign in first"))
        elif isinstance(message, Unsubscribe):
            self.subscriber.unsubscribe(message.topic)
            self.say(messages.Unsubscribed(id=message.id, topic=message.topic))
        else:
            self.say(messages.Pong(id=message.id))

    async def reply_later(self, message: Auth | Subscribe) -> None:
        try:
            if isinstance(message, Auth):
                user = await self.sign_in(message.token)
                self.say(messages.Authed(id=message.id, user=user.id))
            elif self.user is None:
                raise Unauthorized("sign in first")
            else:
                self.say(await self.subscribe(message, self.user))
                self.show_pictures(message.topic)
        except HubError as error:
            self.refuse(message, error)

    async def subscribe(self, message: Subscribe, user: User) -> Subscribed:
        """Join a topic; raises like `sight.join`."""
        joined = await sight.join(self.rooms, user, self.subscriber, message.topic, message.after)
        return Subscribed(id=message.id, **msgspec.structs.asdict(joined))

    def show_pictures(self, name: str) -> None:
        """What is the last of each kind, for one who has just come."""
        topic = self.subscriber.topics.get(name)
        if topic is not None:
            for shot in topic.pictures.values():
                self.subscriber.show(topic, shot)

    def refuse(self, message: messages.Request, error: HubError) -> None:
        self.say(messages.Refused(id=message.id, code=error.code, detail=error.detail))
        if self.user is None:
            crowded = isinstance(error, RateLimited)
            self.close(CLOSE_CROWDED if crowded else CLOSE_UNAUTHORIZED, error.detail if crowded else "sign in first")

    def say(self, message: msgspec.Struct) -> None:
        self.connection.say(messages.encode(message))  # type: ignore[attr-defined]

    def check_signed_in(self) -> None:
        if self.user is None:
            self.close(CLOSE_UNAUTHORIZED, "sign in first")

    def wake(self) -> None:
        """A subscriber that takes bytes at once wakes only to be cut off."""
        if self.subscriber.lagged:
            self.close(CLOSE_SLOW, "too slow, come back")

    # --- over a wire of our own ---------------------------------------------------------------------------------

    def drained(self) -> None:
        if not self.subscriber.lagged:
            self.subscriber.drained()  # type: ignore[attr-defined]

    def gone(self) -> None:
        self.leave()


def farewell(code: int, reason: str, reconnect_after: float | None) -> bytes:
    """The last message of a connection to which the viewer shall come back."""
    return messages.encode(messages.Farewell(code=code, reason=reason, reconnect_after=reconnect_after))


class FastConnection:
    """A viewer's own wire."""

    __slots__ = ("wire",)
    wire: Wire

    def say(self, data: bytes) -> None:
        self.wire.say(data)

    def send(self, data: bytes) -> bool:
        return self.wire.send(data)

    def cut(self, code: int, reason: str, reconnect_after: float | None) -> None:
        if reconnect_after is not None:
            self.wire.say(farewell(code, reason, reconnect_after))
        self.wire.close(code, reason)


class PlainConnection:
    """Tornado's websocket: what is delivered is written no faster than the browser reads."""

    def __init__(self, socket: LiveSocket) -> None:
        self.socket = socket
        self.awake = asyncio.Event()
        self.subscriber = Subscriber(self.wake)

    def wake(self) -> None:
        if self.subscriber.lagged:
            self.socket.close(CLOSE_SLOW, "too slow, come back")
        self.awake.set()

    async def send_forever(self) -> None:
        try:
            while True:
                await self.awake.wait()
                self.awake.clear()
                written = None
                for frame in self.subscriber.take():  # in one turn, or an answer about the topic could come between
                    written = self.socket.write_message(frame.data.decode())
                for _, shot in self.subscriber.take_pictures():
                    written = self.socket.write_message(shot.data, binary=True)
                if written is not None:
                    await written
                if self.subscriber.lagged:
                    return
        except (WebSocketClosedError, StreamClosedError):
            return

    def say(self, data: bytes) -> None:
        try:
            self.socket.write_message(data.decode()).add_done_callback(asyncio.Future.exception)
        except WebSocketClosedError:
            return

    def cut(self, code: int, reason: str, reconnect_after: float | None) -> None:
        if reconnect_after is not None:
            self.say(farewell(code, reason, reconnect_after))
        self.socket.close(code, reason)


class LiveSocket(Socket):
    """GET /api/live. Thin: conversations are in `Viewer`, long polls in `Poll`."""

    viewer: Viewer | None = None
    poll: Poll | None = None
    admitted: tuple[User, str, float] | None = None

    def admits_origin(self, origin: str) -> bool:
        return door.may_call(origin, self.request.host, self.rooms.settings)

    def check_handshake(self) -> None:
        if "topics" in self.request.query_arguments and "Upgrade" not in self.request.headers:
            self.poll = Poll(self)
        else:
            super().check_handshake()

    async def admit(self) -> None:
        """Sign in whoever can at this point: programs by their header, pages by a ticket."""
        door.check_query(self.request)
        ticket = self.get_query_argument("ticket", "")
        token = bearer_of(self.request.headers.get("Authorization", ""))
        if ticket:
            self.admitted = self.rooms.audience.redeem(ticket)
        elif token or self.poll is not None:
            user, claims = await self.rooms.identities.session(token)
            self.admitted = user, claims.jti, claims.exp
        if self.poll is not None and self.admitted is not None:
            self.poll.seat.admit(*self.admitted)
        elif self.admitted is not None:
            self.rooms.audience.check_room(self.admitted[0].id)

    async def options(self, *_: str) -> None:
        await Endpoint.options(self)  # type: ignore[arg-type]

    async def get(self, *arguments: Any, **options: Any) -> None:
        named = "Authorization" in self.request.headers  # a ticket is good for one request, and not in what repeats
        if self.poll is not None and named and kept_line.can_take(self):
            self.take_line()
        elif self.poll is not None:
            await self.poll.answer()
        else:
            await super().get(*arguments, **options)

    def take_line(self) -> None:
        """Answer this poll, and those that follow it on this connection, on the bare socket."""
        assert self.poll is not None and self.admitted is not None
        self.poll.seat.leave()
        self.poll = None
        line = PollLine(self)
        line.take()
        line.admit(*self.admitted)
        line.ask(self.request.query, {}, b"")

    def begin(self, taken: wire.Taken) -> None:
        connection = FastConnection()
        subscriber = Direct(lambda: None, connection.send, frames.event, frames.picture)
        viewer = Viewer(self.rooms, connection, subscriber)
        subscriber.wake = viewer.wake
        connection.wire = Wire(*taken, self.rooms.pulse, viewer)
        self.welcome(viewer)
        connection.wire.begin()

    def open(self, *_: str, **__: str) -> None:
        self.set_nodelay(True)
        connection = PlainConnection(self)
        self.viewer = Viewer(self.rooms, connection, connection.subscriber)
        self.rooms.runner.own(connection.send_forever())
        self.welcome(self.viewer)

    def welcome(self, viewer: Viewer) -> None:
        viewer.take()
        if self.admitted is not None:
            try:
                viewer.admit(*self.admitted)
            except RateLimited as error:
                viewer.close(CLOSE_CROWDED, error.detail)
        else:
            asyncio.get_running_loop().call_later(AUTH_S, viewer.check_signed_in)

    async def on_message(self, message: str | bytes) -> None:
        assert self.viewer is not None
        work = self.viewer.hear(message)
        if work is not None:
            await work

    def on_close(self) -> None:
        if self.viewer is not None:
            self.viewer.leave()
            self.viewer.subscriber.wake()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self.poll is not None:
            self.poll.gone()


class Ticket(Endpoint):
    """POST /api/live/ticket: a word that opens one connection once, for an address that cannot carry a token."""

    async def post(self) -> None:
        claims = self.rooms.tokens.read(self.bearer(), self.rooms.clock.wall())
        ticket = self.rooms.audience.issue(self.user, claims.jti, claims.exp)
        self.answer({"ticket": ticket, "expires_in": int(TICKET_S)}, 201)


ROUTES = [(r"/api/live", LiveSocket), (r"/api/live/ticket", Ticket)]
