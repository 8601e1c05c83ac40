"""Long polls on a bare socket, for those who ask again and again: what repeats is not looked at again.

The first request is admitted in Tornado's way, by the token in its headers, and so it is said who this is. One that
follows with the very same headers is the same client asking on, and costs next to nothing; any other request gives the
connection back to Tornado, unread: behind a proxy the next one may be somebody else's.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import parse_qs

import msgspec
import structlog
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream

from hub.errors import HubError, Invalid
from hub.ids import new_id
from hub.subscriber import Subscriber
from hub.topics import Frame

from . import previews, sight
from .answers import Answering
from .audience import Seat
from .live_poll import CONTENT_TYPE, ending, named, seconds
from .problems import CONTENT_TYPE as PROBLEM, problem, speaks_chinese, status_of

log = structlog.get_logger(__name__)

PATH = b"GET /api/live?"
QUIET_S = 75.0  # without a request
LARGEST = 64 * 1024  # bytes of a request, which has no body
REASONS = {200: "OK"}


def listed(frame: Frame) -> bytes:
    """An event as one of many in a JSON list."""
    return b"," + frame.data


class PollLine(Seat):
    """One connection. `asked` is whether a request waits for its answer; `at` is the cursor of the last one given."""

    __slots__ = (
        "socket", "loop", "server", "address", "headers", "head", "block", "chinese", "names", "at", "asked", "busy",
        "timer", "inbox", "unsent",
    )

    def __init__(self, handler: Answering, taken: socket.socket, heard: bytes, server: HTTPServer) -> None:
        super().__init__(handler.rooms, self, Subscriber(self.news))
        self.socket = taken
        self.loop = asyncio.get_running_loop()
        self.server = server
        self.address = taken.getpeername()
        self.headers = handler.request.headers
        self.head = b""
        lines = ((name, value) for name, value in handler._headers.get_all() if name not in ("Content-Type", "Date"))
        self.block = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
        self.chinese = speaks_chinese(handler.request.headers.get("Accept-Language", ""))
        self.names: list[str] = []
        self.at = ""
        self.asked = self.busy = False
        self.timer: asyncio.TimerHandle | None = None
        self.inbox = heard
        self.unsent = b""

    def begin(self, query: str) -> None:
        """Take the first request's question, and listen."""
        self.take()
        self.loop.add_reader(self.socket.fileno(), self.readable)
        self.ask(query)

    # --- asking -------------------------------------------------------------------------------------------------

    def readable(self) -> None:
        try:
            data = self.socket.recv(LARGEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data or len(self.inbox) > LARGEST:
            return self.lost()
        self.inbox += data
        self.work()

    def work(self) -> None:
        """Take the next request, if the one before is answered and this one is whole."""
        if self.asked or self.busy or self.unsent:
            return
        line, _, rest = self.inbox.partition(b"\r\n")
        head, end, after = rest.partition(b"\r\n\r\n")
        if end and (not line.startswith(PATH) or not line.endswith(b" HTTP/1.1") or not self.repeats(head)):
            self.give_back()
        elif end:
            self.inbox = after
            self.ask(line[len(PATH):-len(b" HTTP/1.1")].decode("latin-1"))
        elif len(self.inbox) > LARGEST or not PATH.startswith(self.inbox[:len(PATH)]):
            self.give_back()

    def repeats(self, head: bytes) -> bool:
        """Whether headers are those of the request that was admitted."""
        if head == self.head:
            return True
        try:
            same = HTTPHeaders.parse(head.decode("latin-1")) == self.headers
        except Exception:  # whatever is wrong with them, it is Tornado's to say
            return False
        if same:
            self.head = head
        return same

    def ask(self, query: str) -> None:
        """One question: for what came after a cursor, or for anything else that has to be looked up."""
        self.cancel_timer()
        self.asked = True
        try:
            arguments = parse_qs(query, keep_blank_values=True, strict_parsing=True, max_num_fields=20, errors="strict")
            names = named(arguments.pop("topics", [""])[-1])
            cursor = arguments.pop("cursor", [""])[-1]
            wait = seconds(arguments.pop("wait", ["0"])[-1])
        except HubError as error:
            return self.refuse(error)
        except ValueError:
            return self.refuse(Invalid("the query string cannot be read", code="bad_query"))
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
            self.names, self.at = names, sight.cursor(joined)
            if wait and all(each.recovered and not each.events for each in joined):
                if self.subscriber.behind:
                    self.tell()
                elif self.socket.fileno() >= 0:
                    self.timer = self.loop.call_later(wait, self.tell)
            else:
                self.write_topics([msgspec.json.encode(each) for each in joined])
        except HubError as error:
            self.names = []
            self.refuse(error)
        except Exception:
            log.exception("poll_failed")
            self.lost()
        finally:
            self.busy = False
            if not self.asked:
                self.work()

    # --- answering ----------------------------------------------------------------------------------------------

    def news(self) -> None:
        """There is something new; who does not ask just now is told with the next answer."""
        if self.asked and not self.busy and not self.subscriber.lagged:
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
        self.write(200, CONTENT_TYPE, body % (self.at.encode(), b",".join(topics), b",".join(shown)))

    def refuse(self, error: HubError, last: bool = False) -> None:
        """Answer with a problem."""
        request_id = new_id()
        body = msgspec.json.encode(problem(error, "/api/live", request_id, self.chinese))
        more = f"Retry-After: {max(1, round(error.retry_after))}\r\n" if error.retry_after is not None else ""
        more += "WWW-Authenticate: Bearer\r\n" if status_of(error) == 401 else ""
        self.write(status_of(error), PROBLEM, body, more + ("Connection: close\r\n" if last else ""))

    def write(self, status: int, kind: str, body: bytes, more: str = "") -> None:
        """Write an answer, and wait for the next request."""
        self.asked = False
        self.cancel_timer()
        if self.socket.fileno() < 0:
            return
        self.timer = self.loop.call_later(QUIET_S, self.lost)
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Refused')}\r\nContent-Type: {kind}\r\n{more}"
        answer = b"%b%bContent-Length: %d\r\n\r\n%b" % (head.encode(), self.block, len(body), body)
        try:
            sent = self.socket.send(answer)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return self.lost()
        if sent < len(answer):
            self.unsent = answer[sent:]
            self.loop.add_writer(self.socket.fileno(), self.writable)
        elif self.inbox and not self.busy:
            self.loop.call_soon(self.work)

    def writable(self) -> None:
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent):]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            return self.lost()
        if not self.unsent:
            self.loop.remove_writer(self.socket.fileno())
            self.work()

    # --- ending -------------------------------------------------------------------------------------------------

    def cut(self, code: int, reason: str, reconnect_after: float | None) -> None:
        """The one who asks has to go: say why, where somebody waits for an answer."""
        if self.asked:
            self.refuse(ending(code, reason, reconnect_after), last=True)
        self.lost()

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def detach(self) -> None:
        """Let go of the socket, and leave nothing behind."""
        self.cancel_timer()
        self.loop.remove_reader(self.socket.fileno())
        self.loop.remove_writer(self.socket.fileno())
        self.asked = False
        self.leave()

    def lost(self) -> None:
        """The connection is over."""
        if self.socket.fileno() >= 0:
            self.detach()
            self.socket.close()

    def give_back(self) -> None:
        """Let Tornado serve what comes now, with what was read ahead."""
        self.detach()
        stream: Any = IOStream(self.socket)
        stream._read_buffer += self.inbox
        stream._read_buffer_size += len(self.inbox)
        self.server.handle_stream(stream, self.address)


def can_give_back(stream: Any) -> bool:
    """Whether a stream takes what was read ahead in the way that `give_back` gives it."""
    return isinstance(getattr(stream, "_read_buffer_size", None), int)
