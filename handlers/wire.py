"""A websocket on its bare socket, for workers and thousands of viewers: frames go straight out, without a buffer.

Owns the bytes both ways, pings and the closing handshake (RFC 6455). Takes the connection over from Tornado after the
handshake; `take_over` says whether that can be done, and where not, Tornado's own websocket serves.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, Protocol

import structlog
from tornado.iostream import IOStream

from hub.messages import MAX_MESSAGE

from . import frames
from .frames import BadFrame

log = structlog.get_logger(__name__)

FAST = True  # whether sockets are taken over from Tornado where that can be done
READ = 64 * 1024  # bytes read at once
GOODBYE_S = 5.0  # for the other side to close
MOST_UNSENT = 1024 * 1024  # bytes that may wait for one who does not read
A_SECOND = 50  # messages that are heard of one whose burst is over
BEATS = 20  # seconds between two pings; one who was silent since the last is gone

Taken = tuple[socket.socket, bytes]  # a socket, and what was read from it already


class Listener(Protocol):
    """What a wire belongs to; `burst` is how many messages may come at once before the other side has to wait."""

    @property
    def burst(self) -> float: ...

    def hear(self, message: str | bytes) -> Coroutine[Any, Any, None] | None:
        """Take one message: at once, or as work during which nothing more is heard."""

    def drained(self) -> None:
        """Everything was taken by the socket."""

    def gone(self) -> None:
        """The connection is over."""


class Wire:
    """One connection. `quiet` is whether nothing was heard since the last ping."""

    __slots__ = (
        "socket", "loop", "pulse", "listener", "inbox", "pieces", "unsent", "busy", "reading", "quiet", "ending",
        "level", "level_at",
    )

    def __init__(self, taken: socket.socket, heard: bytes, pulse: Pulse, listener: Listener) -> None:
        self.socket = taken
        self.loop = asyncio.get_running_loop()
        self.pulse = pulse
        self.listener = listener
        self.inbox = heard
        self.pieces: tuple[int, bytes] | None = None
        self.unsent: memoryview | None = None
        self.busy = self.quiet = False
        self.reading = True
        self.ending: asyncio.TimerHandle | None = None
        self.level = self.level_at = 0.0

    def begin(self) -> None:
        """Listen."""
        self.loop.add_reader(self.socket.fileno(), self.readable)
        self.pulse.add(self)
        self.work()

    # --- writing ------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> bool:
        """Give whole frames to the socket, or keep what it does not take; whether it would take more.

        Nothing follows a close frame (RFC 6455 section 5.5.1).
        """
        if self.ending is not None:
            return False
        if self.unsent is not None:
            if len(self.unsent) + len(data) > MOST_UNSENT:
                self.lost()
            else:
                self.unsent = memoryview(bytes(self.unsent) + data)
            return False
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.lost_soon()
            return False
        if sent == len(data):
            return True
        self.unsent = memoryview(data)[sent:]
        self.loop.add_writer(self.socket.fileno(), self.writable)
        return False

    def writable(self) -> None:
        assert self.unsent is not None
        try:
            sent = self.socket.send(self.unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            return self.lost()
        self.quiet = False  # who takes is there, although nothing is heard meanwhile
        if sent < len(self.unsent):
            self.unsent = self.unsent[sent:]
            return
        self.unsent = None
        self.loop.remove_writer(self.socket.fileno())
        if self.ending is None:
            self.listener.drained()
            self.work()

    def say(self, payload: bytes) -> None:
        """Send a text message."""
        self.send(frames.encoded(payload))

    def ping(self) -> None:
        """Ask whether anybody is there; one who has not answered the last time is gone."""
        if self.quiet:
            return self.lost()
        self.quiet = True
        if self.unsent is None:
            self.send(frames.encoded(b"", frames.PING))

    # --- reading ------------------------------------------------------------------------------------------------

    def readable(self) -> None:
        if self.busy or self.unsent is not None:  # who does not read, or asks much, is not listened to meanwhile
            self.reading = False
            self.loop.remove_reader(self.socket.fileno())
            return
        data = read_from(self.socket)
        if data is None:
            return
        if not data:
            return self.lost()
        self.quiet = False
        self.inbox = self.inbox + data if self.inbox else data
        self.work()

    def work(self) -> None:
        """Handle what was heard, message by message."""
        at = 0
        try:
            while at < len(self.inbox) and not self.busy and self.unsent is None:
                frame = frames.first(self.inbox, MAX_MESSAGE, at)
                if frame is None:
                    break
                opcode, final, payload, at = frame
                self.take(opcode, final, payload)
        except BadFrame as error:
            self.inbox = b""
            self.close(error.code, str(error))
            self.lost_soon()
        self.inbox = self.inbox[at:]
        if not self.reading and not self.busy and self.unsent is None and self.socket.fileno() >= 0:
            self.reading = True
            self.loop.add_reader(self.socket.fileno(), self.readable)

    def take(self, opcode: int, final: bool, payload: bytes) -> None:
        """One frame.

        Raises:
            BadFrame: it may not come now, or its text is none.
        """
        if opcode == frames.PING:
            self.send(frames.encoded(payload, frames.PONG))
        elif opcode == frames.CLOSE:
            self.send(frames.encoded(payload[:2], frames.CLOSE))
            self.lost_soon()
        elif opcode != frames.PONG:
            if (opcode == frames.CONTINUATION) != (self.pieces is not None):
                raise BadFrame(frames.PROTOCOL_ERROR, "pieces of a message come in order")
            if self.pieces is not None:
                opcode, payload = self.pieces[0], self.pieces[1] + payload
                if len(payload) > MAX_MESSAGE:
                    raise BadFrame(frames.TOO_BIG, "message too big")
            self.pieces = None if final else (opcode, payload)
            if final and self.ending is None:
                self.pass_on(opcode, payload)

    def pass_on(self, opcode: int, payload: bytes) -> None:
        try:
            message = payload.decode() if opcode == frames.TEXT else payload
        except UnicodeDecodeError:
            raise BadFrame(frames.BAD_DATA, "text that is not UTF-8") from None
        now = self.loop.time()
        self.level = max(0.0, self.level - (now - self.level_at) * A_SECOND) + 1
        self.level_at = now
        try:
            work = self.listener.hear(message)
        except Exception:
            return self.failed()
        if work is not None:
            self.busy = True
            self.loop.create_task(self.finish(work))
        elif self.level > self.listener.burst:
            self.busy = True
            self.loop.call_later(1 / A_SECOND, self.go_on)

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            self.failed()
        if self.level > self.listener.burst:
            await asyncio.sleep(1 / A_SECOND)
        self.go_on()

    def failed(self) -> None:
        """A message ran into a mistake of ours: the other side had better come back."""
        log.exception("websocket_message_failed")
        self.close(1011, "internal error")

    def go_on(self) -> None:
        """Listen again."""
        self.busy = False
        self.work()

    # --- ending -------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Say why it ends, and give the other side a moment to close."""
        if self.ending is None and self.socket.fileno() >= 0:
            self.send(frames.closing(code, reason))
            self.ending = self.loop.call_later(GOODBYE_S, self.lost)

    def lost_soon(self) -> None:
        """End the connection in the loop's next turn, with what can still be said."""
        if self.ending is not None:
            self.ending.cancel()
        self.ending = self.loop.call_later(0, self.lost)

    def lost(self) -> None:
        """The connection is over, whoever ended it."""
        if self.ending is not None:
            self.ending.cancel()
        if self.socket.fileno() < 0:
            return
        self.pulse.discard(self)
        self.loop.remove_reader(self.socket.fileno())
        self.loop.remove_writer(self.socket.fileno())
        self.socket.close()
        self.inbox, self.unsent = b"", None
        self.loop.call_soon(self.listener.gone)  # not now: whoever wanted to send something is not done with it


