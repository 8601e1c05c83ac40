"""A runner on stage: a real core, real topics and a store in memory whose commits the test can hold back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from hub.core import Core
from hub.effects import Delete, Outcome, Save, Verify
from hub.links import Links
from hub.media import Media, Mismatch
from hub.messages import Accept, Assign, Event, Message, Offer, decode, to_worker
from hub.runner import Runner
from hub.subscriber import Subscriber
from hub.topics import Topic, Topics
from hub.views import Views
from store.memory import MemoryStore

from .world import RULES, START, a_hello, a_result, a_task, links

SECRET = b"a secret of thirty-two characters"


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


class SlowStore(MemoryStore):
    """Keeps each commit until `open` is set; `entered` is set when one waits."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.commits: list[Sequence[Save | Delete]] = []
        self.failures: list[Exception] = []

    async def commit(self, changes: Sequence[Save | Delete]) -> list[Outcome]:
        self.entered.set()
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        outcomes = await super().commit(changes)
        self.commits.append(changes)
        return outcomes

    def hold(self) -> None:
        """From now on commits wait."""
        self.open.clear()
        self.entered.clear()

    def elsewhere(self) -> MemoryStore:
        """The same database, as another hub sees it."""
        other = MemoryStore("another hub")
        other.collections = self.collections
        return other


class Transport:
    """A worker's connection that keeps what it was given."""

    def __init__(self) -> None:
        self.written: list[Message] = []
        self.closed: list[tuple[int, str]] = []

    def write(self, data: bytes) -> None:
        self.written.append(decode(to_worker, data))

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    @property
    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.written]


class Watcher:
    """A viewer of one topic."""

    def __init__(self, topic: Topic) -> None:
        self.awake = asyncio.Event()
        self.subscriber = Subscriber(self.awake.set)
        self.subscriber.subscribe(topic)
        self.events: list[Event] = []

    @property
    def types(self) -> list[str]:
        """What was seen until now."""
        self.events += [msgspec.json.decode(frame.data, type=Event) for frame in self.subscriber.take()]
        return [event.type for event in self.events]

    async def see(self, *types: str) -> list[Event]:
        """Wait until exactly these events, in this order, were seen."""
        async with asyncio.timeout(5):
            while len(self.types) < len(types):
                self.awake.clear()
                await self.awake.wait()
        assert tuple(self.types) == types
        return self.events


class Stage:
    """A runner and what it talks to; `verdicts` are what the next results are found to be.

    A later `life` of the hub is given the `before` that it follows: its store and its clock.
    """

    def __init__(self, life: str = "hub", before: Stage | None = None) -> None:
        numbers = count(1)
        self.clock, self.store = (before.clock, before.store) if before is not None else (Clock(), SlowStore())
        self.verdicts: list[list[Media] | Mismatch | Exception] = []
        self.standing: set[asyncio.Task[None]] = set()
        prefix = "id" if life == "hub" else f"{life}-id"
        self.core = Core(RULES, lambda: f"{prefix}-{next(numbers)}", links)
        signing = Links(SECRET, "https://hub.example")
        self.runner = Runner(
            self.core, self.store, self.clock, Views(signing.sign, "videos", "backgrounds"), Topics(life), self.verify,
        )

    async def start(self) -> None:
        """Begin; from here on what comes beside the standing duties can be waited for."""
        await self.runner.start()
        self.standing = set(self.runner.duties)

    async def settled(self) -> None:
        """Wait until everything that the runner does beside its standing duties is done."""
        async with asyncio.timeout(5):
            while extra := self.runner.duties - self.standing:
                await asyncio.wait(extra)

    async def verify(self, effect: Verify) -> list[Media] | Mismatch:
        verdict = self.verdicts.pop(0) if self.verdicts else [a_result(version=1)]
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    def watch(self, name: str = "tasks", owner: str = "ann") -> Watcher:
        return Watcher(self.runner.topics.get(name, owner))

    async def join(self, worker: str = "w1", **changes: Any) -> Transport:
        """A worker with a connection, welcomed."""
        effects = self.core.join(a_hello(worker, **changes), self.clock.now())
        session = self.core.session_of(worker)
        assert session is not None
        transport = self.runner.transports[session.id] = Transport()
        await self.runner.carry_out(effects)
        return transport

    def say(self, message: Message, worker: str = "w1") -> asyncio.Future[None]:
        """A worker's next message; done when what was decided is durable and carried out."""
        session = self.core.session_of(worker)
        assert session is not None
        numbered = msgspec.structs.replace(message, n=session.seen + 1)
        return self.runner.decide(self.core.receive(session.id, numbered, self.clock.now()))


async def submit(stage: Stage, id: str = "task-1", **changes: Any) -> None:
    """A user's new task, durable."""
    await decided(stage, id, **changes)


def decided(stage: Stage, id: str = "task-1", **changes: Any) -> asyncio.Future[None]:
    """A user's new task; done when it is durable and known to whom it concerns."""
    return stage.runner.decide(stage.core.submit(a_task(id, **changes), stage.clock.now()))


async def assigned(stage: Stage, transport: Transport, id: str = "task-1", worker: str = "w1") -> Assign:
    """A new task that a worker is at."""
    await submit(stage, id)
    offer = transport.written[-1]
    assert isinstance(offer, Offer)
    await stage.say(Accept(offer=offer.offer), worker)
    assign = transport.written[-1]
    assert isinstance(assign, Assign)
    return assign
