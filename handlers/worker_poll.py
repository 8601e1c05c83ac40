"""Long polls for interface services: the same session as on a websocket, for those whom no websocket reaches.

Owns how long a request is held and when a worker that does not ask any more counts as gone. Each answer holds
everything from the first message that was not acknowledged, so an answer that was lost is simply given again.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hub.errors import FieldError, Forbidden, Invalid, Unavailable
from hub.interface import Interface
from hub.messages import FromWorker, Hello

from .base import Endpoint, Rooms
from .bodies import Form
from .worker_line import Pickup

LONGEST_WAIT_S = 60.0
WELCOME_S = 5.0  # how long the answer to hello may take to become durable
MOST = 100  # messages in one answer


class Poll(Form):
    """One request: what the worker says, what it has handled, and how long it would wait for news (seconds)."""

    session: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    messages: Annotated[list[dict[str, Any]], Meta(max_length=1000)] = []
    ack: Annotated[int, Meta(ge=0)] = 0
    wait: float = 25.0


class Polling(Pickup):
    """A worker that asks again and again: connected while it asks and for `gap` seconds after."""

    def __init__(self, rooms: Rooms, interface: Interface) -> None:
        super().__init__(rooms, interface)
        self.gap = rooms.settings.poll_gap_seconds
        self.asking = 0
        self.silence: asyncio.TimerHandle | None = None

    def heard(self, ack: int) -> None:
        super().heard(ack)
        self.line.attach()

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self.keep()

    def begin(self) -> None:
        """A request has come."""
        self.asking += 1
        self.keep()

    def end(self) -> None:
        """A request is answered, or its client has gone."""
        self.asking -= 1
        if not self.asking and self.line.stands:
            self.silence = asyncio.get_running_loop().call_later(self.gap, self.line.left)

    def keep(self) -> None:
        """Do not count the silence any more."""
        if self.silence is not None:
            self.silence.cancel()
            self.silence = None


class WorkerPoll(Endpoint):
    """POST /api/workers/poll."""

    access = "anyone"
    interface: Interface
    waiting: asyncio.Future[None] | None = None
    gone = False

    async def admit(self) -> None:
        self.interface = await self.rooms.identities.interface(self.bearer())
        await super().admit()

    async def post(self) -> None:
        form = self.form(Poll)
        said = read_messages(form.messages)
        greeting = bool(said) and isinstance(said[0], Hello)
        pickup = Polling(self.rooms, self.interface) if greeting else self.carrier(form.session)
        if isinstance(pickup, Polling):
            pickup.begin()
        try:
            if not greeting:
                pickup.heard(form.ack)
            for message in said:
                pickup.line.take(message)
            wait = min(max(form.wait, WELCOME_S if greeting else 0.0), LONGEST_WAIT_S)
            if wait > 0 and pickup.line.stands and not pickup.due(1):
                await self.hold(pickup, wait)
            if not self.gone:
                self.answer_from(pickup, said)
        finally:
            if isinstance(pickup, Polling):
                pickup.end()

    def carrier(self, session: str | None) -> Pickup:
        """What carries this session, or could from now on.

        Raises:
            Invalid: no session is named and no hello was said.
        """
        if session is None:
            field = FieldError("/session", "invalid", "the first request says hello")
            raise Invalid("say hello first, or name the session", fields=(field,))
        transport = self.rooms.runner.transports.get(session)
        if isinstance(transport, Pickup) and transport.line.interface.id == self.interface.id:
            return transport
        pickup = Polling(self.rooms, self.interface)
        pickup.line.session = session
        return pickup

    async def hold(self, pickup: Pickup, wait: float) -> None:
        """Wait for news, for at most `wait` seconds; the request that waited before is answered now."""
        pickup.wake()
        self.waiting = pickup.held = asyncio.get_running_loop().create_future()
        if not self.gone:
            await asyncio.wait([self.waiting], timeout=wait)

    def answer_from(self, pickup: Pickup, said: list[FromWorker]) -> None:
        """Give what is due; a session that ended meanwhile gives nothing, and its next request learns why.

        Raises:
            Forbidden, Unavailable: where that is how it ended.
        """
        if isinstance(pickup.ended, Forbidden | Unavailable):
            raise pickup.ended
        session = self.rooms.runner.core.sessions.get(pickup.line.session)
        ack = session.seen if session is not None else max((message.n for message in said), default=0)
        due = [msgspec.Raw(data) for data in pickup.due(MOST)]
        self.answer({"session": pickup.line.session, "messages": due, "ack": ack})

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.gone = True
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)


def read_messages(items: list[dict[str, Any]]) -> list[FromWorker]:
    """The messages of a request; none counts if one of them cannot be used.

    Raises:
        Invalid: with a pointer to the first that is none.
    """
    messages: list[FromWorker] = []
    for place, item in enumerate(items):
        try:
            messages.append(msgspec.convert(item, FromWorker))
        except (msgspec.ValidationError, OverflowError) as error:
            field = FieldError(f"/messages/{place}", "invalid", str(error)[:300])
            raise Invalid(f"message {place} cannot be used: {str(error)[:300]}", fields=(field,)) from None
    return messages


ROUTES = [(r"/api/workers/poll", WorkerPoll)]
