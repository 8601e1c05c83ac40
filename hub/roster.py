"""The workers that are here: their sessions, their registrations, and what they offer.

Owns who is present and who is paused. Never decides what happens to a task.
"""

from __future__ import annotations

from msgspec.structs import replace

from .effects import Effect, Save
from .interface import LONGEST_NOTE, Interface, OfferedModel, offered
from .messages import Hello
from .session import Phase, WorkerSession

MOST_BY_ONE, MOST_IN_ALL = 200, 1000  # models that are remembered: those that one worker brought, and all
SUSPECT, BESIDE = "paused by the hub", " | "


class Roster:
    """All present workers; `having` says by model which sessions have it."""

    def __init__(self) -> None:
        self.sessions: dict[str, WorkerSession] = {}
        self.by_worker: dict[str, str] = {}
        self.models: dict[str, OfferedModel] = {}
        self.interfaces: dict[str, Interface] = {}
        self.having: dict[str, dict[str, WorkerSession]] = {}

    def session_of(self, worker: str) -> WorkerSession | None:
        """The session of a worker, by its registered name."""
        return self.sessions.get(self.by_worker.get(worker, ""))

    def enter(self, session: WorkerSession) -> None:
        """A worker is here; whether it is paused was decided before it came."""
        self.sessions[session.id] = session
        self.by_worker[session.worker] = session.id
        self.index(session)
        known = self.interfaces.get(session.worker)
        session.paused = known is not None and known.rests

    def leave(self, session: WorkerSession) -> None:
        """A worker is gone."""
        session.phase = Phase.GONE
        self.unindex(session)
        self.sessions.pop(session.id, None)
        if self.by_worker.get(session.worker) == session.id:
            del self.by_worker[session.worker]

    def describe(self, session: WorkerSession, hello: Hello) -> None:
        """A worker that came back says anew what it can do."""
        self.unindex(session)
        session.describe(hello)
        self.index(session)

    def index(self, session: WorkerSession) -> None:
        for model in session.models:
            self.having.setdefault(model, {})[session.id] = session

    def unindex(self, session: WorkerSession) -> None:
        for model in session.models:
            sessions = self.having[model]
            del sessions[session.id]
            if not sessions:
                del self.having[model]

    def learn_models(self, hello: Hello) -> list[Effect]:
        """Remember what this worker offers, so that tasks can wait for it when it is away; not without end.

        Of the workers that are here the one with the widest limits says how large a video may be.
        """
        effects: list[Effect] = []
        for model in hello.models:
            others = [session.models[model.name] for session in self.having.get(model.name, {}).values()]
            known = self.models.get(model.name)
            if known is None and self.full(hello.worker):
                continue
            record = replace(offered(model, others), by=known.by if known else hello.worker)
            if known is None or replace(record, version=known.version) != known:
                record = replace(record, version=known.version + 1 if known else 1)
                self.models[model.name] = record
                effects.append(Save(record, record.version - 1))
        return effects

    def full(self, worker: str) -> bool:
        """Whether no more models can be remembered that this worker brings."""
        brought = sum(model.by == worker for model in self.models.values())
        return len(self.models) >= MOST_IN_ALL or brought >= MOST_BY_ONE

    def know(self, interface: Interface) -> WorkerSession | None:
        """A registration as it is now; its session, if it has one, is paused or not accordingly."""
        known = self.interfaces.get(interface.id)
        if known is None or newer(interface, known):
            self.interfaces[interface.id] = known = interface
        session = self.session_of(interface.id)
        if session is not None:
            session.paused = known.rests
        return session

    def pause(self, worker: str, why: str) -> list[Effect]:
        """Let a registered worker rest until an admin says otherwise, with a note for them."""
        interface = self.interfaces[worker]
        own = [part for part in interface.note.split(BESIDE) if part and not part.startswith(SUSPECT)]
        note = BESIDE.join([f"{SUSPECT}: {why}", *own])[:LONGEST_NOTE]
        paused = replace(interface, paused=True, note=note, version=interface.version + 1)
        self.know(paused)
        return [Save(paused, interface.version)]

    def able(self, model: str) -> list[WorkerSession]:
        """The connected workers that would take tasks of a model, busy ones included."""
        return [session for session in self.having.get(model, {}).values() if session.usable]


def newer(record: Interface, known: Interface) -> bool:
    """Whether a registration is not older than the one that is known; a name that was removed may come again."""
    return (record.created_at, record.version) >= (known.created_at, known.version)
