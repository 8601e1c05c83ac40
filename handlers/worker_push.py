"""Interface services that are called: what is due is posted to their address, signed, until it is acknowledged.

Owns when the hub calls, how often it tries again and how many calls run at once. What is sent and heard is the
session's, where a call may go is outbound's, how it is signed is hub/webhooks'. The worker's own words come in its
answers, or by /api/workers/poll.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog
from msgspec.structs import replace

from hub.errors import HubError, Unavailable
from hub.ids import new_id
from hub.interface import Interface
from hub.messages import FromWorker, Hello
from hub.session import WorkerSession
from hub.webhooks import push_secret, signed_headers

from . import outbound
from .answers import Rooms
from .worker_line import Pickup

LOOK_S = 5.0  # between two looks at who is registered
TIMEOUT_S = 15.0  # for one whole call
MOST = 100  # messages in one call
MOST_INTERFACES = 1000
LONGEST_ANSWER = 256 * 1024
OK = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between a call that failed and the next: the first pause, and what doubling it ends at."""

    first: float = 0.5
    longest: float = 10.0

    def after(self, failures: int) -> float:
        """A pause that is never the same, after so many failures in a row."""
        longest = min(self.longest, self.first * 2 ** min(failures, 16))
        return random.uniform(longest / 2, longest)


