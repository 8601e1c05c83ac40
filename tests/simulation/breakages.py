"""Rules of the hub, broken on purpose: what the simulation is worth is what it finds.

Each breakage is a mistake that somebody could make, put into the real code while a day runs. Owns nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from hub import messages, task as moves
from hub.core import Core
from hub.dispatcher import Dispatcher
from hub.effects import Delete, Effect, Outcome, Publish, Save
from hub.elsewhere import Elsewhere
from hub.fairness import FairQueue
from hub.limits import ModelQueue
from hub.runner import Runner
from hub.session import WorkerSession
from hub.task import Lease, LeaseLost, State, Task
from hub.workload import Workload
from store.documents import WRITER, to_document
from store.memory import MemoryStore

BREAKAGES: dict[str, Callable[[], AbstractContextManager[Any]]] = {}


def breakage(make: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
    BREAKAGES[make.__name__.replace("_", "-")] = contextmanager(make)
    return make


def broken(name: str) -> AbstractContextManager[Any]:
    """The hub with this rule broken; as it is, without a name."""
    return BREAKAGES[name]() if name else nullcontext()


def explained() -> str:
    """All breakages, a line each."""
    return "\n".join(f"{name:20} {str(make.__doc__).strip()}" for name, make in BREAKAGES.items())


@breakage
def old_lease() -> Iterator[None]:
    """A report under a lease that was lost counts: neither the table of leases nor the task's own lease is asked."""
    granted: dict[str, tuple[str, str]] = {}
    assign = Workload.assign

    def remember(self: Workload, task: Task, lease: Lease, now: float) -> Task:
        granted[lease.id] = (task.id, lease.worker)
        return assign(self, task, lease, now)

    def leased(self: Workload, lease_id: str) -> Task | None:
        return self.tasks.get(granted.get(lease_id, ("", ""))[0])

    def held(task: Task, lease_id: str) -> Lease:
        if task.lease is None:
            raise LeaseLost("nobody holds it")
        return replace(task.lease, worker=granted[lease_id][1]) if lease_id in granted else task.lease

    with patch.object(Workload, "assign", remember), patch.object(Workload, "leased", leased):
        with patch.object(moves, "held", held):
            yield


@breakage
def unstored_lease() -> Iterator[None]:
    """The assignment goes out and the lease is not stored before."""
    accepted = Core.accepted

    def forgetful(self: Core, session: WorkerSession, message: messages.Accept, now: float) -> list[Effect]:
        return [effect for effect in accepted(self, session, message, now) if not isinstance(effect, Save)]

    with patch.object(Core, "accepted", forgetful):
        yield


@breakage
def any_size() -> Iterator[None]:
    """A worker is offered what is larger than it takes."""

    def within(self: ModelQueue, offer: messages.Model, looks: Iterator[object]) -> FairQueue:
        return self

    with patch.object(ModelQueue, "within", within):
        yield


@breakage
def slot_sold_twice() -> Iterator[None]:
    """A slot whose work was called off is taken to be free at once."""

    def free(self: WorkerSession) -> int:
        return max(0, self.slots - len(self.offers) - len(self.leases)) if self.usable else 0

    with patch.object(WorkerSession, "free", property(free)):
        yield


@breakage
def no_fence() -> Iterator[None]:
    """A write does not look which version it replaces."""

    def apply(self: MemoryStore, change: Save | Delete) -> Outcome:
        if isinstance(change, Delete):
            self.collections[change.kind].pop(change.id, None)
        else:
            document = {**to_document(change.record), WRITER: self.writer}
            self.collections[type(change.record)][document["_id"]] = document
        return Outcome.DONE

    with patch.object(MemoryStore, "apply", apply):
        yield


@breakage
def own_write_disowned() -> Iterator[None]:
    """A commit that was done and told failed is taken for somebody else's when it is tried again."""
    apply = MemoryStore.apply

    def strict(self: MemoryStore, change: Save | Delete) -> Outcome:
        if isinstance(change, Save):
            stored = self.collections[type(change.record)].get(change.record.id)
            if (stored["version"] if stored is not None else 0) != change.previous:
                return Outcome.MISSED
        return apply(self, change)

    with patch.object(MemoryStore, "apply", strict):
        yield


@breakage
def input_error_retried() -> Iterator[None]:
    """A failure that the input is to blame for is tried again like any other."""
    give_up = Workload.give_up

    def hopeful(self: Workload, task: Task, lease: Lease, problem: Any, retryable: bool, *rest: Any) -> list[Effect]:
        return give_up(self, task, lease, problem, True, *rest)

    with patch.object(Workload, "give_up", hopeful):
        yield


