"""The registered interface services, as an admin wants them to be, and the sessions that have to follow.

Owns the way from a changed record to a session: whoever is disabled or removed has to go, whoever is paused gets no
offers. Reads the records again and again, because the command line and other hubs change them too.
"""

from __future__ import annotations

import asyncio

import structlog

from hub.effects import Delete, Send
from hub.errors import HubError
from hub.interface import Interface
from hub.messages import Drain
from hub.seed import SeedJob
from hub.session import WorkerSession

from .answers import Rooms
from .shared_files import SharedFiles
from .worker_seed import SeedService, present

log = structlog.get_logger(__name__)

LOOK_S = 1.0  # seconds between two looks at the records
PAGE = 500
CLOSE_FORBIDDEN = 4403


class Registry:
    """What is known of all registered services.

    `asked` are the services that were asked to finish and leave.
    """

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.records: dict[str, Interface] = {}
        self.asked: set[str] = set()

    async def start(self) -> None:
        """Take up what services of the older dialect had in hand before the hub went, then watch."""
        await self.read()
        runner = self.rooms.runner
        holders = {task.worker for task in runner.core.tasks.values() if task.lease is not None}
        for record in self.records.values():
            if record.dialect == "seed" and record.enabled and not record.pending and record.id in holders:
                await present(self.rooms, record)
        jobs = await self.rooms.store.page(SeedJob, PAGE)
        over = [job.id for job in jobs if runner.core.leases.get(job.id) != job.task_id]
        runner.decide([Delete(SeedJob, id) for id in over])
        await SharedFiles(self.rooms).clear(runner.core.leases)
        runner.own(self.watch())

    async def watch(self) -> None:
        """Look at the records and at the silent services, for ever."""
        clock = self.rooms.clock
        while True:
            before = clock.now()
            await asyncio.sleep(LOOK_S)
            try:
                self.look_after(clock.now() - before - LOOK_S)
                await self.read()
                await self.follow()
            except HubError:
                continue  # the database is away; it will be told elsewhere
            except Exception:  # whatever it is, silent services must not stay for ever
                log.exception("registry_failed")

    def look_after(self, late: float) -> None:
        """Let the services of the older dialect see to themselves; `late` are seconds in which the hub was away."""
        for transport in list(self.rooms.runner.transports.values()):
            if isinstance(transport, SeedService):
                if late > self.rooms.runner.core.rules.pause_s:
                    transport.heard_at += late
                transport.watch()

    async def read(self) -> None:
        """Read all records anew; what was changed here meanwhile is newer."""
        found: dict[str, Interface] = {}
        before: str | None = None
        while page := await self.rooms.store.page(Interface, PAGE, before):
            found |= {record.id: record for record in page}
            before = page[-1].id
        self.records = {id: newer(record, self.records.get(id)) for id, record in found.items()}

    def hear(self, record: Interface) -> None:
        """A record is like this from now on: its session follows, and one that comes finds it so."""
        self.records[record.id] = record
        session = self.rooms.runner.core.session_of(record.id)
        if session is not None:
            self.apply(session, record)
        self.tell(record)

    def remove(self, name: str) -> None:
        """A record is gone, and its service with it."""
        core = self.rooms.runner.core
        self.records.pop(name, None)
        core.roster.interfaces.pop(name, None)
        session = core.session_of(name)
        if session is not None:
            self.dismiss(session, "an admin has removed this interface service")

    async def follow(self) -> None:
        """Make every session what its record says, and have the core know those that have none."""
        sessions = self.rooms.runner.core.sessions
        for session in list(sessions.values()):
            record = self.records.get(session.worker)
            if not welcome(record):  # or it has come after the records were read
                record = await self.rooms.store.get(Interface, session.worker)
            if session.id in sessions:
                self.apply(session, record)
        for record in self.records.values():
            self.tell(record)

    def apply(self, session: WorkerSession, record: Interface | None) -> None:
        """Make one session what its record says."""
        if record is None or not welcome(record):
            self.dismiss(session, "an admin has disabled this interface service")
            return
        self.hold(session, record)
        self.drain(session, record.draining)
        transport = self.rooms.runner.transports.get(session.id)
        if isinstance(transport, SeedService) and transport.interface != record:
            transport.describe(record)

    def hold(self, session: WorkerSession, record: Interface) -> None:
        """Offer nothing to a service that rests, and again to one that does not."""
        before = session.paused
        self.tell(record)
        if session.paused != before:
            log.info("interface_paused" if session.paused else "interface_resumed", worker=session.worker)

    def tell(self, record: Interface) -> None:
        """Have the core know a record, if it does not yet."""
        runner = self.rooms.runner
        if runner.core.roster.interfaces.get(record.id) != record:
            runner.decide(runner.core.know(record, self.rooms.clock.now()))

    def drain(self, session: WorkerSession, draining: bool) -> None:
        """Ask a service once to finish what it has and leave."""
        if draining and session.worker not in self.asked:
            self.asked.add(session.worker)
            self.rooms.runner.decide([Send(session.id, Drain(reason="an admin asks it to finish and leave"))])
        elif not draining:
            self.asked.discard(session.worker)

    def dismiss(self, session: WorkerSession, reason: str) -> None:
        """End a session; what it held waits again."""
        runner = self.rooms.runner
        transport = runner.transports.pop(session.id, None)
        if isinstance(transport, SeedService):
            transport.leave()
        else:
            runner.decide(runner.core.dismiss(session, self.rooms.clock.now()))
        if transport is not None:
            transport.close(CLOSE_FORBIDDEN, reason)
        log.info("interface_dismissed", worker=session.worker)


def newer(read: Interface, known: Interface | None) -> Interface:
    """The record that was changed last."""
    if known is None:
        return read
    return max(read, known, key=lambda record: (record.created_at, record.version))


def welcome(record: Interface | None) -> bool:
    """Whether a service may be here."""
    return record is not None and record.enabled and not record.pending
