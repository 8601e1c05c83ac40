"""Long polls on a kept connection, for those who ask again and again.

Owns where each connection stands in its topics, so that whoever asks on from there is told without looking anything up.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

import msgspec
import structlog

from hub.errors import HubError, Invalid
from hub.subscriber import Subscriber
from hub.topics import Frame

from . import kept_line, previews, sight
from .answers import Answering
from .audience import Seat
from .kept_line import KeptLine, Said
from .live_poll import ending, named, seconds

log = structlog.get_logger(__name__)

START = b"GET /api/live?"


def listed(frame: Frame) -> bytes:
    """An event as one of many in a JSON list."""
    return b"," + frame.data


class PollLine(Seat):
    """One connection. `at` is the cursor of the last answer, `busy` whether something is looked up for the next one."""

    __slots__ = ("line", "loop", "names", "at", "busy", "timer")

    def __init__(self, handler: Answering) -> None:
        super().__init__(handler.rooms, self, Subscriber(self.news))
        self.loop = asyncio.get_running_loop()
        self.names: list[str] = []
        self.at = ""
        self.busy = False
        self.timer: asyncio.TimerHandle | None = None
        self.line = KeptLine(handler, *kept_line.take(handler), START, self)

    # --- asking -------------------------------------------------------------------------------------------------

    def ask(self, query: str, said: Said, body: bytes) -> None:
        """One question: for what came after a cursor, or for anything else that has to be looked up."""
        try:
            arguments = parse_qs(query, keep_blank_values=True, strict_parsing=True, max_num_fields=20, errors="strict")
            names = named(arguments.pop("topics", [""])[-1])
            cursor = arguments.pop("cursor", [""])[-1]
            wait = seconds(arguments.pop("wait", ["0"])[-1])
        except HubError as error:
            return self.line.refuse(error)
        except ValueError:
            return self.line.refuse(Invalid("the query string cannot be read", code="bad_query"))
        if names == self.names and cursor == self.at and not self.subscriber.lagged:
            if self.subscriber.behind or self.subscriber.pictures or not wait:
                return self.tell()
            self.timer = self.loop.call_later(wait, self.tell)
        else:
            self.busy = True
            self.loop.create_task(self.join(names, cursor, wait))

    async def join(self, names: list[str], cursor: str, wait: float) -> None:
        """Join other topics, or go back to another place."""
        try:
            assert self.user is not None
            self.subscriber.close()
            self.subscriber = Subscriber(self.news)
            joined = [await sight.join(self.rooms, self.user, self.subscriber, name, cursor) for name in names]
            self.busy = False
            self.names, self.at = names, sight.cursor(joined)
            if not self.line.asked:
                self.subscriber.close()  # the client has hung up meanwhile
            elif wait and all(each.recovered and not each.events for each in joined):
                if self.subscriber.behind:
                    self.tell()
                else:
                    self.timer = self.loop.call_later(wait, self.tell)
            else:
                self.write_topics([msgspec.json.encode(each) for each in joined])
        except HubError as error:
            self.names = []
            self.line.refuse(error)
        except Exception:
            log.exception("poll_failed")
            self.line.lost()
        finally:
            self.busy = False

    # --- answering ----------------------------------------------------------------------------------------------

    def news(self) -> None:
        """There is something new; who does not ask just now is told with the next answer."""
        if self.line.asked and not self.busy and not self.subscriber.lagged:
            self.tell()

    def tell(self) -> None:
        """Answer with what has come; if that is not kept any more, with where things stand."""
        self.cancel_timer()
        subscriber, topics = self.subscriber, []
        for topic, place in subscriber.places.items():
            piece = topic.gathered(place, listed) if place != topic.offset else (b"", place)
            if piece is None:
                self.busy = True
                self.loop.create_task(self.join(self.names, "", 0.0))
                return
            events, subscriber.places[topic] = piece
            topics.append(
                b'{"type":"subscribed","topic":"%b","epoch":"%b","offset":%d,"recovered":true,"snapshot":null,'
                b'"events":[%b],"v":1}' % (topic.name.encode(), topic.epoch.encode(), piece[1], events[1:]),
            )
        self.at = sight.joint({topic.epoch: place for topic, place in subscriber.places.items()})
        if all(place == topic.offset for topic, place in subscriber.places.items()):
            subscriber.follow()
        self.write_topics(topics)

    def write_topics(self, topics: list[bytes]) -> None:
        self.subscriber.take_pictures()  # all that there are are told in any case
        shown = [
            msgspec.json.encode(previews.event(self.rooms, topic, shot))
            for topic in self.subscriber.places for shot in topic.pictures.values()
        ]
        body = b'{"v":1,"cursor":"%b","topics":[%b],"previews":[%b]}'
        self.line.write(200, body % (self.at.encode(), b",".join(topics), b",".join(shown)))

    # --- ending -------------------------------------------------------------------------------------------------

    def cut(self, code: int, reason: str, reconnect_after: float | None) -> None:
        """The one who asks has to go: say why, where somebody waits for an answer."""
        asked = self.line.asked
        self.line.end()
        if asked:
            self.line.refuse(ending(code, reason, reconnect_after))

    def gone(self) -> None:
        """Leave nothing behind."""
        self.cancel_timer()
        self.leave()

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
