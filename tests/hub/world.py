"""A small world around the core: a clock, a counter for ids, workers that speak, and a ledger that believes nothing.

Every list of effects that comes out of the core goes through the ledger, so each test also proves what must always
hold: guards that match, states that move along the arrows, events that only go forward, slots that are not oversold.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import FrameType
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from hub.core import Core, Link
from hub.rules import Rules
from hub.effects import Effect, Publish, Save, Send, Verify
from hub.media import Facts, Media, Mismatch, Purpose
from hub.messages import (
    COMPLETED, DELETED, PROGRESSED, Accept, Artifact, Assign, Hello, Input, Message, Model, Offer, Progress, Renew,
    Result,
)
from hub.session import WorkerSession
from hub.task import TRANSITIONS, Source, State, Task

M = TypeVar("M", bound=Message)

RULES = Rules()
START = 1_700_000_000.0
SHA = "a" * 64
FACTS = Facts(640, 360, "30000/1001", 72, 2.4, 0, "h264", "yuv420p", "mp4", "aac")
SOURCE = Source("video-1", "holiday.mov", 1000, SHA, "video/quicktime", FACTS)
ARTIFACT = Artifact(purpose="result", upload_id="upload-1", sha256=SHA, frames=72)
NO_MATCH = Mismatch("result_frames", "71 frames, the source has 72")


def a_task(id: str = "task-1", **changes: Any) -> Task:
    """A waiting task for model m."""
    return replace(Task(id, "ann", "m", SOURCE, None, START), **changes)


def a_result(id: str = "upload-1", **changes: Any) -> Media:
    """The media record that stands for an accepted result."""
    record = Media(id, "ann", Purpose.RESULT, "r.mp4", "video/mp4", 9, SHA, "b" * 32, FACTS, START, "task-1", 2)
    return replace(record, **changes)


def a_hello(worker: str = "w1", models: Sequence[str | Model] = ("m",), **changes: Any) -> Hello:
    """A worker's first words, with number 1."""
    offers = [Model(name=model) if isinstance(model, str) else model for model in models]
    return msgspec.structs.replace(Hello(n=1, protocol=1, worker=worker, instance="i1", models=offers), **changes)


def links(task: Task, lease: str) -> Link:
    return Link([Input("video", f"/videos/{task.video.media_id}?job={lease}", SHA, 1000)], f"/uploads?job={lease}")


# --- reading effects --------------------------------------------------------------------------------------------


def saved(effects: Sequence[Effect]) -> list[Any]:
    """The records that are to be stored, in order."""
    return [effect.record for effect in effects if isinstance(effect, Save)]


def saved_tasks(effects: Sequence[Effect]) -> list[Task]:
    return [record for record in saved(effects) if isinstance(record, Task)]


def sent(effects: Sequence[Effect], session: str | None = None) -> list[Message]:
    """The messages to one session, or to all, in order."""
    return [e.message for e in effects if isinstance(e, Send) and session in (None, e.session)]


def published(effects: Sequence[Effect]) -> list[tuple[str, str]]:
    """What viewers are told: (task id, type), in order."""
    return [(effect.task.id, effect.type) for effect in effects if isinstance(effect, Publish)]


def only(effects: Sequence[Effect], kind: type[M]) -> M:
    """The one message of that kind."""
    [message] = [message for message in sent(effects) if isinstance(message, kind)]
    return message


def kinds(effects: Sequence[Effect]) -> list[str]:
    """The effects' names in order, a message's name for a Send."""
    return [type(e.message if isinstance(e, Send) else e).__name__ for e in effects]


