"""Bad days by the hundred: users, workers, networks and the hub itself do random things, and the promises hold.

Workers converse through the real worker outbox. Whatever is lost is lost as in life: messages of a broken connection,
sessions and decisions of a killed hub. The ledger checks every effect, and at the end a healthy worker must find
every task in a state from which it can be ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.core import Core
from hub.effects import Close, Effect, Save, Send, Verify
from hub.errors import NotFound
from hub.interface import OfferedModel
from hub.media import Mismatch
from hub.messages import (
    Accept, Assign, Bye, Cancel, Decline, Drain, Failed, FailedAck, LeaseLost, Message, Offer, Progress, Renew, Result,
    ResultAck, Status, Welcome, decode, to_worker,
)
from hub.rules import Rules
from hub.task import IllegalMove, Task
from worker.outbox import Outbox

from .world import ARTIFACT, NO_MATCH, START, Ledger, a_hello, a_result, a_task, check, links

RULES = Rules(lease_s=20, renew_s=5, heartbeat_s=8)
WORKERS, TASKS = 3, 4
DEADLINE_S = RULES.max_attempts * (RULES.lease_s + max(RULES.backoff_s))


class Worker:
    """The other end, as far as its words matter: what it runs, what it was offered, what it owes the hub."""

    def __init__(self, name: str, slots: int) -> None:
        self.name, self.slots, self.instance = name, slots, 1
        self.restart()

    def restart(self) -> None:
        """A new process: nothing is known of the old one's work."""
        self.instance += 1
        self.outbox = Outbox()
        self.session = ""
        self.connected = False
        self.offers: list[str] = []
        self.works: dict[str, Message | None] = {}
        self.past: list[str] = []

    def hear(self, data: bytes) -> None:
        message = decode(to_worker, data)
        if isinstance(message, Welcome) and not self.connected:
            self.connected = True
            if message.resumed and message.session == self.session:
                self.outbox.resume(message)
            else:
                self.outbox.restart(message)
                for ending in self.works.values():
                    if ending is not None:
                        self.outbox.post(ending)
            self.session = message.session
        elif self.outbox.hear(message):
            self.take(message)

    def take(self, message: Message) -> None:
        match message:
            case Offer(offer=offer):
                self.offers.append(offer)
            case Assign(lease=lease):
                assert len(self.works) < self.slots, "more work than slots"
                self.works[lease] = None
                self.past.append(lease)
            case Cancel(lease=lease) | LeaseLost(lease=lease) | ResultAck(lease=lease) | FailedAck(lease=lease):
                self.works.pop(lease, None)

    def end(self, lease: str, ending: Message) -> None:
        if self.works.get(lease, ending) is None:
            self.works[lease] = ending
            self.outbox.post(ending)


