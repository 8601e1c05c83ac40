"""Server-sent events: live topics over one long answer (the HTML standard's EventSource, section 9.2).

Owns the text of a stream: each event with an id that holds the cursors of all its topics, words that keep proxies
awake, and a last event that says why it ends. Joins topics like every other transport.
"""

from __future__ import annotations

import asyncio

from tornado.iostream import StreamClosedError

from hub import messages
from hub.errors import Forbidden
from hub.messages import Farewell, Joined
from hub.news import OWN
from hub.previews import Shot
from hub.subscriber import Subscriber
from hub.topics import Frame, Topic

from . import door, previews, sight
from .answers import Answering
from .audience import CLOSE_SLOW, Seat
from .base import Endpoint
from .live_poll import Poll, named
from .tasks import TaskEndpoint

KEEP_ALIVE_S = 15.0
PATIENCE_S = 40.0  # how long a client may take nothing of what is written
RETRY_MS = 3000


class Stream:
    """One answer that goes on."""

    def __init__(self, handler: Answering) -> None:
        self.handler = handler
        self.awake = asyncio.Event()
        self.seat = Seat(handler.rooms, self, Subscriber(self.awake.set))
        self.ended: Farewell | None = None
        self.left = False
        self.places: dict[str, int] = {}

    def cut(self, code: int, reason: str, reconnect_after: float | None) -> None:
        self.ended = Farewell(code=code, reason=reason, reconnect_after=reconnect_after)
        self.awake.set()

    def gone(self) -> None:
        """The client has hung up."""
        self.left = True
        self.seat.leave()
        self.awake.set()

    async def run(self, topics: list[str]) -> None:
        """Tell what was missed, then what comes, until either side ends it.

        Raises:
            HubError: a topic cannot be joined; nothing was written then.
        """
        seat, user = self.seat, self.seat.user
        assert user is not None
        seat.take()
        handler = self.handler
        try:
            after = handler.request.headers.get("Last-Event-ID") or handler.get_query_argument("after", None)
            after = after or handler.get_query_argument("cursor", None)
            joined = [await sight.join(seat.rooms, user, seat.subscriber, name, after) for name in topics]
            handler.set_header("Content-Type", "text/event-stream; charset=utf-8")
            handler.set_header("X-Accel-Buffering", "no")  # nginx would hold the stream back
            await self.write(self.opening(joined))
            for topic in seat.subscriber.topics.values():
                for shot in topic.pictures.values():
                    seat.subscriber.show(topic, shot)
            while not self.left and self.ended is None:
                await self.wait()
                frames, shots = seat.subscriber.take(), seat.subscriber.take_pictures()
                await self.write(self.text(frames) + b"".join(map(self.picture, shots)))
                if seat.subscriber.lagged and not self.left and self.ended is None:
                    self.cut(CLOSE_SLOW, "too slow, come back", None)
            if self.ended is not None:
                await self.write(b"data: " + messages.encode(self.ended) + b"\n\n")
        except (StreamClosedError, TimeoutError):
            self.left = True
        finally:
            seat.leave()
            if self.left:
                handler.request.connection.stream.close()  # type: ignore[union-attr]

    async def wait(self) -> None:
        """Until there is something to write."""
        try:
            await asyncio.wait_for(self.awake.wait(), KEEP_ALIVE_S)
        except TimeoutError:
            return
        self.awake.clear()

    def opening(self, joined: list[Joined]) -> bytes:
        """Where each topic stands; the id comes with the last, when everything is told."""
        self.places = {each.epoch: each.offset for each in joined}
        told = b"".join(b"data: " + messages.encode(each) + b"\n\n" for each in joined[:-1])
        return b"retry: %d\n\n%b%b" % (RETRY_MS, told, self.event(messages.encode(joined[-1])))

    def text(self, frames: list[Frame]) -> bytes:
        """Events as they are written; a comment where there are none."""
        parts = []
        for frame in frames:
            self.places[frame.epoch] = frame.offset
            parts.append(self.event(frame.data))
        return b"".join(parts) or b": still here\n\n"

    def picture(self, shown: tuple[Topic, Shot]) -> bytes:
        """A preview, which leaves the id as it is."""
        return b"data: " + messages.encode(previews.event(self.seat.rooms, *shown)) + b"\n\n"

    def event(self, data: bytes) -> bytes:
        return b"id: %b\ndata: %b\n\n" % (sight.joint(self.places).encode(), data)

    async def write(self, data: bytes) -> None:
        """Write, and wait until the client takes it."""
        if not self.left:
            self.handler.write(data)
            await asyncio.wait_for(self.handler.flush(), PATIENCE_S)


class LiveStream(Endpoint):
    """GET /api/live/stream?topics=: for browsers, with a ticket in the address because they cannot send a header."""

    access = "anyone"
    stream: Stream | None = None

    async def admit(self) -> None:
        origin = self.request.headers.get("Origin")
        if origin is not None and not door.may_call(origin, self.request.host, self.rooms.settings):
            raise Forbidden("pages of this origin may not connect")
        self.topics = named(self.get_query_argument("topics", ""))
        self.stream = Stream(self)
        ticket = self.get_query_argument("ticket", "")
        if ticket:
            self.stream.seat.admit(*self.rooms.audience.redeem(ticket))
        else:
            await self.stream.seat.sign_in(self.bearer())

    async def head(self, *_: str) -> None:
        """Nothing: a stream has no length."""
        assert self.stream is not None
        self.stream.seat.leave()

    async def get(self) -> None:
        assert self.stream is not None
        await self.stream.run(self.topics)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self.stream is not None:
            self.stream.gone()


class TaskEvents(TaskEndpoint):
    """GET /api/tasks/{id}/events: one task's events, at once, after a wait, or as a stream."""

    looking: Poll | Stream | None = None

    async def head(self, *_: str) -> None:
        """Nothing: what has happened has no length."""

    async def get(self, id: str) -> None:
        streams = "text/event-stream" in self.request.headers.get("Accept", "")
        looking = self.looking = Stream(self) if streams else Poll(self)
        claims = self.rooms.tokens.read(self.bearer(), self.rooms.clock.wall())
        looking.seat.admit(self.user, claims.jti, claims.exp)
        topic = f"{OWN}{id}"
        if isinstance(looking, Stream):
            await looking.run([topic])
        else:
            await looking.answer_one(topic)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self.looking is not None:
            self.looking.gone()


ROUTES = [(r"/api/live/stream", LiveStream), (r"/api/tasks/([^/]+)/events", TaskEvents)]
