"""The runner: makes decisions durable as groups, then carries out what they want, in order.

Owns the journal (what was decided and is not yet durable), the clock's tick, and what the world may see. Here, and in
the duties beside it (verify, elsewhere, sweeper), hub/ awaits. Never decides: what to do comes from the core.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import structlog

from .announcer import Announcer
from .core import Core
from .effects import Close, Delete, Effect, Outcome, Publish, Save, Send, Verify
from .elsewhere import OPEN, Elsewhere
from .errors import Unavailable
from .interface import Interface, OfferedModel
from .journal import Entry, Key, Unsaid, gather, key, refusal, stands
from .media import Media, Mismatch
from .messages import PROGRESSED, UPDATED
from .ports import Clock, Store
from .resuming import ID as LIVE, LiveEnd
from .task import State, Task
from .topics import Topic, Topics
from .verify import look_until_seen
from .views import Views

T = TypeVar("T")
log = structlog.get_logger(__name__)

TICK_S, TELL_S = 0.25, 2.0  # how often the core is told the time, and waiting tasks are looked at for news
LEARNED = 200  # tasks completed before the start from which it is learned how long work takes
CLOSE_RESTART = 1012
FAREWELL_S = 2.0  # how long a stopping hub waits for the database
PATIENCE_S = 5.0  # how long a request waits for the database before it is told to come back
TRIES = 3  # of a change by itself, until it counts as one that can never be stored


class Connection(Protocol):
    """Something that can be told to go."""

    def close(self, code: int, reason: str) -> None: ...


class Transport(Connection, Protocol):
    """A worker's connection, as the runner sees it."""

    def write(self, data: bytes) -> None: ...