class Day:
    """One random day of a hub: each public method is something that may happen."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.ledger = Ledger()
        self.now = START
        self.workers = [Worker(f"w{number}", number + 1) for number in range(WORKERS)]
        self.made = 0
        self.start()

    def start(self) -> None:
        """The hub begins, with what is stored and nothing else."""
        self.core = Core(RULES, lambda: f"id-{next(self.numbers)}", links)
        self.verifies: list[Verify] = []
        self.reads: dict[str, Task] = {}
        self.killed = False
        self.ledger.shown = {id: replace(task, progress=0.0) for id, task in self.ledger.shown.items()}
        for worker in self.workers:
            worker.connected, worker.offers = False, []
        records = list(self.ledger.stored.values())
        tasks = [record for record in records if isinstance(record, Task) and not record.state.ended]
        self.core.boot(tasks, [record for record in records if isinstance(record, OfferedModel)], self.now)

    def carry_out(self, effects: Sequence[Effect]) -> None:
        if self.killed and any(isinstance(effect, Save) for effect in effects):
            self.start()  # killed between the decision and the disk: nothing of it has happened
            return
        self.ledger.take(effects)
        check(self.core)
        for effect in effects:
            if isinstance(effect, Verify):
                self.verifies.append(effect)
            elif isinstance(effect, Close):
                for worker in self.workers:
                    if worker.session == effect.session:
                        worker.connected = False
            elif isinstance(effect, Send) and effect.session in self.core.sessions:
                session = self.core.sessions[effect.session]
                data = session.post(effect.message)
                if session.attached:
                    next(worker for worker in self.workers if worker.name == session.worker).hear(data)

    # --- workers

    def connect(self, a: int, b: int) -> None:
        worker = self.workers[a % len(self.workers)]
        worker.connected, worker.offers = False, []
        hello = a_hello(
            worker.name, slots=worker.slots, instance=str(worker.instance), running=list(worker.works),
            last_seen=worker.outbox.heard,
        )
        known = self.core.session_of(worker.name)
        missed = known.missed(hello.last_seen) if known is not None and known.instance == hello.instance else []
        effects = self.core.join(hello, self.now)
        for data in missed:
            worker.hear(data)
        self.carry_out(effects)

    def disconnect(self, a: int, b: int) -> None:
        """The connection breaks; what was said and not heard stays in the worker's outbox."""
        worker = self.workers[a % len(self.workers)]
        if worker.connected:
            worker.connected, worker.offers = False, []
            self.carry_out(self.core.detach(worker.session, self.now))

    def crash(self, a: int, b: int) -> None:
        """A worker's process dies; the hub may notice, or not."""
        if b % 2:
            self.disconnect(a, b)
        self.workers[a % len(self.workers)].restart()

    def speak(self, a: int, b: int) -> None:
        """Up to three words of a worker reach the hub; now and then one does twice."""
        worker = self.workers[a % len(self.workers)]
        for _ in range(3):
            message = worker.outbox.next() if worker.connected else None
            if message is None:
                return
            for _ in range(1 + b % 2):
                try:
                    self.carry_out(self.core.receive(worker.session, message, self.now))
                except NotFound:
                    worker.connected = False
                    return

    def answer(self, a: int, b: int) -> None:
        worker = self.workers[a % len(self.workers)]
        while worker.offers:
            offer = worker.offers.pop(0)
            worker.outbox.post(Decline(offer=offer) if b % 5 == 0 else Accept(offer=offer))
        self.speak(a, 0)

    def work(self, a: int, b: int) -> None:
        """Something is reported: progress, a renewal, an end, or something about a lease long over."""
        worker = self.workers[a % len(self.workers)]
        running = [lease for lease, ending in worker.works.items() if ending is None]
        if b % 11 == 0 and worker.past:
            lease = worker.past[b % len(worker.past)]
            worker.outbox.post(Result(lease=lease, artifacts=[replace(ARTIFACT, upload_id="other")]))
        elif running:
            lease = running[b % len(running)]
            match b % 6:
                case 0:
                    worker.outbox.post(Renew(lease=lease))
                case 1 | 2:
                    worker.outbox.post(Progress(lease=lease, phase="segment", progress=b % 101))
                case 3 | 4:
                    worker.end(lease, Result(lease=lease, artifacts=[ARTIFACT]))
                case 5:
                    worker.end(lease, Failed(lease=lease, code="crashed", retryable=b % 4 != 3))
        self.speak(a, b)

    def leave(self, a: int, b: int) -> None:
        worker = self.workers[a % len(self.workers)]
        if worker.connected:
            worker.outbox.post(Drain() if b % 2 else Bye())
            self.speak(a, 0)
            if b % 2 == 0:
                worker.restart()

    # --- users and the hub

    def submit(self, a: int, b: int) -> None:
        if self.made < TASKS and self.core.models:
            self.made += 1
            self.carry_out(self.core.submit(a_task(f"task-{self.made}", priority=b % 3), self.now))

    def read(self, a: int, b: int) -> None:
        """A user's request reads a task; what it decides may come much later."""
        id = f"task-{a % TASKS + 1}"
        if (Task, id) in self.ledger.stored:
            self.reads[id] = self.ledger.stored[Task, id]

    def cancel(self, a: int, b: int) -> None:
        self.decide(self.core.cancel, a)

    def retry(self, a: int, b: int) -> None:
        self.decide(self.core.retry, a)

    def decide(self, move: Callable[[Task, float], list[Effect]], a: int) -> None:
        id = f"task-{a % TASKS + 1}"
        task = self.reads.pop(id, None) or self.ledger.stored.get((Task, id))
        if task is not None:
            try:
                self.carry_out(move(task, self.now))
            except IllegalMove:
                check(self.core)

    def look(self, a: int, b: int) -> None:
        """The hub has finished looking into a result."""
        if self.verifies:
            verify = self.verifies.pop(a % len(self.verifies))
            verdict: list[object] | Mismatch = NO_MATCH if b % 4 == 0 else [a_result(f"media-{next(self.numbers)}")]
            self.carry_out(self.core.probed(verify.task.id, verify.lease, verdict, self.now))  # type: ignore[arg-type]

    def tick(self, a: int, b: int) -> None:
        for _ in range(1 + b % 8):
            self.now += 0.25 + (a % 8) / 4
            self.carry_out(self.core.tick(self.now))

    def pause(self, a: int, b: int) -> None:
        self.now += b
        self.carry_out(self.core.tick(self.now))

    def kill(self, a: int, b: int) -> None:
        """The hub is killed: now, or between its next decision and the disk."""
        if b % 2:
            self.killed = True
        else:
            self.start()

    # --- the evening

    def finish(self) -> None:
        """Everybody goes home but one healthy worker; every task must be ended within the promised time."""
        self.killed = False
        for number in range(WORKERS):
            self.disconnect(number, 0)
        self.workers.append(Worker("healthy", 8))
        self.connect(WORKERS, 0)
        healthy, until = self.workers[-1], self.now + DEADLINE_S
        while self.core.tasks:
            assert self.now < until, f"left open: {[(t.id, t.state, t.not_before) for t in self.core.tasks.values()]}"
            for lease in list(healthy.works):
                healthy.end(lease, Result(lease=lease, artifacts=[ARTIFACT]))
            healthy.outbox.post(Status())
            self.answer(WORKERS, 1)
            while self.verifies:
                self.look(0, 1)
            self.tick(3, 0)
        stored = [record for record in self.ledger.stored.values() if isinstance(record, Task)]
        assert len(stored) <= TASKS and all(task.state.ended for task in stored)
        assert set(self.ledger.completed.values()) <= {1}, "a task that completed twice"


HAPPENINGS = [
    Day.connect, Day.connect, Day.disconnect, Day.crash, Day.speak, Day.answer, Day.answer, Day.answer, Day.work,
    Day.work, Day.work, Day.leave, Day.submit, Day.submit, Day.read, Day.cancel, Day.retry, Day.look, Day.look,
    Day.tick, Day.tick, Day.pause, Day.kill,
]
SCHEDULES = st.lists(
    st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 7), st.integers(0, 60)), min_size=20, max_size=100,
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(SCHEDULES)
def test_p5_p6_p7_p9_hold_on_any_day(schedule: list[tuple[Callable[[Day, int, int], None], int, int]]) -> None:
    day = Day()
    day.connect(2, 0)
    day.submit(0, 0)
    day.submit(0, 1)
    for happens, a, b in schedule:
        happens(day, a, b)
    day.finish()