# --- what must always hold --------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """Stores and shows like the real ones, and fails where an effect contradicts what came before."""

    stored: dict[tuple[type[Any], str], Any] = field(default_factory=dict)
    shown: dict[str, Task] = field(default_factory=dict)
    completed: dict[str, int] = field(default_factory=dict)

    def take(self, effects: Sequence[Effect]) -> None:
        events = {(e.task.id, e.task.version) for e in effects if isinstance(e, Publish)}
        for effect in effects:
            match effect:
                case Save():
                    self.save(effect, events)
                case Publish():
                    self.show(effect)
                case Send(message=Assign() as assign):
                    lease = self.stored[Task, assign.task].lease
                    assert lease is not None and lease.id == assign.lease, "an assignment whose lease is not stored"

    def save(self, effect: Save, events: set[tuple[str, int]]) -> None:
        record, where = effect.record, (type(effect.record), effect.record.id)
        before = self.stored.get(where)
        if not isinstance(record, Media):  # media records are made elsewhere
            assert effect.previous == (before.version if before else 0), "a guard that does not match the store"
        assert record.version > effect.previous, "versions only grow"
        if isinstance(record, Task):
            assert record.attempt <= RULES.max_attempts
            assert (record.lease is not None) == (record.state is State.PROCESSING)
            if before is None or before.state is not record.state:
                assert (record.id, record.version) in events, "a change of state without its event"
            if before is not None:
                legal = {before.state, *TRANSITIONS[before.state].values()}
                assert record.state in legal, f"{before.state} -> {record.state}"
                assert not before.state.ended or record.state is State.WAITING, "an ended task changed"
        self.stored[where] = record

    def show(self, effect: Publish) -> None:
        task, before = effect.task, self.shown.get(effect.task.id)
        if effect.type == DELETED:
            return
        if before is not None:
            assert task.version > before.version, "an event out of order or shown twice"
            if task.attempt == before.attempt and effect.type == PROGRESSED:
                assert task.progress >= before.progress, "progress went back"
        if effect.type == COMPLETED:
            self.completed[task.id] = self.completed.get(task.id, 0) + 1
        self.shown[task.id] = task


def check(core: Core) -> None:
    """The core's tables agree with each other."""
    leased = {task.lease.id: task.id for task in core.tasks.values() if task.lease is not None}
    assert core.leases == leased
    assert set(core.work.pacing.paces) == set(leased.values())
    assert set(core.work.verifying) <= set(leased.values())
    waiting = {id for id, task in core.tasks.items() if task.state is State.WAITING}
    assert waiting == set(core.tasks) - set(leased.values())
    assert core.by_worker == {session.worker: session.id for session in core.sessions.values()}
    having = {(model, session.id) for session in core.sessions.values() for model in session.models}
    assert having == {(model, id) for model, sessions in core.roster.having.items() for id in sessions}
    offered: dict[str, tuple[str, str]] = {}
    for session in core.sessions.values():
        assert set(session.leases.items()) <= set(core.leases.items())
        assert session.untold <= set(session.leases)
        taken = len(session.offers) + len(session.leases) + len(session.stopping)
        assert not session.offers or taken <= session.slots, "slots oversold"
        offered |= {offer.task_id: (session.id, id) for id, offer in session.offers.items()}
    assert core.offers.of == offered
    dispatcher = core.dispatcher
    in_line = {task.id for queue in dispatcher.queues.values() for line in queue.lines.values() for task in line}
    assert sum(queue.size for queue in dispatcher.queues.values()) == len(in_line)
    assert in_line | set(dispatcher.asleep) | set(offered) == waiting, "a waiting task that nobody will find again"
    assert len(in_line) + len(dispatcher.asleep) + len(offered) == len(waiting), "a task that waits in two places"
    assert set(dispatcher.asleep) <= {id for _, id in dispatcher.alarms}, "a task that nobody will wake"
    assert set(dispatcher.charged) == set(offered) | set(leased.values())
    assert {**dispatcher.left_out, **dispatcher.kept, **dispatcher.avoided}.keys() <= set(core.tasks)
    running: dict[str, int] = {}
    for owner, *_ in dispatcher.charged.values():
        running[owner] = running.get(owner, 0) + 1
    assert dispatcher.shares.running == running
    for queue in dispatcher.queues.values():
        for user, line in queue.lines.items():
            assert len(line) and (user in queue.entered or dispatcher.shares.capped(user)), "a user without a turn"