class Runner:
    """Carries out the core's effects.

    `verify` looks into a worker's result and says what stands for it, or why it is not accepted.
    """

    def __init__(
        self,
        core: Core,
        store: Store,
        clock: Clock,
        views: Views,
        topics: Topics,
        verify: Callable[[Verify], Awaitable[list[Media] | Mismatch]],
    ) -> None:
        self.core = core
        self.store = store
        self.clock = clock
        self.views = views
        self.topics = topics
        self.verify = verify
        self.transports: dict[str, Transport] = {}
        self.viewers: set[Connection] = set()
        self.announcer = Announcer(core, clock, views, topics)
        self.shown = self.announcer.shown
        self.journal: list[Entry] = []
        self.committing: list[Entry] = []
        self.durable: list[tuple[list[Entry], dict[Key, Outcome]]] = []  # the first of these, and what was refused
        self.unsaid = Unsaid()
        self.offers: list[Send] = []  # made while the store did not answer, and not sent
        self.elsewhere = Elsewhere(self)
        self.healthy = False
        self.stopping = self.ended = False
        self.live_version = 0  # the version of the record of where topics end: whose it is
        self.wake = asyncio.Event()
        self.duties: set[asyncio.Task[None]] = set()

    # --- start and stop -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read what the store remembers, then begin to work."""
        now = self.clock.now()
        open_tasks = await self.read(Task, state=OPEN)
        models, interfaces = await self.read(OfferedModel), await self.read(Interface)
        ended = await self.store.page(Task, LEARNED, state=State.COMPLETED)
        self.core.boot(reversed(open_tasks), models, now, interfaces, reversed(ended))
        resumed = self.announcer.begin(await self.recall(), open_tasks, await self.newest())
        self.healthy = True
        for duty in (self.commit_forever(), self.tick_forever(), self.tell_forever(), self.elsewhere.look_again()):
            self.own(duty)
        log.info("tasks_loaded", open=len(open_tasks), models=len(models), topics_resumed=resumed)

    async def read(self, kind: type[T], **equal: Any) -> list[T]:
        """All records of a kind, the newest first."""
        records: list[T] = []
        async for page in self.pages(kind, **equal):
            for record in page:
                if isinstance(record, Task):
                    self.core.work.parts.share(record)  # before the next page, or all of them are whole for a moment
            records += page
        return records

    async def pages(self, kind: type[T], **equal: Any) -> AsyncIterator[list[T]]:
        """The same, piece by piece."""
        before: str | None = None
        while page := await self.store.page(kind, 1000, before, **equal):
            yield page
            before = page[-1].id  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Let the journal empty, for a moment; what stays is decided again after the next start."""
        self.stopping = True
        await asyncio.wait({self.decide(self.core.work.flush(math.inf))}, timeout=FAREWELL_S)
        for duty in list(self.duties):
            duty.cancel()
        await asyncio.gather(*self.duties, return_exceptions=True)
        self.ended = True
        if self.healthy and not self.journal and not self.committing:
            remembering = asyncio.ensure_future(self.remember())
            await asyncio.wait({remembering}, timeout=FAREWELL_S)
            remembering.cancel()

    async def recall(self) -> LiveEnd | None:
        """Where the topics of the last life ended; from now on that is not true any more."""
        end = await self.store.get(LiveEnd, LIVE)
        self.live_version = end.version + 1 if end else 1
        refused = await self.commit([Save(LiveEnd(LIVE, "", (), self.live_version), self.live_version - 1)])
        return None if refused else end

    async def remember(self) -> None:
        """Store where the topics end, so that the next life goes on there; nothing is shown any more."""
        with suppress(Unavailable):
            end = self.announcer.end(await self.newest(), self.live_version + 1)
            await self.store.commit([Save(end, self.live_version)])

    async def newest(self) -> Task | None:
        """The task that was created last."""
        return next(iter(await self.store.page(Task, 1)), None)

    def close_sockets(self) -> None:
        """Tell every connected worker and viewer to come back later."""
        for connection in [*self.transports.values(), *self.viewers]:
            connection.close(CLOSE_RESTART, "the hub restarts")

    def own(self, work: Any) -> None:
        """Run a duty in the background until it ends or the runner stops."""
        duty = asyncio.ensure_future(work)
        self.duties.add(duty)
        duty.add_done_callback(self.duty_ended)

    def duty_ended(self, duty: asyncio.Task[None]) -> None:
        self.duties.discard(duty)
        if not duty.cancelled() and (error := duty.exception()) is not None:
            log.error("duty_failed", exc_info=error)

    # --- the journal --------------------------------------------------------------------------------------------

    def decide(self, effects: Sequence[Effect]) -> asyncio.Future[None]:
        """Take in one decision; the future is done once it is durable and carried out.

        Call it in the same turn of the loop as the decision itself, or the order of events is lost. Decisions that want
        nothing share a future, so it must not be cancelled.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = Entry([], [], done)
        for effect in effects:
            if isinstance(effect, Save | Delete):
                entry.changes.append(effect)
                entry.keys.add(key(effect))
            elif not (isinstance(effect, Publish) and effect.type == PROGRESSED and not self.healthy):
                entry.others.append(effect)
        if not self.healthy and (offers := self.unsaid.thin(entry)):
            self.offers = [offer for offer in [*self.offers, *offers] if self.core.offers.stands(offer)]
        if not entry.changes and not self.journal and not self.committing:
            self.release(entry)
            return done
        if entry.waits_only and self.journal and self.journal[-1].waits_only:
            return self.journal[-1].done
        self.journal.append(entry)
        self.wake.set()
        for offer in self.unsaid.ahead(entry):
            self.attempt(offer)
        return done

    async def carry_out(self, effects: Sequence[Effect]) -> None:
        """Take in one decision and wait until it is durable.

        Raises:
            Conflict: somebody else changed the same record first, or a unique value is taken.
            Invalid: it can never be stored.
            Unavailable: the database does not answer; the decision may still become durable.
        """
        done = self.decide(effects)
        if not done.done():
            await asyncio.wait({done}, timeout=PATIENCE_S)
        if not done.done() or done.cancelled():
            raise Unavailable("the database does not answer, try again soon")
        done.result()

    async def catch_up(self, found: Sequence[Task]) -> list[Task]:
        """Wait until viewers were shown what the store has just said of these tasks; those that were not deleted since.

        What is stored may not be shown yet, and then its events are still to come. Where the store takes nothing for so
        long that nobody can wait for that, an event may come twice.
        """
        with suppress(Unavailable):
            await self.carry_out([])
        return [task for task in found if not self.shown.gone(task.id)]

    def check_ready(self) -> None:
        """Refuse work that could not be made durable now.

        Raises:
            Unavailable: the last commit failed and has not succeeded since.
        """
        if not self.healthy:
            raise Unavailable("the database does not answer, try again soon")

    async def commit_forever(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.journal:
                size, changes = gather(self.journal)
                batch, self.journal = self.journal[:size], self.journal[size:]
                self.committing += batch
                self.durable.append((batch, await self.commit(changes)))
                if self.journal:  # the next batch is sent to the store before this one is carried out
                    asyncio.get_running_loop().call_soon(self.conclude_all)
                else:
                    self.conclude_all()

    async def commit(self, changes: list[Save | Delete]) -> dict[Key, Outcome]:
        """Make changes durable, however often it takes; what was refused comes back by kind and id.

        One that can never be stored is searched for, by halves, and left out: it must not stop all others.
        """
        delay, tries = 0.05, 0
        while changes:
            try:
                outcomes = await self.store.commit(changes)
            except Unavailable as error:
                if self.healthy:
                    log.error("commit_failed", detail=str(error))
                self.answers(False)
            except Exception as error:  # whatever it is, nothing may ever be committed again without this duty
                if not tries:
                    log.error("commit_failed", detail=str(error), changes=len(changes), exc_info=len(changes) == 1)
                if half := len(changes) // 2:
                    return await self.commit(changes[:half]) | await self.commit(changes[half:])
                tries += 1
                if tries == TRIES:
                    kind, id = key(changes[0])
                    log.error("change_left_out", kind=kind.__name__, id=id)
                    self.answers(True)
                    return {(kind, id): Outcome.IMPOSSIBLE}
            else:
                self.answers(True)
                return {key(c): o for c, o in zip(changes, outcomes, strict=True) if o is not Outcome.DONE}
            await asyncio.sleep(delay)
            delay = min(2.0, delay * 2)
        return {}

    def answers(self, healthy: bool) -> None:
        """The store answers, or not: then progress stays with the core, and offers wait, to be made anew in the end."""
        if healthy and not self.healthy:
            log.info("database_is_back")
        self.healthy = self.core.work.pacing.storing = healthy
        if healthy and self.offers:
            offers, self.offers, now = self.offers, [], self.clock.now()
            self.core.offers.take_back(offers, now)
            self.decide(self.core.dispatch(now))

    def conclude_all(self) -> None:
        """Conclude the batches whose commits have ended, in their order."""
        while self.durable:
            batch, refused = self.durable.pop(0)
            for entry in batch:
                self.conclude(entry, refused)
            del self.committing[:len(batch)]
            self.elsewhere.reload(refused)

    def conclude(self, entry: Entry, refused: dict[Key, Outcome]) -> None:
        """Release an entry that is durable, or tell its maker that it is not."""
        self.unsaid.end(entry)
        lost = {k: refused[k] for k in entry.keys if k in refused}
        if lost and not entry.done.done():
            entry.done.set_exception(refusal(lost.values()))
            entry.done.exception()
        tasks = {id for kind, id in lost if kind is Task}
        if tasks:
            known = [self.shown.open[id].lease for id in tasks & self.shown.open.keys()]
            leases = {lease.id for lease in known if lease is not None}
            entry.others = [effect for effect in entry.others if stands(effect, tasks, leases)]
        self.release(entry)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask the store for something, however often it takes."""
        delay = 0.05
        while True:
            try:
                return await question()
            except Unavailable:
                await asyncio.sleep(delay)
                delay = min(2.0, delay * 2)

    # --- carrying out -------------------------------------------------------------------------------------------

    def release(self, entry: Entry) -> None:
        """Carry out what follows a durable decision, in its order."""
        for effect in entry.others:
            self.attempt(effect)
        if not entry.done.done():
            entry.done.set_result(None)

    def attempt(self, effect: Send | Publish | Verify | Close) -> None:
        """Carry out one effect; if that fails, the others are not kept from the world."""
        try:
            self.perform(effect)
        except Exception:
            log.exception("effect_failed", effect=type(effect).__name__)

    def perform(self, effect: Send | Publish | Verify | Close) -> None:
        match effect:
            case Send():
                self.send(effect)
            case Publish():
                self.publish(effect)
            case Verify():
                self.own(self.look(effect))
            case Close():
                if (transport := self.transports.pop(effect.session, None)) is not None:
                    transport.close(effect.code, effect.reason)

    def send(self, effect: Send) -> None:
        session = self.core.sessions.get(effect.session)
        if session is None:
            return
        data = session.post(effect.message)
        transport = self.transports.get(effect.session)
        if transport is not None:
            transport.write(data)

    def publish(self, effect: Publish) -> None:
        if not self.ended:
            self.announcer.publish(effect)

    def topic(self, task_id: str) -> Topic:
        return self.announcer.topic(task_id)

    def view(self, task: Task) -> dict[str, Any]:
        """A task as the outside may see it now."""
        return self.announcer.view(task)

    async def tell_forever(self) -> None:
        """Publish what has changed for waiting tasks, with pauses in which others have their turn."""
        while True:
            await asyncio.sleep(TELL_S)
            for task in self.announcer.changed():
                if task is not None:
                    self.publish(Publish(task, UPDATED))
                else:
                    await asyncio.sleep(0)

    async def look(self, effect: Verify) -> None:
        """Have a result verified and tell the core."""
        verdict = await look_until_seen(effect, self.verify)
        self.decide(self.core.probed(effect.task.id, effect.lease, verdict, self.clock.now()))

    async def tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                effects = self.core.tick(self.clock.now())
                self.decide(effects + self.announcer.look() if self.healthy else effects)
            except Exception:  # without this duty no lease would ever end again
                log.exception("tick_failed")
