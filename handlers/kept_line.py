"""A kept connection on its bare socket, for requests that repeat: what repeats is not looked at again.

The first request is admitted in Tornado's way, and so it is said who this is. One that follows with the very same
headers, but for those in VARYING, is the same client asking on, and costs next to nothing. Any other request gives the
connection back to Tornado, unread: behind a proxy the next one may be somebody else's.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, format_timestamp
from tornado.iostream import IOStream

from hub.errors import HubError
from hub.ids import new_id

from . import wire
from .access import Access
from .answers import Answering
from .problems import CONTENT_TYPE as PROBLEM, problem, speaks_chinese, status_of

QUIET_S = 75.0  # without a request
REST_S = 30.0  # for the rest of a request that has begun
LARGEST = 64 * 1024  # bytes of a request; a larger one is Tornado's
END = b" HTTP/1.1"
LENGTH, KEY = b"content-length", b"idempotency-key"
VARYING = (LENGTH, KEY)
REASONS = {200: "OK", 201: "Created"}
JSON = "application/json; charset=utf-8"

Said = Mapping[bytes, str]  # the varying headers of one request


class Asked(Protocol):
    """Who answers the requests of a line, one at a time, by its `write` or `refuse`."""

    def ask(self, query: str, said: Said, body: bytes) -> None:
        """Take a request; the next one comes when this one is answered."""

    def gone(self) -> None:
        """The line is over, or somebody else's."""


class KeptLine:
    """One connection, taken over in the middle of its first request, which is to be answered here.

    `start` is what the lines of its requests begin with; where that ends with a question mark, a query follows.
    `asked` is whether a request waits for its answer.
    """

    __slots__ = (
        "socket", "loop", "server", "address", "start", "headers", "fixed", "head", "said", "block", "chinese",
        "asked", "since", "timer", "inbox", "reading", "unsent", "last", "access", "listener",
    )

    def __init__(
        self, handler: Answering, taken: socket.socket, heard: bytes, start: bytes, listener: Asked,
    ) -> None:
        self.socket = taken
        self.loop = asyncio.get_running_loop()
        self.server: HTTPServer = handler.settings["server"]
        self.address = taken.getpeername()
        self.start = start
        self.headers = fixed(handler.request.headers)
        self.fixed = self.head = b""
        self.said: Said = {}
        lines = ((name, value) for name, value in handler._headers.get_all() if name not in ("Content-Type", "Date"))
        self.block = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")
        self.chinese = speaks_chinese(handler.request.headers.get("Accept-Language", ""))
        self.asked = self.reading = True
        self.since = self.loop.time() - handler.request.request_time()
        self.timer: asyncio.TimerHandle | None = None
        self.inbox = heard
        self.unsent = b""
        self.last = False
        self.access = Access(handler)
        self.listener = listener
        self.loop.add_reader(self.socket.fileno(), self.readable)

    # --- asking -------------------------------------------------------------------------------------------------

    def readable(self) -> None:
        if len(self.inbox) > LARGEST:  # who asks on without waiting for answers waits to be read
            self.reading = False
            self.loop.remove_reader(self.socket.fileno())
            return
        data = wire.read_from(self.socket)
        if data is None:
            return
        if not data:
            return self.lost()
        self.inbox += data
        self.work()

    def work(self) -> None:
        """Take the next request, if the one before is answered and this one is whole."""
        if self.asked or self.unsent or not self.inbox:
            return
        line, _, rest = self.inbox.partition(b"\r\n")
        head, end, after = rest.partition(b"\r\n\r\n")
        if not end:
            if len(self.inbox) > LARGEST or not self.start.startswith(self.inbox[:len(self.start)]):
                return self.give_back()
            return self.limit(REST_S)
        query, said = self.query(line), self.read(head)
        length = int(said.get(LENGTH, "0")) if said is not None else 0
        if query is None or said is None or len(self.inbox) - len(after) + length > LARGEST:
            return self.give_back()
        if len(after) < length:
            return self.limit(REST_S)
        self.inbox = after[length:]
        self.cancel_timer()
        self.asked, self.since = True, self.loop.time()
        self.listener.ask(query, said, after[:length])
        if not self.reading and len(self.inbox) <= LARGEST and self.socket.fileno() >= 0:
            self.reading = True
            self.loop.add_reader(self.socket.fileno(), self.readable)

    def query(self, line: bytes) -> str | None:
        """What a request's first line asks for; None where it is not of this line's kind."""
        if not line.startswith(self.start) or not line.endswith(END):
            return None
        query = line[len(self.start):-len(END)]
        return None if query and not self.start.endswith(b"?") else query.decode("latin-1")

    def read(self, head: bytes) -> Said | None:
        """The varying headers; None where the others are not those of the request that was admitted."""
        if head == self.head:
            return self.said
        others, said = [], {}
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            name = name.lower()
            if name not in VARYING:
                others.append(line)
                continue
            text = value.strip(b" \t").decode("latin-1")
            if name in said or not plain(name, text):
                return None
            said[name] = text
        rest = b"\r\n".join(others)
        if rest != self.fixed:
            try:
                if fixed(HTTPHeaders.parse(rest.decode("latin-1"))) != self.headers:
                    return None
            except Exception:  # whatever is wrong with them, it is Tornado's to say
                return None
            self.fixed = rest
        self.head, self.said = head, said
        return said

    # --- answering ----------------------------------------------------------------------------------------------

    def refuse(self, error: HubError) -> None:
        """Answer with a problem."""
        body = msgspec.json.encode(problem(error, self.access.path[:300], new_id(), self.chinese))
        more = f"Retry-After: {max(1, round(error.retry_after))}\r\n" if error.retry_after is not None else ""
        more += "WWW-Authenticate: Bearer\r\n" if status_of(error) == 401 else ""
        self.write(status_of(error), body, more, PROBLEM)

    def write(self, status: int, body: bytes, more: str = "", kind: str = JSON) -> None:
        """Write an answer, with `more` header lines, and wait for the next request."""
        self.asked = False
        if self.socket.fileno() < 0:
            return
        self.access.tell(status, self.loop.time() - self.since)
        more += "Connection: close\r\n" if self.last else ""
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Refused')}\r\nContent-Type: {kind}\r\n{more}Date: {date()}\r\n"
        answer = b"%b%bContent-Length: %d\r\n\r\n%b" % (head.encode("latin-1"), self.block, len(body), body)
        try:
            sent = self.socket.send(answer)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return self.lost()
        self.limit(QUIET_S)
        if sent < len(answer):
            self.unsent = answer[sent:]
            self.loop.add_writer(self.socket.fileno(), self.writable)
        elif self.last:
            self.lost()
        elif self.inbox:
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
            if self.last:
                return self.lost()
            self.work()

    # --- ending -------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Let it end, after the answer that is due."""
        self.last = True
        if not self.asked and not self.unsent:
            self.lost()

    def limit(self, seconds: float) -> None:
        """Give the client so long to go on, or less if it has been given less before."""
        until = self.loop.time() + seconds
        if self.timer is None or self.timer.when() > until:
            self.cancel_timer()
            self.timer = self.loop.call_at(until, self.lost)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def let_go(self) -> None:
        """Leave nothing behind but the socket."""
        self.cancel_timer()
        self.loop.remove_reader(self.socket.fileno())
        self.loop.remove_writer(self.socket.fileno())
        self.asked = False
        self.listener.gone()

    def lost(self) -> None:
        """The connection is over."""
        if self.socket.fileno() >= 0:
            self.let_go()
            self.socket.close()

    def give_back(self) -> None:
        """Let Tornado serve what comes now, with what was read ahead."""
        self.let_go()
        stream: Any = IOStream(self.socket)
        stream._read_buffer += self.inbox
        stream._read_buffer_size += len(self.inbox)
        self.server.handle_stream(stream, self.address)