class World:
    """A core with its surroundings; `now` moves only by `wait`, and each step is checked."""

    def __init__(self, rules: Rules = RULES) -> None:
        numbers = count(1)
        self.core = Core(rules, lambda: f"id-{next(numbers)}", links)
        self.ledger = Ledger()
        self.now = START
        self.said: dict[str, int] = {}

    def take(self, effects: list[Effect]) -> list[Effect]:
        self.ledger.take(effects)
        check(self.core)
        return effects

    # --- users

    def submit(self, id: str = "task-1", **changes: Any) -> list[Effect]:
        return self.take(self.core.submit(a_task(id, **changes), self.now))

    def cancel(self, id: str = "task-1") -> list[Effect]:
        return self.take(self.core.cancel(self.stored(id), self.now))

    def retry(self, id: str = "task-1") -> list[Effect]:
        return self.take(self.core.retry(self.stored(id), self.now))

    def stored(self, id: str = "task-1") -> Task:
        task = self.ledger.stored[Task, id]
        assert isinstance(task, Task)
        return task

    def task(self, id: str = "task-1") -> Task:
        """An open task as the core has it now."""
        return self.core.tasks[id]

    # --- workers

    def join(self, worker: str = "w1", **changes: Any) -> list[Effect]:
        effects = self.take(self.core.join(a_hello(worker, **changes), self.now))
        if not any(getattr(message, "resumed", False) for message in sent(effects)):
            self.said[worker] = 1
        return effects

    def session(self, worker: str = "w1") -> WorkerSession:
        session = self.core.session_of(worker)
        assert session is not None
        return session

    def heard(self, worker: str = "w1") -> None:
        """The worker has handled everything that was sent to it."""
        session = self.session(worker)
        for message in [*session.outbox]:
            session.acknowledge(message.n)
        session.untold.clear()

    def say(self, message: Message, worker: str = "w1") -> list[Effect]:
        """A worker's next message, under its next number."""
        self.said[worker] += 1
        numbered = msgspec.structs.replace(message, n=self.said[worker])
        return self.take(self.core.receive(self.session(worker).id, numbered, self.now))

    def accept(self, offered: Sequence[Effect], worker: str = "w1") -> Assign:
        """The worker takes the newest offer among these effects."""
        offers = [message.offer for message in sent(offered) if isinstance(message, Offer)]
        return only(self.say(Accept(offer=offers[-1]), worker), Assign)

    def running(self, id: str = "task-1", worker: str = "w1", **changes: Any) -> str:
        """A new task that a worker is at; its lease."""
        if self.core.session_of(worker) is None:
            self.join(worker)
        return self.accept(self.submit(id, **changes), worker).lease

    def progress(self, lease: str, percent: float, phase: str = "segment", worker: str = "w1") -> list[Effect]:
        return self.say(Progress(lease=lease, phase=phase, progress=percent), worker)

    def result(self, lease: str, worker: str = "w1") -> list[Effect]:
        return self.say(Result(lease=lease, artifacts=[ARTIFACT]), worker)

    def probed(self, verify: Verify, verdict: list[Media] | Mismatch | None = None) -> list[Effect]:
        """The hub has looked at a result: fine, if nothing else is said."""
        return self.take(self.core.probed(verify.task.id, verify.lease, verdict or [a_result()], self.now))

    def complete(self, lease: str, worker: str = "w1") -> list[Effect]:
        """The worker sends a result and the hub accepts it."""
        [verify] = self.result(lease, worker)
        assert isinstance(verify, Verify)
        return self.probed(verify)

    # --- time

    def wait(self, seconds: float, step: float = 1.0, renewed: dict[str, str] | None = None) -> list[Effect]:
        """Time passes, tick by tick; `renewed` says which worker keeps which lease alive meanwhile."""
        effects: list[Effect] = []
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            for worker, lease in (renewed or {}).items():
                effects += self.say(Renew(lease=lease), worker)
            effects += self.take(self.core.tick(self.now))
        return effects

    def pause(self, seconds: float) -> list[Effect]:
        """The whole process stands still, then ticks once."""
        self.now += seconds
        return self.take(self.core.tick(self.now))


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python a piece of work runs: what it costs, whatever the machine does meanwhile."""
    count, before = 0, sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