class Pulse:
    """Pings all wires, a twentieth of them each second."""

    def __init__(self) -> None:
        self.ring: list[set[Wire]] = [set() for _ in range(BEATS)]
        self.place: dict[Wire, int] = {}
        self.added = self.beats = 0

    def add(self, wire: Wire) -> None:
        self.added += 1
        self.place[wire] = self.added % BEATS
        self.ring[self.added % BEATS].add(wire)

    def discard(self, wire: Wire) -> None:
        place = self.place.pop(wire, None)
        if place is not None:
            self.ring[place].discard(wire)

    async def beat_forever(self) -> None:
        """Let the seconds pass."""
        while True:
            await asyncio.sleep(1.0)
            self.beat()

    def beat(self) -> None:
        """A second has passed."""
        self.beats += 1
        for wire in tuple(self.ring[self.beats % BEATS]):
            wire.ping()


def read_from(line: socket.socket) -> bytes | None:
    """What a non-blocking socket has; None where that is nothing for now, no bytes where the connection is over."""
    try:
        return line.recv(READ)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


def take_over(stream: Any) -> Taken | None:
    """The socket of a Tornado stream and what was read ahead, now nobody's but the caller's; None where it cannot be.

    The stream must not be used after this. Leans on IOStream's `_read_buffer` and `_state`, and looks for them first.
    """
    if not can_take_over(stream):
        return None
    heard = bytes(stream._read_buffer)
    stream.set_close_callback(None)
    if stream._state is not None:
        stream.io_loop.remove_handler(stream.socket)
        stream._state = None
    return stream.socket, heard


def can_take_over(stream: Any) -> bool:
    """Whether this is a plain stream as we know it, with nothing left to write."""
    known = FAST and type(stream) is IOStream and isinstance(getattr(stream, "_read_buffer", None), bytearray)
    return known and hasattr(stream, "_state") and not stream.closed() and not stream.writing()