@breakage
def no_attempt_limit() -> Iterator[None]:
    """Attempts go on for ever."""
    begin = Workload.__init__

    def patient(self: Workload, rules: Any, random: Any) -> None:
        begin(self, replace(rules, max_attempts=10 ** 9, quarantine_workers=10 ** 9), random)

    with patch.object(Workload, "__init__", patient):
        yield


@breakage
def repeats_handled() -> Iterator[None]:
    """What a worker says twice is handled twice."""

    def accept(self: WorkerSession, message: messages.Message, now: float) -> bool:
        self.heard_at, self.seen = now, max(self.seen, message.n)
        self.acknowledge(message.ack)
        return True

    with patch.object(WorkerSession, "accept", accept):
        yield


@breakage
def progress_goes_back() -> Iterator[None]:
    """After a restart a running task looks as it was stored, and so older than what was shown."""
    with patch("hub.workload.UNSTORED", 0):
        yield


@breakage
def newest_first() -> Iterator[None]:
    """Who asked last is served first."""

    def order(task: Task) -> tuple[float, str]:
        return -task.created_at, task.id

    with patch("hub.fairness.order", order), patch("hub.dispatcher.order", order):
        yield


@breakage
def same_worker_again() -> Iterator[None]:
    """A task goes back to the worker on which it failed, whoever else is here."""
    with patch.object(Dispatcher, "avoids", lambda self, task, session, now: False):
        yield


@breakage
def lease_without_end() -> Iterator[None]:
    """A worker that falls silent keeps its task."""
    overdue = Workload.overdue

    def lenient(self: Workload, now: float) -> list[Any]:
        return [found for found in overdue(self, now) if found[2].code != "worker_lost"]

    with patch.object(Workload, "overdue", lenient):
        yield


@breakage
def cancel_without_fence() -> Iterator[None]:
    """A result that was being looked into when its task was cancelled is accepted all the same."""
    probed = Core.probed

    def late(self: Core, task_id: str, lease_id: str, verdict: Any, now: float) -> list[Effect]:
        ended = self.work.ended.get(task_id)
        if ended is None or ended.state is not State.CANCELLED or not isinstance(verdict, list):
            return probed(self, task_id, lease_id, verdict, now)
        after = replace(ended, state=State.COMPLETED, version=ended.version + 1)
        return [Save(after, ended.version), Publish(after, messages.COMPLETED)]

    with patch.object(Core, "probed", late):
        yield


@breakage
def no_wake() -> Iterator[None]:
    """A task that rests after a failure is never woken."""

    def wake(self: Dispatcher, now: float) -> None:
        pass

    with patch.object(Dispatcher, "wake", wake):
        yield


@breakage
def shown_too_early() -> Iterator[None]:
    """Events leave before what they tell is durable."""
    decide = Runner.decide

    def hasty(self: Runner, effects: Sequence[Effect]) -> Any:
        for effect in effects:
            if isinstance(effect, Publish):
                self.publish(effect)
        return decide(self, [effect for effect in effects if not isinstance(effect, Publish)])

    with patch.object(Runner, "decide", hasty):
        yield


@breakage
def silent_release() -> Iterator[None]:
    """A task waits again and nobody is told."""
    release = Workload.release

    def silent(self: Workload, before: Task, after: Task, now: float) -> list[Effect]:
        return [effect for effect in release(self, before, after, now) if not isinstance(effect, Publish)]

    with patch.object(Workload, "release", silent):
        yield


@breakage
def stale_snapshot() -> Iterator[None]:
    """A snapshot shows what was read, and not what was shown since."""
    with patch("hub.shown.Shown.latest", lambda self, task: self.open.get(task.id, task)):
        with patch("hub.shown.Shown.snapshot", lambda self, found, owner, most: [self.latest(task) for task in found]):
            yield


@breakage
def early_snapshot() -> Iterator[None]:
    """A snapshot does not wait for the events of what it holds."""

    async def catch_up(self: Runner, found: Sequence[Task]) -> list[Task]:
        return list(found)

    with patch.object(Runner, "catch_up", catch_up):
        yield


@breakage
def one_look() -> Iterator[None]:
    """What the process before had asked for and was written late is never looked for."""

    async def look_again(self: Elsewhere) -> None:
        pass

    with patch.object(Elsewhere, "look_again", look_again):
        yield
