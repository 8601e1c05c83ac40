"""The live websocket for browsers: sign in, subscribe, and see what happens while it happens."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from hub import messages
from hub.account import User
from hub.errors import Forbidden, HubError, Invalid, NotFound, Unauthorized
from hub.messages import Auth, BadMessage, Ping, Reply, Subscribe, Subscribed, Unsubscribe
from hub.task import Task
from hub.topics import Subscriber, Topic

from .base import Rooms, check_id
from .door import may_call
from .sockets import Socket

AUTH_S = 10.0  # seconds in which a socket must say who it is
SNAPSHOT = 50  # tasks in a snapshot of "tasks"
SUBSCRIPTIONS = 200
CLOSE_UNAUTHORIZED, CLOSE_BAD_MESSAGE, CLOSE_SLOW = 4401, 1008, 4500


class Viewer:
    """One browser's connection: what it may see and what waits to be sent to it."""

    def __init__(self, rooms: Rooms, socket: LiveSocket) -> None:
        self.rooms = rooms
        self.socket = socket
        self.user: User | None = None
        self.session = ""
        self.ending: asyncio.TimerHandle | None = None
        self.subscriber = Subscriber(self.wake)
        self.awake = asyncio.Event()

    def wake(self) -> None:
        if self.subscriber.lagged:
            self.socket.close(CLOSE_SLOW, "too slow, come back")
        self.awake.set()

    async def send_forever(self) -> None:
        """Write what is delivered, no faster than the browser reads."""
        try:
            while True:
                await self.awake.wait()
                self.awake.clear()
                while (frame := self.subscriber.next()) is not None:
                    await self.socket.write_message(frame.data.decode())
                if self.subscriber.lagged:
                    return
        except (WebSocketClosedError, StreamClosedError):
            return

    async def handle(self, raw: str | bytes) -> None:
        """Answer one message with exactly one reply."""
        message = messages.decode(messages.from_browser, raw)
        try:
            reply = await self.reply(message)
        except HubError as error:
            reply = messages.Refused(id=message.id, code=error.code, detail=error.detail)
        await self.socket.write_message(messages.encode(reply).decode())
        if self.user is None:
            self.socket.close(CLOSE_UNAUTHORIZED, "sign in first")

    async def reply(self, message: messages.FromBrowser) -> Reply:
        if isinstance(message, Auth):
            return await self.sign_in(message)
        if self.user is None:
            raise Unauthorized("sign in first")
        match message:
            case Subscribe():
                return await self.subscribe(message, self.user)
            case Unsubscribe():
                self.subscriber.unsubscribe(message.topic)
                return messages.Unsubscribed(id=message.id, topic=message.topic)
            case Ping():
                return messages.Pong(id=message.id)

    async def sign_in(self, message: Auth) -> Reply:
        """Note whose connection this is, and end it with the token.

        Raises:
            Unauthorized: the token opens nothing.
            Forbidden: the connection is somebody else's already.
        """
        user = await self.rooms.identities.user(message.token)
        if self.user is not None and self.user.id != user.id:
            raise Forbidden("somebody else has signed in on this connection")
        wall = self.rooms.clock.wall()
        claims = self.rooms.tokens.read(message.token, wall)
        self.user, self.session = user, claims.jti
        self.end_timer()
        self.ending = asyncio.get_running_loop().call_later(claims.exp - wall, self.sign_out)
        return messages.Authed(id=message.id, user=user.id)

    def sign_out(self) -> None:
        """The token is void."""
        self.socket.close(CLOSE_UNAUTHORIZED, "sign in again")

    def end_timer(self) -> None:
        if self.ending is not None:
            self.ending.cancel()

    def leave(self) -> None:
        """The connection is gone: leave nothing behind."""
        self.end_timer()
        self.subscriber.close()
        self.subscriber.lagged = True
        self.wake()

    async def subscribe(self, message: Subscribe, user: User) -> Subscribed:
        """Join a topic: with what was missed where that can be told whole, else with a snapshot.

        Raises:
            NotFound: no such topic, or somebody else's task.
            Invalid: too many subscriptions.
        """
        if len(self.subscriber.topics) >= SUBSCRIPTIONS and message.topic not in self.subscriber.topics:
            raise Invalid(f"at most {SUBSCRIPTIONS} subscriptions a connection")
        topic, snapshot = await self.topic(message.topic, user)
        # From here to the subscription nothing awaits, so no event falls between the two.
        missed = topic.since(message.after) if message.after else None
        if missed is None:
            snapshot = snapshot()
        self.subscriber.subscribe(topic)
        return Subscribed(
            id=message.id, topic=message.topic, epoch=topic.epoch, offset=topic.offset,
            recovered=missed is not None, snapshot=None if missed is not None else snapshot,
            events=[frame.event for frame in missed or ()],
        )

    async def topic(self, name: str, user: User) -> tuple[Topic, Any]:
        """The topic of that name and a function that makes its snapshot at once."""
        runner = self.rooms.runner
        if name == "tasks":
            topic = runner.topics.get("tasks", user.id)
            found = await self.rooms.store.page(Task, SNAPSHOT, owner=user.id)
            return topic, lambda: {"items": [
                runner.view(task) for task in runner.shown.snapshot(found, user.id, SNAPSHOT)
            ]}
        kind, _, id = name.partition(":")
        task = await self.rooms.store.get(Task, check_id(id)) if kind == "task" else None
        if task is None or task.owner != user.id:
            raise NotFound("there is no such topic")
        return runner.topic(id), lambda: runner.view(task)


class LiveSocket(Socket):
    """GET /api/live. Thin: everything is in `Viewer`."""

    viewer: Viewer

    def admits_origin(self, origin: str) -> bool:
        return may_call(origin, self.request.host, self.rooms.settings)

    def open(self, *_: str, **__: str) -> None:
        self.set_nodelay(True)
        self.viewer = Viewer(self.rooms, self)
        self.rooms.runner.viewers.add(self)
        self.rooms.runner.own(self.viewer.send_forever())
        asyncio.get_running_loop().call_later(AUTH_S, self.check_signed_in)

    def check_signed_in(self) -> None:
        if self.viewer.user is None:
            self.close(CLOSE_UNAUTHORIZED, "sign in first")

    async def on_message(self, message: str | bytes) -> None:
        try:
            await self.viewer.handle(message)
        except BadMessage as error:
            self.close(CLOSE_BAD_MESSAGE, str(error)[:100].encode("ascii", "replace").decode())
        except WebSocketClosedError:
            return

    def on_close(self) -> None:
        self.rooms.runner.viewers.discard(self)
        self.viewer.leave()


def sign_out(rooms: Rooms, user_id: str, session: str | None = None) -> None:
    """End the live connections of a user, or of one session (a token's jti) alone."""
    for socket in tuple(rooms.runner.viewers):
        if isinstance(socket, LiveSocket) and (user := socket.viewer.user) is not None and user.id == user_id:
            if session in (None, socket.viewer.session):
                socket.viewer.sign_out()


ROUTES = [(r"/api/live", LiveSocket)]
