"""All who look, however they are connected: who they are, how many of each, and for how long they may.

Owns the seats, the one-time tickets for those who cannot send a header, and the watch over rights: whoever signs out,
is shut out or loses a role loses the connection within seconds. Never knows a transport.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import structlog

from hub.account import Revocation, User
from hub.errors import Forbidden, HubError, RateLimited, Unauthorized
from hub.news import ADMIN
from hub.runner import CLOSE_RESTART
from hub.subscriber import Subscriber

if TYPE_CHECKING:
    from .answers import Rooms

log = structlog.get_logger(__name__)

LOOK_S = 2  # seconds between two looks at everybody's rights
PAGE = 500  # users asked for at once
TICKET_S = 30.0
TICKETS = 10_000
BACK_A_SECOND = 200  # viewers that are asked to come back in one second after a restart
LONGEST_BACK_S = 30.0
CLOSE_UNAUTHORIZED, CLOSE_FORBIDDEN, CLOSE_CROWDED, CLOSE_SLOW = 4401, 4403, 4429, 4500


class Connection(Protocol):
    """What a seat's viewer is reached by."""

    def cut(self, code: int, reason: str, reconnect_after: float | None) -> None:
        """End it, saying why and, where the viewer shall come back, after how many seconds."""


class Seat:
    """One who looks: who it is (nobody before signing in), until when, and its place in its topics."""

    __slots__ = ("rooms", "connection", "subscriber", "user", "session", "expires")

    def __init__(self, rooms: Rooms, connection: Connection, subscriber: Subscriber) -> None:
        self.rooms = rooms
        self.connection = connection
        self.subscriber = subscriber
        self.user: User | None = None
        self.session = ""
        self.expires = 0.0

    def take(self) -> None:
        """Sit down."""
        self.rooms.runner.viewers.add(self)

    def leave(self) -> None:
        """The connection is gone: leave nothing behind."""
        self.subscriber.close()
        self.rooms.runner.viewers.discard(self)
        if self.user is not None:
            self.rooms.audience.left(self.user.id)
            self.user = None

    async def sign_in(self, token: str) -> User:
        """Note who this is.

        Raises:
            Unauthorized: the token opens nothing.
            Forbidden: the connection is somebody else's already.
            RateLimited: this user has too many connections.
        """
        user, claims = await self.rooms.identities.session(token)
        return self.admit(user, claims.jti, claims.exp)

    def admit(self, user: User, session: str, expires: float) -> User:
        """The same for one whose token was read before; raises as above."""
        if self.user is None:
            self.rooms.audience.came(user.id)
        elif self.user.id != user.id:
            raise Forbidden("somebody else has signed in on this connection")
        self.user, self.session, self.expires = user, session, expires
        return user

    def close(self, code: int, reason: str) -> None:
        """End the connection; after a restart everybody comes back at another time."""
        after = self.rooms.audience.pause() if code == CLOSE_RESTART else None
        self.connection.cut(code, reason, after)

    def sign_out(self) -> None:
        """The token is void."""
        self.close(CLOSE_UNAUTHORIZED, "sign in again")


