"""The open tasks: who holds which lease, how an attempt ends, and what follows from it.

Owns the tasks in memory, their leases, and the memory of those that have just ended. Each move returns the effects
that make it true outside. Never knows a session: whom to tell is the core's business.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from msgspec.structs import replace

from . import messages, task as moves
from .dispatcher import Dispatcher
from .effects import Effect, Publish, Save
from .estimate import Estimates, size_of
from .media import Media
from .messages import LONGEST_WAIT_S
from .pacing import Pacing
from .parts import Parts
from .report import Report
from .rules import Rules
from .task import LOST, QUARANTINED, STALLED, Lease, Output, Problem, Task

FINISHED_KEPT = 10_000  # ended leases remembered, so that a report sent twice is answered like the first
ENDED_KEPT = 2_000  # ended tasks remembered, because the store may not have heard of their end yet
UNSTORED = 100_000  # more versions than a task's progress can be ahead of the store
UNKNOWN_COST_S = 0.05  # seconds for a megapixel-frame of a model that nobody has finished yet
REFUSED = "refused"  # the failure code of a worker that would not begin
REFUSALS = 12  # times that one worker may refuse a task before that is an attempt: for more than an hour
LONGEST_REFUSAL_S = 600.0  # seconds for which a worker that refuses is not asked again
ENDS_WORKERS = frozenset({LOST, "worker_crashed", STALLED})  # a worker did not survive its attempt


class Workload:
    """All open tasks. `random` gives numbers from 0 to 1.

    `verifying` and `finished` say by task and by lease which report was taken for it.
    """

    def __init__(self, rules: Rules, random: Callable[[], float]) -> None:
        self.rules = rules
        self.random = random
        self.tasks: dict[str, Task] = {}
        self.leases: dict[str, str] = {}
        self.verifying: dict[str, Report] = {}
        self.finished: OrderedDict[str, Report | None] = OrderedDict()
        self.ended: OrderedDict[str, Task] = OrderedDict()
        self.pacing = Pacing(rules.save_every_s, rules.publish_every_s)
        self.dispatcher = Dispatcher(self.cost, rules.user_cap)
        self.estimates = Estimates()
        self.parts = Parts()
        self.longest = max(LONGEST_WAIT_S, *rules.backoff_s) * (1 + rules.jitter)

    # --- coming and going ---------------------------------------------------------------------------------------

    def adopt(self, task: Task, now: float) -> None:
        """Believe the store about one task, whatever was believed before."""
        self.forget(task.id)
        if task.state.ended:
            return
        if task.lease is None:
            # Another process set not_before by its own clock: no more of a pause can be left than the whole of it.
            pause = min(task.not_before - task.attempts[-1].ended_at, self.longest) if task.attempts else 0.0
            self.wait(task if task.not_before <= now + pause else replace(task, not_before=now + pause), now)
            return
        until = max(min(task.lease.expires_at, now + self.rules.lease_s), now + self.rules.heartbeat_s)
        grace = replace(task.lease, expires_at=until)
        # Viewers may have seen progress that was not stored any more: what they see next must be newer than that.
        running = self.tasks[task.id] = replace(task, lease=grace, version=task.version + UNSTORED)
        self.leases[grace.id] = task.id
        self.finished.pop(grace.id, None)
        self.pacing.begin(running, task.version, now, None)
        self.dispatcher.began(running)

    def wait(self, task: Task, now: float) -> None:
        """A task waits from now on."""
        self.parts.share(task)
        self.tasks[task.id] = task
        self.dispatcher.add(task, now)
        if task.attempts and (failed_on := frozenset(each.worker for each in task.attempts if each.code != REFUSED)):
            self.dispatcher.avoid(task, failed_on, now)

    def cost(self, task: Task) -> float:
        """The seconds that a task is expected to take, for fairness: a guess where nothing is known."""
        span = self.estimates.span(task.model, task.video.facts)
        return span.p50 if span is not None else UNKNOWN_COST_S * size_of(task.video.facts)

    def forget(self, task_id: str, seconds: float | None = None) -> None:
        """A task is nothing to this process any more: it ended after `seconds`, or another process moved it."""
        task = self.tasks.pop(task_id, None)
        if task is not None:
            self.dispatcher.forget(task, seconds if task.lease is not None else 0.0)
        self.pacing.end(task_id)
        self.verifying.pop(task_id, None)
        self.ended.pop(task_id, None)
        if task is not None and task.lease is not None:
            self.leases.pop(task.lease.id, None)
            self.finish(task.lease.id, None)

    def finish(self, lease_id: str, report: Report | None) -> None:
        """A lease is over, with what its holder reported, if that counted."""
        self.finished[lease_id] = report
        if len(self.finished) > FINISHED_KEPT:
            self.finished.popitem(last=False)

    def newest(self, task: Task) -> Task:
        """What is true of a task by now: the store, which said `task`, may not have heard of it yet."""
        known = self.tasks.get(task.id) or self.ended.get(task.id)
        return task if known is None or known.version < task.version else known

    def believed(self, task_id: str) -> int:
        """The version that the store has of a task, once all that was decided is durable; 0 for one long ended."""
        known = self.tasks.get(task_id) or self.ended.get(task_id)
        return 0 if known is None else self.pacing.stored_version(known)

    def leased(self, lease_id: str) -> Task | None:
        """The task that a current lease is for."""
        return self.tasks.get(self.leases.get(lease_id, ""))

    # --- moves --------------------------------------------------------------------------------------------------

    def assign(self, task: Task, lease: Lease, now: float) -> Task:
        """A worker takes a task."""
        after = moves.assign(task, lease, now)
        self.dispatcher.remove(task)
        self.tasks[task.id] = after
        self.leases[lease.id] = task.id
        self.pacing.begin(after, after.version, now, now)
        return after

    def step(self, after: Task, now: float, shown: bool = True) -> list[Effect]:
        """A running task has got further, or its lease longer."""
        before = self.tasks[after.id]
        self.tasks[after.id] = after
        return self.pacing.step(before, after, now, shown)

    def extend(self, task: Task, now: float) -> None:
        """Let a lease live for at least one more heartbeat; the store learns of it with the next renewal."""
        if task.lease is not None:
            until = max(task.lease.expires_at, now + self.rules.heartbeat_s)
            self.tasks[task.id] = replace(task, lease=replace(task.lease, expires_at=until))

    def complete(self, task: Task, lease: Lease, records: list[Media], now: float) -> list[Effect]:
        """The result was verified: the end, and something learned about the model's speed."""
        outputs = tuple(
            Output(record.id, record.purpose, record.name, record.size, record.sha256, record.facts.frames)
            for record in records if record.facts is not None
        )
        seconds = self.pacing.seconds(task.id, now)
        if seconds is not None:
            self.estimates.learn(task.model, lease.worker, task.video.facts, seconds)
        saves: list[Effect] = [Save(record, record.version - 1) for record in records]
        return saves + self.settle(task, moves.complete(task, lease.id, outputs, now), messages.COMPLETED, now)

    def settle(self, before: Task, after: Task, event: str, now: float) -> list[Effect]:
        """The task has ended: make it so, tell everybody, forget it."""
        previous = self.pacing.stored_version(before)
        self.forget(before.id, self.pacing.seconds(before.id, now))
        self.ended[after.id] = after
        if len(self.ended) > ENDED_KEPT:
            self.ended.popitem(last=False)
        return [Save(after, previous), Publish(after, event)]

    def release(self, before: Task, after: Task, now: float) -> list[Effect]:
        """The task waits again."""
        previous = self.pacing.stored_version(before)
        left_out = self.dispatcher.left_out.get(before.id)
        self.forget(before.id, self.pacing.seconds(before.id, now))
        self.wait(after, now)
        if left_out is not None:
            self.dispatcher.left_out[after.id] = left_out
        return [Save(after, previous), Publish(after, messages.RELEASED)]

    # --- how an attempt ends ------------------------------------------------------------------------------------

    def give_up(
        self, task: Task, lease: Lease, problem: Problem, retryable: bool, now: float, retry_after: float = 0.0
    ) -> list[Effect]:
        """An attempt failed: try again later, or fail for good when it makes no sense or was tried enough."""
        if problem.code == REFUSED and (task.phase, task.progress) == ("fetch", 0.0):
            before = sum((each.worker, each.code) == (lease.worker, REFUSED) for each in task.attempts)
            if before < REFUSALS:
                pause = min(self.rules.stop_s * 2 ** before, LONGEST_REFUSAL_S)
                return self.hand_back(task, lease, problem, now + max(pause, retry_after), now)
        quarantine = self.quarantine(task, lease, problem)
        if quarantine is not None:
            problem, retryable = quarantine, False
        if not retryable or task.attempt >= self.rules.max_attempts:
            return self.settle(task, moves.fail(task, problem, now), messages.FAILED, now)
        pause = self.rules.backoff_s[min(task.attempt, len(self.rules.backoff_s)) - 1]
        pause *= 1 + self.rules.jitter * (2 * self.random() - 1)
        not_before = now + max(pause, retry_after)
        return self.release(task, moves.release(task, lease.id, problem.code, problem.detail, not_before, now), now)

    def lose(self, task: Task, lease: Lease, problem: Problem, now: float) -> list[Effect]:
        """The worker is gone: the task may be offered again at once, unless tried enough or dangerous."""
        quarantine = self.quarantine(task, lease, problem)
        if quarantine is not None or task.attempt >= self.rules.max_attempts:
            return self.settle(task, moves.fail(task, quarantine or problem, now), messages.FAILED, now)
        return self.release(task, moves.release(task, lease.id, problem.code, problem.detail, now, now), now)

    def hand_back(self, task: Task, lease: Lease, problem: Problem, until: float, now: float) -> list[Effect]:
        """The worker would not begin: that was no attempt, and before `until` only others are asked."""
        effects = self.release(task, moves.refuse(task, lease.id, problem.code, problem.detail, now), now)
        self.dispatcher.leave_out(task.id, lease.worker, until)
        return effects

    def quarantine(self, task: Task, lease: Lease, problem: Problem) -> Problem | None:
        """Why a task must not be tried again: it has ended too many different workers."""
        if problem.code not in ENDS_WORKERS:
            return None
        ended = {attempt.worker for attempt in task.attempts if attempt.code in ENDS_WORKERS} | {lease.worker}
        if len(ended) < self.rules.quarantine_workers:
            return None
        names = ", ".join(sorted(ended))
        return Problem(QUARANTINED, f"{len(ended)} workers did not survive it ({names}); last: {problem.detail}")

    # --- time ---------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> list[Effect]:
        """Store and show what was held back."""
        return [effect for id in self.pacing.paces for effect in self.pacing.due(self.tasks[id], now)]

    def overdue(self, now: float) -> list[tuple[Task, Lease, Problem]]:
        """The running tasks whose worker has fallen silent, or gets no further."""
        found = []
        for lease_id, task_id in self.leases.items():
            task = self.tasks[task_id]
            lease = moves.held(task, lease_id)
            if task_id in self.verifying:
                continue
            if lease.expires_at <= now:
                found.append((task, lease, Problem(LOST, f"{lease.worker} fell silent")))
            elif self.pacing.stalled(task_id, now, self.rules.stall_s):
                found.append((task, lease, Problem(STALLED, f"no progress on {lease.worker}")))
        return found

    def forgive(self, now: float) -> None:
        """The hub itself was away: every lease gets a full heartbeat, and nobody has stalled."""
        for task_id in self.leases.values():
            self.extend(self.tasks[task_id], now)
        self.pacing.forgive(now)