def fixed(headers: HTTPHeaders) -> dict[str, str]:
    """The headers that do not vary."""
    return {name: value for name, value in headers.items() if name.lower().encode("latin-1") not in VARYING}


def plain(name: bytes, value: str) -> bool:
    """Whether a varying header can be read by nobody in another way; what it says is judged where it is used."""
    if name == LENGTH:
        return value.isascii() and value.isdigit() and len(value) < 8
    return value.isprintable()


def date() -> str:
    """The time of an answer (RFC 9110 section 6.6.1)."""
    return formatted(int(time.time()))


@lru_cache(1)
def formatted(seconds: int) -> str:
    return format_timestamp(seconds)


def can_take(handler: Answering) -> bool:
    """Whether what follows on this connection can be served here, and given back where it cannot."""
    request = handler.request
    stream: Any = request.connection.stream  # type: ignore[union-attr]
    kept = request.version == "HTTP/1.1" and "close" not in request.headers.get("Connection", "").lower()
    known = isinstance(getattr(stream, "_read_buffer_size", None), int)
    unusual = any(name in request.headers for name in ("Transfer-Encoding", "Expect", "Upgrade"))
    return kept and known and not unusual and wire.can_take_over(stream)


def take(handler: Answering) -> tuple[socket.socket, bytes]:
    """The connection of a request that `can_take` approves of, and what was read ahead of it."""
    stream: Any = handler.detach()
    stream.set_nodelay(True)
    taken = wire.take_over(stream)
    assert taken is not None
    return taken