class Audience:
    """The seats of this hub; `most` is how many a user may have."""

    def __init__(self, rooms: Rooms, most: int) -> None:
        self.rooms = rooms
        self.most = most
        self.count: Counter[str] = Counter()
        self.tickets: dict[str, tuple[float, User, str, float]] = {}

    # --- how many -----------------------------------------------------------------------------------------------

    def came(self, user_id: str) -> None:
        """One more; raises like `check_room`."""
        self.check_room(user_id)
        self.count[user_id] += 1

    def check_room(self, user_id: str) -> None:
        """Raises RateLimited where this user has as many connections as one may."""
        if self.count[user_id] >= self.most:
            raise RateLimited(f"at most {self.most} live connections a user", retry_after=10.0)

    def left(self, user_id: str) -> None:
        self.count[user_id] -= 1
        if not self.count[user_id]:
            del self.count[user_id]

    def pause(self) -> float:
        """After how many seconds somebody shall come back: the more there are, the longer it takes all of them."""
        everybody = min(LONGEST_BACK_S, 1 + len(self.rooms.runner.viewers) / BACK_A_SECOND)
        return round(random.uniform(0.2, everybody), 2)

    # --- tickets ------------------------------------------------------------------------------------------------

    def issue(self, user: User, session: str, expires: float) -> str:
        """A word that opens one connection, once and soon, for those who cannot send the token."""
        now = self.rooms.clock.now()
        for old in [ticket for ticket, (until, *_) in self.tickets.items() if until <= now]:
            del self.tickets[old]
        if len(self.tickets) >= TICKETS:
            raise RateLimited("too many tickets are out", retry_after=TICKET_S)
        ticket = secrets.token_urlsafe(24)
        self.tickets[ticket] = (now + TICKET_S, user, session, expires)
        return ticket

    def redeem(self, ticket: str) -> tuple[User, str, float]:
        """Whom a ticket was issued to: the user, the session (jti) and when that ends (seconds since the epoch).

        Raises:
            Unauthorized: there is no such ticket, or not any more, or its owner may not look any more.
        """
        until, user, session, expires = self.tickets.pop(ticket, (0.0, None, "", 0.0))
        if user is None or until <= self.rooms.clock.now():
            raise Unauthorized("this ticket opens nothing (any more); ask for another one")
        return user, session, expires

    # --- rights -------------------------------------------------------------------------------------------------

    def seats(self) -> Iterator[Seat]:
        """Everybody who has signed in."""
        for viewer in tuple(self.rooms.runner.viewers):
            if isinstance(viewer, Seat) and viewer.user is not None:
                yield viewer

    def sign_out(self, user_id: str, session: str | None = None) -> None:
        """End the live connections of a user, or of one session (a token's jti) alone."""
        for ticket, (_, user, known, _) in list(self.tickets.items()):
            if user.id == user_id and session in (None, known):
                del self.tickets[ticket]
        for seat in self.seats():
            if seat.user is not None and seat.user.id == user_id and session in (None, seat.session):
                seat.sign_out()

    async def watch(self) -> None:
        """Look at everybody's rights again and again, for ever."""
        beats = 0
        while True:
            await asyncio.sleep(1.0)
            self.end_hopeless()
            beats += 1
            if beats % LOOK_S == 0:
                try:
                    await self.look()
                except HubError:
                    continue  # the database is away: nobody can lose a right there
                except Exception:  # whatever it is, nobody may look for ever without being looked at
                    log.exception("audience_watch_failed")

    def end_hopeless(self) -> None:
        """Cut off who does not read, and has missed what is not kept any more."""
        for seat in self.seats():
            if seat.subscriber.behind and seat.subscriber.hopeless:
                seat.subscriber.give_up()

    async def look(self) -> None:
        """Cut off whoever may not look any more."""
        wall, seats = self.rooms.clock.wall(), list(self.seats())
        users = {seat.user.id for seat in seats if seat.user is not None}
        known = {user.id: user for page in pages(users) for user in await self.rooms.store.page(User, PAGE, id=page)}
        gone = {
            each.id for page in pages({seat.session for seat in seats})
            for each in await self.rooms.store.page(Revocation, PAGE, id=page)
        }
        for seat in seats:
            if seat.user is None:
                continue  # has left meanwhile
            user = known.get(seat.user.id)
            void = user is None or user.disabled or user.token_epoch != seat.user.token_epoch
            if void or seat.session in gone or seat.expires <= wall:
                seat.sign_out()
            elif user is not None:
                demoted = user.role != "admin" and ADMIN in seat.subscriber.topics
                seat.user = user
                if demoted:
                    seat.close(CLOSE_FORBIDDEN, "you are no admin any more")


def pages(ids: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Ids in portions that can be asked for at once."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), PAGE):
        yield tuple(ordered[start:start + PAGE])
