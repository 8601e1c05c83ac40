"""What must hold, whatever happens: each promise looked at from outside while the day goes on.

Owns its own books of what was decided, stored, shown, told and answered, and believes nobody else's. The hub's
memory is looked at in `memory`, the end of the day in `evening`.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hub.effects import Delete, Effect, Outcome, Publish, Save, Send
from hub.messages import (
    DELETED, PROGRESSED, UPDATED, Assign, Cancel, FailedAck, LeaseLost, Message, Offer, ResultAck, decode, to_worker,
)
from hub.task import TRANSITIONS, State, Task

from . import evening, fairness, memory

if TYPE_CHECKING:
    from .hub import SimulatedHub
    from .workers import Instance
    from .world import World

NEVER = 1 << 60  # newer than any version


class Broken(AssertionError):
    """Something that must hold does not."""


class Watch:
    """The books. `chain` is the last decided record of each task, `durable` the newest durable version, `leases` in
    which version of which task a lease came to be, `shown` what viewers were told last."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.broken: Broken | None = None
        self.chain: dict[str, Task] = {}
        self.durable: dict[str, int] = {}
        self.leases: dict[str, tuple[str, int]] = {}
        self.leases_ever: list[str] = []
        self.shown: dict[str, Task] = {}
        self.completions: Counter[str] = Counter()
        self.owners: dict[str, str] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.granted: dict[str, float] = {}
        self.called_off: dict[str, float] = {}
        self.unwanted: set[str] = set()
        self.removed: set[str] = set()
        self.reread: set[str] = set()
        self.hopeless: dict[str, str] = {}
        self.handled: set[tuple[str, int]] = set()

    def complain(self, text: str) -> None:
        """Note the first thing that does not hold; the step that did it ends the day."""
        self.world.tell("!!! %s", text)
        if self.broken is None:
            self.broken = Broken(text)

    def check(self, holds: bool, text: str, *facts: object) -> None:
        if not holds:
            self.complain(text % facts)

    # --- decisions ----------------------------------------------------------------------------------------------

    def decided(self, hub: SimulatedHub, effects: Sequence[Effect]) -> None:
        """A decision: guards that follow on each other, legal moves, each with its event."""
        events = {(effect.task.id, effect.task.version) for effect in effects if isinstance(effect, Publish)}
        for effect in effects:
            if isinstance(effect, Save) and isinstance(effect.record, Task):
                self.saved(effect, effect.record, events)
            elif isinstance(effect, Delete) and effect.kind is Task:
                self.removed.add(effect.id)
                self.chain.pop(effect.id, None)
            elif isinstance(effect, Send):
                self.said(hub, effect)

    def saved(self, effect: Save, task: Task, events: set[tuple[str, int]]) -> None:
        misled = self.world.disk.late_writes > 0  # by a dead hub: then only what this one has decided itself counts
        before = self.chain.get(task.id) or (None if misled else self.world.disk.read(Task, task.id))
        self.chain[task.id] = task
        if effect.previous == 0 or (before is not None and before.state is not task.state):
            self.world.tell("%s: %s -> %s (version %d)", task.id, before.state if before else "new", task.state, task.version)
            self.check((task.id, task.version) in events, "P9: %s became %s without an event", task.id, task.state)
        if task.lease is not None and task.lease.id not in self.leases:
            self.leases[task.lease.id] = (task.id, task.version)
            self.leases_ever.append(task.lease.id)
            self.granted[task.lease.id] = self.world.now
        self.check(task.version > effect.previous, "the version of %s does not grow", task.id)
        self.check((task.lease is not None) == (task.state is State.PROCESSING), "%s: %s and its lease", task.id, task.state)
        most = self.world.plan.rules.max_attempts
        self.check(task.attempt <= most, "P7: attempt %d of %s, at most %d", task.attempt, task.id, most)
        if before is None:
            self.check(effect.previous == 0 or misled or task.id in self.removed | self.reread, "%s is not stored, guard %d", task.id, effect.previous)
            return
        if task.id not in self.removed:
            self.check(effect.previous == before.version, "the guard of %s is %d, %d was saved", task.id, effect.previous, before.version)
        legal = task.state is before.state or task.state in TRANSITIONS[before.state].values()
        self.check(legal, "P7: %s went from %s to %s", task.id, before.state, task.state)
        if before.state.ended:
            self.check(task.state is State.WAITING, "P7: %s had ended (%s) and is now %s", task.id, before.state, task.state)
        if before.lease is not None and task.state is State.WAITING and task.attempts:
            said, code = self.hopeless.get(before.lease.id), task.attempts[-1].code
            self.check(said != code, "P7: %s is tried again, although its input is to blame: %s", task.id, code)
        if task.lease is not None and before.lease is not None:
            self.check(task.lease.id == before.lease.id, "%s has two leases", task.id)
            self.check(task.progress >= before.progress, "P9: the progress of %s went back", task.id)

    def said(self, hub: SimulatedHub, effect: Send) -> None:
        """An offer takes a slot that is free; what is called off has its slot for a while."""
        message = effect.message
        if isinstance(message, Offer):
            session = hub.core.sessions[effect.session]
            filled = len(session.offers) + len(session.leases) + len(session.stopping)
            takes, facts = self.world.plans[session.worker].takes, hub.core.tasks[message.task].video.facts
            self.check(takes(facts), "%s is offered to %s, which does not take it", message.task, session.worker)
            again = fairness.better_elsewhere(hub.core, session, hub.core.tasks[message.task], hub.clock.now())
            self.check(not again, "%s is offered to %s once more, before others", message.task, session.worker)
            for passed in fairness.passed_over(hub.core, session, takes, message.task, hub.clock.now()):
                self.complain(f"nobody starves: {message.task} is offered to {session.worker} before {passed}")
            self.check(filled <= session.slots, "slots of %s oversold: %d of %d", session.worker, filled, session.slots)
        elif isinstance(message, LeaseLost | Cancel):
            self.called_off.setdefault(message.lease, self.world.now)

    def received(self, session: str, message: Message, effects: Sequence[Effect]) -> None:
        """A worker has said something: what it says twice is handled once."""
        self.check(not effects or (session, message.n) not in self.handled, "message %d is handled twice", message.n)
        self.handled.add((session, message.n))

    def distrust(self, task_id: str) -> None:
        """The hub has found that it was wrong about a task, and believes the store."""
        self.chain.pop(task_id, None)
        self.shown.pop(task_id, None)
        self.reread.add(task_id)

    def hub_begins(self) -> None:
        """A process that knows nothing but what is durable: what was decided and is not has never been."""
        self.chain.clear()

    def hub_is_up(self) -> None:
        stored = {task.id for task in self.world.disk.all(Task)}
        for task_id in self.owners:
            self.check(task_id in stored or task_id in self.unwanted, "P5: task %s was accepted and is lost", task_id)

    # --- the store ----------------------------------------------------------------------------------------------

    def stored(self, change: Save | Delete, before: Task | None, outcome: Outcome) -> None:
        """The disk has changed, or has not."""
        if isinstance(change, Delete):
            self.durable[change.id] = NEVER
            self.check(before is None or change.id in self.unwanted, "P5: %s is deleted, and nobody wanted it", change.id)
            return
        task = change.record
        if outcome is not Outcome.DONE or (before is not None and before.version == task.version):
            return
        self.durable[task.id] = max(task.version, self.durable.get(task.id, 0))
        if before is not None:
            self.check(task.version > before.version, "the stored version of %s went back", task.id)
            self.check(before.state is not State.COMPLETED, "P6: %s was completed and is stored as %s", task.id, task.state)
        if task.state is State.COMPLETED:
            self.completions[task.id] += 1
            self.check(self.completions[task.id] == 1, "P6: %s has completed twice", task.id)

    # --- what the world gets to see -----------------------------------------------------------------------------

    def published(self, hub: SimulatedHub, effect: Publish) -> None:
        """An event: durable before it is shown, newer than the one before."""
        task, before = effect.task, self.shown.get(effect.task.id)
        self.world.seen[f"event: {effect.type}"] += 1
        self.world.tell("shows %s of %s (version %d)", effect.type, task.id, task.version)
        if task.problem is not None:
            self.world.seen[f"problem: {task.problem.code}"] += 1
        if effect.type == DELETED:
            return
        adopted = effect.type == UPDATED and task.state is State.PROCESSING
        if effect.type != PROGRESSED and not adopted:
            durable = self.durable.get(task.id, 0)
            self.check(task.version <= durable, "P9: %s of %s (version %d) is shown, %d is durable", effect.type, task.id, task.version, durable)
        if before is not None and not self.world.disk.late_writes:
            news = effect.type == UPDATED and task.version == before.version  # of its place in line, not of itself
            self.check(news or task.version > before.version, "P9: %s of %s: version %d after %d", effect.type, task.id, task.version, before.version)
        self.shown[task.id] = task

    def told(self, hub: SimulatedHub, worker: str, data: bytes) -> None:
        """A message goes to a worker: what it says is durable already."""
        message: Message = decode(to_worker, data)
        self.world.tell("-> %s  %s", worker, data.decode())
        self.world.seen[f"to worker: {type(message).__name__}"] += 1
        match message:
            case Assign():
                task, version = self.leases.get(message.lease, (message.task, NEVER))
                self.check(self.durable.get(task, 0) >= version, "P6: lease %s of %s is told and not durable", message.lease, task)
            case ResultAck(lease=lease) | FailedAck(lease=lease) | LeaseLost(lease=lease) | Cancel(lease=lease):
                if lease in self.leases and not self.world.disk.late_writes:
                    stored = self.world.disk.read(Task, self.leases[lease][0])
                    held = stored is not None and stored.lease is not None and stored.lease.id == lease
                    own = held and stored is not None and stored.worker == worker
                    self.check(not own, "P6: %s of lease %s is told, and stored it still runs", type(message).__name__, lease)

    def begins(self, instance: Instance, assign: Assign) -> None:
        """A worker begins a task: it has a slot for it, if it does what it says."""
        if instance.plan.manners & {"lying", "stubborn"}:
            return
        running = [work.task for work in instance.busy if not work.dropped]
        kept_since = self.granted[assign.lease] - self.world.plan.rules.stop_s  # whose slot may have been given away
        stopping = [
            work.task for work in instance.busy if work.dropped and work.session == instance.session
            and self.called_off.get(work.lease, 0.0) > max(kept_since, work.begun_at)
        ]
        self.check(
            len(running) + len(stopping) < instance.plan.slots, "slots of %s oversold: %d, runs %s, stops %s, gets %s",
            instance.worker.name, instance.plan.slots, running, stopping, assign.task,
        )

    # --- what users are told ------------------------------------------------------------------------------------

    def accepted(self, task: str, user: str, key: str) -> None:
        """A user has read the answer to a creation."""
        first = self.keys.setdefault((user, key), task)
        self.check(first == task or first in self.unwanted, "P5: %s made %s and %s", key, first, task)
        self.owners[task] = user
        stored = self.world.disk.read(Task, task)
        self.check(stored is not None or task in self.unwanted, "P5: %s is accepted and not stored", task)

    def answered(self, move: str, task: str, version: int) -> None:
        """A move is about to be answered with 200."""
        self.check(self.durable.get(task, 0) >= version, "P5: %s of %s is answered and not durable", move, task)

    def not_found(self, task: str) -> None:
        self.check(task in self.unwanted, "P5: %s is not found, and nobody deleted it", task)

    def deleted(self, task: str) -> None:
        stored = self.world.disk.read(Task, task)
        self.check(stored is None, "%s is deleted and still stored", task)

    # --- the hub itself -----------------------------------------------------------------------------------------

    def heard_warning(self, event: str, facts: dict[str, Any]) -> None:
        """The hub complains: about the database it may, about another hub only where there was one."""
        if event in ("commit_failed", "verification_delayed") and not facts.get("exc_info"):
            return
        if event == "task_moved_elsewhere" and (self.world.disk.late_writes or facts["task"] in self.removed | self.reread):
            return
        reason = traceback.format_exc() if facts.pop("exc_info", None) or event == "effect_failed" else ""
        self.complain(f"the hub logs {event} {facts} {reason}")

    def look_at(self, hub: SimulatedHub) -> None:
        """After every step of the hub."""
        for complaint in memory.contradictions(hub.core):
            self.complain(f"the hub's memory: {complaint}")

    def at_rest(self) -> bool:
        return self.world.steps % 8 == 0 and not any(evening.unrest(self.world))

    def complain_of_unrest(self) -> None:
        reasons = "; ".join(evening.unrest(self.world))
        self.complain(f"P5: after {self.world.patience:.0f} quiet seconds there is no rest: {reasons}")
        assert self.broken is not None
        raise self.broken

    def look_back(self) -> None:
        for complaint in evening.complaints(self.world):
            self.complain(complaint)
        if self.broken is not None:
            raise self.broken
