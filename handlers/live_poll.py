"""Long polls: live topics for those whom no websocket reaches. A request asks what came after a cursor, and waits.

Owns how long a request is held and what is in its answer. Joins topics like every other transport.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec
from msgspec import Raw

from hub.errors import Forbidden, HubError, Invalid, Unauthorized, Unavailable
from hub.messages import Joined
from hub.runner import CLOSE_RESTART
from hub.subscriber import Subscriber

from . import previews, sight
from .answers import Answering
from .audience import CLOSE_FORBIDDEN, Seat

LONGEST_WAIT_S = 60.0
CONTENT_TYPE = "application/json; charset=utf-8"


class Poll:
    """One request."""

    def __init__(self, handler: Answering) -> None:
        self.handler = handler
        self.seat = Seat(handler.rooms, self, Subscriber(self.wake))
        self.news: asyncio.Future[None] | None = None
        self.ended: HubError | None = None
        self.left = False

    def wake(self) -> None:
        if self.news is not None and not self.news.done():
            self.news.set_result(None)

    def cut(self, code: int, reason: str, reconnect_after: float | None) -> None:
        self.ended = ending(code, reason, reconnect_after)
        self.wake()

    def gone(self) -> None:
        """The client has hung up."""
        self.left = True
        self.seat.leave()
        self.wake()

    async def answer(self) -> None:
        """Wait for news of the topics that are asked for, and tell them."""
        handler = self.handler
        joined = await self.missed(lambda: named(handler.get_query_argument("topics")), "cursor")
        shown = [
            previews.event(handler.rooms, topic, shot)
            for each in joined if (topic := handler.rooms.runner.topics.known(each.topic)) is not None
            for shot in topic.pictures.values()
        ]
        self.write({"v": 1, "cursor": sight.cursor(joined), "topics": joined, "previews": shown})

    async def answer_one(self, topic: str) -> None:
        """The same for one topic, whose state is the answer itself."""
        [joined] = await self.missed(lambda: [topic], "after")
        self.write({"cursor": sight.cursor([joined]), **msgspec.structs.asdict(joined)})

    async def missed(self, topics: Callable[[], list[str]], argument: str) -> list[Joined]:
        """Each topic with what came after the cursor in `argument`; where there is nothing, with what comes in time.

        Raises:
            HubError: the question makes no sense, a topic cannot be joined, or the connection was to be ended.
        """
        seat, user, handler = self.seat, self.seat.user, self.handler
        assert user is not None
        seat.take()
        try:
            names, cursor = topics(), handler.get_query_argument(argument, None)
            wait = seconds(handler.get_query_argument("wait", "0"))
            joined = [await sight.join(seat.rooms, user, seat.subscriber, name, cursor) for name in names]
            if wait and all(each.recovered and not each.events for each in joined):
                await self.hold(wait)
                joined = [self.come(each) for each in joined]
            if self.ended is not None:
                raise self.ended
            return joined
        finally:
            seat.leave()

    async def hold(self, wait: float) -> None:
        """Until there is news, the client hangs up, or the time is over."""
        if not (self.seat.subscriber.behind or self.left or self.ended):
            self.news = asyncio.get_running_loop().create_future()
            await asyncio.wait([self.news], timeout=wait)

    def come(self, before: Joined) -> Joined:
        """A topic with what has come since; if that is more than is kept, the next request learns it."""
        topic = self.seat.subscriber.topics.get(before.topic)
        frames = topic.after(before.offset) if topic is not None else None
        return sight.joined(topic, [Raw(frame.data) for frame in frames]) if topic is not None and frames else before

    def write(self, answer: object) -> None:
        if not self.left:
            self.handler.set_header("Content-Type", CONTENT_TYPE)
            self.handler.write(msgspec.json.encode(answer))


def named(text: str) -> list[str]:
    """The topics that a request names, separated by commas.

    Raises:
        Invalid: none, or too many.
    """
    topics = list(dict.fromkeys(text.split(",")))
    if not text or len(topics) > sight.SUBSCRIPTIONS:
        raise Invalid(f"topics are 1 to {sight.SUBSCRIPTIONS} names, separated by commas", code="bad_query")
    return topics


def seconds(text: str) -> float:
    """How long a request would wait, at most a minute.

    Raises:
        Invalid: that is no number of seconds.
    """
    try:
        wait = float(text)
    except ValueError:
        wait = math.nan
    if not wait >= 0 or len(text) > 20:
        raise Invalid("wait is a number of seconds", code="bad_query")
    return min(wait, LONGEST_WAIT_S)


def ending(code: int, reason: str, reconnect_after: float | None) -> HubError:
    """What the end of a connection means where there are no close codes."""
    if code == CLOSE_RESTART:
        return Unavailable(reason, retry_after=reconnect_after)
    return Forbidden(reason) if code == CLOSE_FORBIDDEN else Unauthorized(reason)
