"""The simulated database: durable when it says so, and as unreliable on the way there as a real one.

What was asked for happens in the database's own time, whether or not whoever asked is still there to hear of it.
Each record by itself is written whole or not at all; a group of records is not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hub.effects import Delete, Outcome, Save
from hub.errors import Unavailable
from hub.task import Task
from store.documents import WRITER, to_document, to_record
from store.memory import MemoryStore

from .kernel import Life, Promise

if TYPE_CHECKING:
    from .world import World

R = TypeVar("R")
Changes = Sequence[Save | Delete]
TIMEOUT_S = 4.0
LATEST_S = 4.0  # how much later than it should what a dead hub has asked for is written


class Disk:
    """What is durable, and how the database does at the moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.collections: dict[type[Any], dict[str, dict[str, Any]]] = defaultdict(dict)
        self.life = Life("database")
        self.asked: set[Promise[list[Outcome]]] = set()
        self.away_until = 0.0
        self.late_writes = 0
        self.gone_silently: set[str] = set()
        self.deleted: set[tuple[type[Any], str]] = set()

    def remember(self, record: Any) -> None:
        document = {**to_document(record), WRITER: "somebody"}
        self.collections[type(record)][document["_id"]] = document

    def read(self, kind: type[R], id: str) -> R | None:
        """A record as it is, at once: for those who see everything."""
        document = self.collections[kind].get(id)
        return None if document is None else to_record(kind, document)

    def all(self, kind: type[R]) -> list[R]:
        return [to_record(kind, document) for document in self.collections[kind].values()]

    def crash(self, back_in: float) -> None:
        """kill -9: what is under way is not written, what is written stays, and all who wait lose their connection."""
        world = self.world
        world.tell("kill -9 of the database")
        self.life.alive = False
        self.life = Life("database")
        self.away_until = max(self.away_until, world.now + back_in)
        for answer in self.asked:
            world.kernel.after(0.0, partial(self.fail, "the connection is reset", answer))
        self.asked.clear()

    def fail(self, why: str, answer: Promise[list[Outcome]]) -> None:
        """Tell whoever has asked that there is no answer."""
        if not answer.finished:
            self.world.tell("the database fails a commit: %s", why)
            answer.set_exception(Unavailable("the database does not answer"))

    def latency(self) -> float:
        """Seconds that one way to the database takes, its absence included."""
        random = self.world.random
        way = random.uniform(0.001, 0.02) if random.random() < 0.95 else random.uniform(0.02, 0.5)
        return max(0.0, self.away_until - self.world.now) + way


class SimulatedStore(MemoryStore):
    """A hub's connection to the disk."""

    def __init__(self, world: World, writer: str) -> None:
        super().__init__(writer)
        self.world = world
        self.number = world.hub_number
        self.collections = world.disk.collections

    async def ping(self) -> None:
        """The way to the database; the answer to any reading still has its way back to go."""
        world = self.world
        way = world.disk.latency()
        await world.kernel.sleep(min(way, TIMEOUT_S))
        if way > TIMEOUT_S or (world.fault("commit_failures") and world.chance(0.03)):
            raise Unavailable("the database does not answer")

    async def get(self, kind: type[R], id: str) -> R | None:
        found = await super().get(kind, id)
        await self.world.kernel.sleep(self.world.disk.latency())
        return found

    async def page(self, kind: type[R], limit: int, before: str | None = None, **equal: Any) -> list[R]:
        found = await super().page(kind, limit, before, **equal)
        await self.world.kernel.sleep(self.world.disk.latency())
        return found

    async def commit(self, changes: Changes) -> list[Outcome]:
        """Write, kind by kind as the real store does, and hear what became of it, or not."""
        world, kernel = self.world, self.world.kernel
        world.nemesis.commit_begins()
        answer: Promise[list[Outcome]] = Promise(kernel)
        fault = world.random.choice(("before", "after", "part", "late")) if self.failing() else ""
        way = world.disk.latency() + (world.random.uniform(0.0, 1.0) if fault == "late" else 0.0)
        if fault != "before":
            kernel.after(way, partial(self.write, list(changes), fault, answer), world.disk.life)
        if fault:
            world.seen[f"commit failed ({fault})"] += 1
            kernel.after(world.disk.latency(), partial(self.world.disk.fail, fault, answer))
        kernel.after(TIMEOUT_S, partial(self.world.disk.fail, "time is over", answer))
        world.disk.asked.add(answer)
        try:
            return await answer
        finally:
            world.disk.asked.discard(answer)

    def failing(self) -> bool:
        return self.world.fault("commit_failures") and self.world.chance(0.1)

    def write(self, changes: Changes, fault: str, answer: Promise[list[Outcome]]) -> None:
        """The database's own moment: what was asked for becomes durable, whoever may still wait for it."""
        world = self.world
        dead = world.hub is None or world.hub_number != self.number
        if dead and fault != "late" and "late_writes" in world.plan.faults:
            again = partial(self.write, changes, "late", answer)  # perhaps when the next hub has begun
            world.kernel.after(world.random.uniform(0.0, LATEST_S), again, world.disk.life)
            return
        if world.hub_number != self.number:
            if "late_writes" not in world.plan.faults:
                return
            world.tell("a commit of the dead hub.%d is written only now", self.number)
            world.disk.late_writes += 1
            world.seen["write of a dead hub"] += 1
            self.world.disk.gone_silently |= {id_of(change) for change in changes if isinstance(change, Delete)}
        kinds = list(dict.fromkeys(kind_of(change) for change in changes))
        reached = world.random.randrange(len(kinds)) if fault == "part" and kinds else len(kinds)
        outcomes = []
        for change in changes:
            place = kinds.index(kind_of(change))
            if place > reached or (place == reached and world.chance(0.5)):
                continue
            if fault == "late" and (kind_of(change), id_of(change)) in world.disk.deleted:
                continue  # a database brings nothing back that was deleted after it was asked for
            outcomes.append(self.write_one(change))
        if not fault and not answer.finished:
            world.kernel.after(world.disk.latency(), partial(self.succeed, outcomes, answer))

    def succeed(self, outcomes: list[Outcome], answer: Promise[list[Outcome]]) -> None:
        if not answer.finished:
            answer.set_result(outcomes)

    def write_one(self, change: Save | Delete) -> Outcome:
        kind, id = kind_of(change), id_of(change)
        if isinstance(change, Delete):
            self.world.disk.deleted.add((kind, id))
        before = self.world.disk.read(kind, id) if kind is Task else None
        outcome = self.apply(change)
        self.world.tell("%s %s version %s: %s", type(change).__name__, id, getattr(getattr(change, "record", None), "version", "-"), outcome)
        if kind is Task:
            self.world.watch.stored(change, before, outcome)
        return outcome


def kind_of(change: Save | Delete) -> type[Any]:
    return type(change.record) if isinstance(change, Save) else change.kind


def id_of(change: Save | Delete) -> str:
    return change.record.id if isinstance(change, Save) else change.id