class Answer(msgspec.Struct):
    """What a called worker says: its messages, and the last number of the hub's that it has handled."""

    messages: list[FromWorker] = []
    ack: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `numbers` are those of its messages, for the session behind `pickup`, if there is one."""

    pickup: PushPickup | None
    numbers: tuple[int, ...]
    body: bytes
    id: str


class PushPickup(Pickup):
    """The transport of a pushed worker: news make the pusher call."""

    def __init__(self, pusher: Pusher) -> None:
        super().__init__(pusher.rooms, pusher.interface)
        self.pusher = pusher

    def wake(self) -> None:
        super().wake()
        self.pusher.news.set()


class Pusher:
    """Calls one interface service, at most `slots` times at once.

    A call carries everything that is not acknowledged, so calls may overtake each other. With nothing to say it asks
    whether the worker is there: every heartbeat, and after growing pauses while it is not.
    """

    def __init__(self, rooms: Rooms, interface: Interface, pauses: Pauses) -> None:
        self.rooms = rooms
        self.interface = interface
        self.pauses = pauses
        self.secret = push_secret(rooms.settings.jwt_secret.encode(), interface)
        self.heartbeat_s = rooms.settings.heartbeat_seconds
        self.free = asyncio.Semaphore(interface.slots)
        self.news = asyncio.Event()
        self.pickup: PushPickup | None = None
        self.sent = 0
        self.failures = 0
        self.call_at = 0.0
        self.unanswered: Call | None = None

    async def run(self) -> None:
        """Call whenever there is a reason to, until cancelled."""
        try:
            async with asyncio.TaskGroup() as calls:
                while True:
                    await self.free.acquire()
                    await self.reason_to_call()
                    calls.create_task(self.carry_out(self.next_call()))
        finally:
            if self.pickup is not None:
                self.pickup.line.left()

    async def reason_to_call(self) -> None:
        """Wait for news to tell, or until it is time to ask or to try again."""
        loop = asyncio.get_running_loop()
        while True:
            self.news.clear()
            if self.failures == 0 and self.has_news():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self.call_at):
                    await self.news.wait()
            if loop.time() >= self.call_at:
                return

    def has_news(self) -> bool:
        """Whether something is due that no call has carried yet."""
        session = self.session()
        return session is not None and bool(session.outbox) and session.outbox[-1].n > self.sent

    def session(self) -> WorkerSession | None:
        """The session that this pusher delivers for now."""
        if self.pickup is None or not self.pickup.line.stands:
            return None
        return self.rooms.runner.core.sessions.get(self.pickup.line.session)

    async def carry_out(self, call: Call) -> None:
        """One call and what follows from it."""
        try:
            answer = await self.post(call)
        except outbound.NotReached as error:
            self.unanswered = call  # it may have arrived all the same
            self.failed(str(error))
        else:
            self.unanswered = None
            self.conclude(call, answer)
        finally:
            self.free.release()

    def next_call(self) -> Call:
        """Everything that is due now; the same again keeps its id, for a worker whose answer was lost."""
        session = self.session()
        if session is None:
            self.pickup = None
        due = self.pickup.due(MOST) if self.pickup is not None else []
        numbers = tuple(message.n for message in session.outbox)[:len(due)] if session is not None else ()
        body = msgspec.json.encode({
            "session": session.id if session is not None else None, "messages": [msgspec.Raw(data) for data in due],
            "ack": session.seen if session is not None else 0,
        })
        before = self.unanswered
        same = before is not None and (before.pickup, before.numbers) == (self.pickup, numbers)
        self.sent = max((self.sent, *numbers))
        self.call_at = asyncio.get_running_loop().time() + self.heartbeat_s
        return Call(self.pickup, numbers, body, before.id if before is not None and same else new_id())

    async def post(self, call: Call) -> Answer:
        """Send one call.

        Raises:
            NotReached: no answer, or none of this protocol.
        """
        headers = signed_headers(self.secret, call.id, self.rooms.clock.wall(), call.body)
        status, body = await outbound.post(
            f"{self.interface.address}{self.interface.path}", call.body,
            {"Content-Type": "application/json", **headers}, TIMEOUT_S, LONGEST_ANSWER,
            self.rooms.settings.interface_networks,
        )
        if status != OK:
            raise outbound.NotReached(f"it answered {status}")
        try:
            return msgspec.json.decode(body, type=Answer)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise outbound.NotReached(f"its answer makes no sense: {error}") from None

    def conclude(self, call: Call, answer: Answer) -> None:
        """Take in an answer; what it leaves open is tried again."""
        try:
            self.heard(call, answer)
            if self.pickup is None:
                self.failed("it did not say hello")
            elif call.pickup is self.pickup and call.numbers and answer.ack < call.numbers[-1]:
                self.failed(f"it has handled {answer.ack}, not {call.numbers[-1]}")
            else:
                self.pickup.line.attach()
                self.succeeded()
        except HubError as error:
            self.pickup = None
            self.failed(error.detail)

    def heard(self, call: Call, answer: Answer) -> None:
        """The worker says hello where it does not know the session, else what it has handled, and perhaps more.

        Raises:
            HubError: it is not welcome, or its session is gone.
        """
        said = answer.messages
        if said and isinstance(said[0], Hello):
            self.pickup = PushPickup(self)
            self.sent = 0
            self.pickup.line.join(said[0])
            said = said[1:]
        elif call.pickup is not None and call.pickup is self.pickup:
            call.pickup.heard(answer.ack)
        if self.pickup is not None:
            for message in said:
                self.pickup.line.pass_on(message)

    def succeeded(self) -> None:
        if self.failures:
            log.info("worker_reached_again", worker=self.interface.id)
        self.failures = 0

    def failed(self, reason: str) -> None:
        """Offer nothing until a call succeeds, and try again after a pause."""
        if self.failures == 0:
            log.info("worker_not_reached", worker=self.interface.id, reason=reason)
        self.failures += 1
        self.call_at = asyncio.get_running_loop().time() + self.pauses.after(self.failures)
        self.news.set()
        if self.pickup is not None:
            self.pickup.line.detach()


class Pushers:
    """All interface services that are called; each has its pusher while it is registered and enabled."""

    def __init__(self, rooms: Rooms, pauses: Pauses = Pauses()) -> None:
        self.rooms = rooms
        self.pauses = pauses
        self.running: dict[Interface, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the registrations until cancelled."""
        try:
            while True:
                with suppress(Unavailable):
                    await self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self.end(list(self.running))

    async def look(self) -> None:
        """Begin and end pushers as the registrations say now; whoever changes one may call this."""
        found = await self.rooms.store.page(Interface, MOST_INTERFACES, dialect="push")
        wanted = {as_called(each) for each in found if each.enabled and not each.pending and each.address}
        await self.end([each for each, pusher in self.running.items() if each not in wanted or pusher.done()])
        for each in wanted - self.running.keys():
            self.running[each] = asyncio.create_task(Pusher(self.rooms, each, self.pauses).run())

    async def end(self, interfaces: list[Interface]) -> None:
        pushers = [self.running.pop(each) for each in interfaces]
        for pusher in pushers:
            pusher.cancel()
        for ended in await asyncio.gather(*pushers, return_exceptions=True):
            if isinstance(ended, Exception):
                log.error("pusher_failed", exc_info=ended)


def as_called(interface: Interface) -> Interface:
    """The record without what makes no difference to how the service is called."""
    return replace(interface, note="", models=(), paused=False, draining=False, version=1)
