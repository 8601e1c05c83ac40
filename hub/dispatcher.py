"""Who waits, and who is offered what next.

Owns the waiting tasks by model, what each owner has had (see fairness), and which worker a task is kept from. Never
changes a task and never sends: it answers "which task for this worker". The cost of an answer depends on the workers,
their models and the tasks that they may not have, not on how many tasks wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice

from .fairness import FairQueue, Key, Shares, Turn, order
from .session import WorkerSession
from .task import Task

LEFT_OUT_S = 5.0  # seconds for which a worker that let an offer pass is not offered that task again
AVOID_S = 600.0  # seconds for which a task is kept from a worker on which it failed, if another one may take it
PREFER_S = 2.0  # seconds for which a task is kept for a worker that has its model loaded and no slot free
LOOKED_AT = 50  # tasks, and owners, that are passed over for one worker before it is left idle for a moment
LARGE = 10_000  # tasks that are too large for it, and are passed over beside those
PASS_S = 1.0  # seconds for which a worker is not asked again where too many were


class Dispatcher:
    """The waiting tasks, ready to be matched.

    `cost` gives a task's expected seconds, `cap` is how many tasks of one owner run at once (0: any). `asleep` are
    the tasks that wait for their time, `charged` those that are offered or run: whose they are and at what price.
    `avoided` says by task on which workers it failed, and until when others are preferred; `having` who had which model
    when tasks were matched last.
    """

    def __init__(self, cost: Callable[[Task], float], cap: int = 0) -> None:
        self.cost = cost
        self.shares = Shares(cap)
        self.queues: dict[str, FairQueue] = {}
        self.asleep: dict[str, Task] = {}
        self.alarms: list[tuple[float, str]] = []
        self.charged: dict[str, tuple[str, float, Turn | None]] = {}
        self.left_out: dict[str, dict[str, float]] = {}
        self.avoided: dict[str, tuple[frozenset[str], float]] = {}
        self.kept: dict[str, float] = {}
        self.having: Mapping[str, Mapping[str, WorkerSession]] = {}

    # --- waiting ------------------------------------------------------------------------------------------------

    def add(self, task: Task, now: float) -> None:
        """A task waits from now on; before `task.not_before` it is not offered."""
        if task.not_before > now:
            self.asleep[task.id] = task
            heapq.heappush(self.alarms, (task.not_before, task.id))
        else:
            self.queue(task)

    def queue(self, task: Task) -> None:
        """A task can be offered from now on."""
        queue = self.queues.get(task.model)
        if queue is None:
            queue = self.queues[task.model] = FairQueue(self.shares)
        queue.add(task)

    def remove(self, task: Task) -> None:
        """A task does not wait any more; who refused it is remembered, until it is forgotten."""
        self.asleep.pop(task.id, None)
        self.kept.pop(task.id, None)
        if task.model in self.queues:
            self.queues[task.model].discard(task)

    def wake(self, now: float) -> None:
        """Queue the tasks whose time has come."""
        while self.alarms and self.alarms[0][0] <= now:
            not_before, task_id = heapq.heappop(self.alarms)
            task = self.asleep.get(task_id)
            if task is not None and task.not_before == not_before:
                del self.asleep[task_id]
                self.queue(task)

    def put_back(self, task: Task, left_out: str | None, now: float) -> None:
        """An offer came to nothing: the task waits again, and the worker `left_out` is not asked for some seconds."""
        _, _, turn = self.charged[task.id]
        self.ended(task.id, 0.0)
        self.add(task, now)
        if turn is not None and task.model in self.queues:
            self.queues[task.model].restore(task.owner, turn)
        if left_out is not None:
            self.leave_out(task.id, left_out, now + LEFT_OUT_S)

    def leave_out(self, task_id: str, worker: str, until: float) -> None:
        """A worker is not offered this task before `until` (seconds)."""
        self.left_out.setdefault(task_id, {})[worker] = until

    def avoid(self, task: Task, workers: frozenset[str], now: float) -> None:
        """A task failed on these workers: for some time others that may take it come first, busy ones too."""
        self.avoided[task.id] = workers, max(now, task.not_before) + AVOID_S

    def avoids(self, task: Task, session: WorkerSession, now: float) -> bool:
        """Whether a task is kept from a worker for another one."""
        failed_on, until = self.avoided.get(task.id, (frozenset[str](), 0.0))
        return now < until and session.worker in failed_on and any(
            other.usable and other.worker not in failed_on and other.takes(task.model, task.video.facts)
            for other in self.having.get(task.model, {}).values()
        )

    def forget(self, task: Task, seconds: float | None = None) -> None:
        """A task is over, after `seconds` of work, if that is known."""
        self.remove(task)
        self.ended(task.id, seconds)
        self.left_out.pop(task.id, None)
        self.avoided.pop(task.id, None)

    def in_line(self, task: Task) -> bool:
        """Whether a task can be offered now: it neither sleeps nor is it offered already."""
        return task.model in self.queues and task in self.queues[task.model]

    def of(self, owner: str, limit: int) -> Iterator[Task]:
        """The first tasks in line of one owner, `limit` at most of each model."""
        for queue in self.queues.values():
            if owner in queue.lines:
                yield from islice(queue.lines[owner], limit)

    # --- running ------------------------------------------------------------------------------------------------

    def began(self, task: Task, turn: Turn | None = None) -> None:
        """A task is offered or runs: its owner is charged, in the turn that it used if it used one."""
        if task.id not in self.charged:
            cost = self.cost(task)
            self.charged[task.id] = (task.owner, cost, turn)
            self.shares.began(task.owner, cost, None if turn is None else turn[0])
            self.had_some(task.owner)

    def ended(self, task_id: str, seconds: float | None = None) -> None:
        """A task is offered or runs no longer; its owner pays for the `seconds` it took, if that is known."""
        owner, cost, _ = self.charged.pop(task_id, ("", 0.0, None))
        if owner:
            self.shares.ended(owner, 0.0 if seconds is None else seconds - cost)
            self.had_some(owner)

    def had_some(self, owner: str) -> None:
        """What an owner has had is another amount now: the turns follow."""
        for queue in self.queues.values():
            queue.enter(owner)

    # --- matching -----------------------------------------------------------------------------------------------

    def match(
        self, having: Mapping[str, Mapping[str, WorkerSession]], now: float
    ) -> list[tuple[Task, WorkerSession]]:
        """Pairs of task and worker session, best task first; matched tasks leave the queue and are charged.

        `having` says by model which sessions have it. The freest worker is asked first. A task goes to a worker that
        has its model for a video of that size, is not left out, and, for a bounded time, has that model loaded and has
        not failed it.
        """
        self.having = having
        pairs: list[tuple[Task, WorkerSession]] = []
        able: dict[str, WorkerSession] = {}
        waiting = 0
        for model, queue in self.queues.items():
            if queue.size and model in having:
                able |= having[model]
                waiting += queue.size
        warm: dict[str, list[WorkerSession]] = {}
        free: list[tuple[int, WorkerSession]] = []
        for session in able.values():
            if session.usable:
                if session.warm:
                    warm.setdefault(session.warm, []).append(session)
                if slots := session.free:
                    free.append((slots, session))
        for slots, session in sorted(free, key=lambda each: -each[0]):
            for _ in range(min(slots, waiting - len(pairs))):
                task = self.take(session, warm, now)
                if task is None:
                    break
                pairs.append((task, session))
        return pairs

    def take(
        self, session: WorkerSession, warm: Mapping[str, Sequence[WorkerSession]], now: float
    ) -> Task | None:
        """The best waiting task for one worker, taken out of the queue, or None.

        `warm` says by model which workers have it loaded.
        """
        best: tuple[Turn, Key, Task] | None = None
        for model in session.models:
            queue = self.queues.get(model)
            if queue is not None and queue.size and session.passing.get(model, 0.0) <= now:
                found = self.first(model, session, () if session.warm == model else warm.get(model, ()), now)
                if found is not None and (best is None or (found[0][0], found[1]) < (best[0][0], best[1])):
                    best = found
        if best is None:
            return None
        turn, _, task = best
        self.queues[task.model].discard(task)
        self.kept.pop(task.id, None)
        self.began(task, turn)
        return task

    def first(
        self, model: str, session: WorkerSession, warm: Sequence[WorkerSession], now: float
    ) -> tuple[Turn, Key, Task] | None:
        """The first task of a model that this worker may be offered, behind its owner's turn; it stays queued.

        The `warm` ones elsewhere have the model loaded: while no more tasks wait than they have slots, each that they
        take is kept for them, for a bounded time. With more, the first goes at once, so that none behind it begins
        before it.
        """
        waiting = self.queues[model].size
        with closing(self.fitting(model, session, now)) as tasks:
            for turn, task in tasks:
                if self.avoids(task, session, now):
                    continue
                barred = self.left_out.get(task.id)
                untried = barred is None and task.id not in self.avoided
                if untried and waiting <= sum(s.slots for s in warm if s.takes(model, task.video.facts)):
                    if self.kept.setdefault(task.id, now + PREFER_S) > now:
                        continue
                if barred is None or barred.get(session.worker, now) <= now:
                    return turn, order(task), task
        return None

    def fitting(self, model: str, session: WorkerSession, now: float) -> Generator[tuple[Turn, Task], None, None]:
        """The tasks of a model that are not too large for this worker, in their turns, as far as is looked."""
        queue, owners, large = self.queues[model], 0, 0
        with closing(queue.users()) as users:
            for turn, user in users:
                looked_at = 0
                for task in queue.lines[user]:
                    if session.takes(model, task.video.facts):
                        yield turn, task
                        looked_at += 1
                    else:
                        large += 1
                    if looked_at == LOOKED_AT or large == LARGE:
                        break
                owners += looked_at > 0
                if owners == LOOKED_AT or large == LARGE:
                    break
        if large > LOOKED_AT:
            session.passing[model] = now + PASS_S
