"""Who waits, and who is offered what next.

Owns the waiting tasks by model, what each owner has had (see fairness), and why a task waits. Never changes a task and
never sends: it answers "which task for this worker". The cost of an answer depends on the worker's models and on the
tasks that this worker may not have, not on how many tasks wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from .fairness import FairQueue, Key, Shares, key_of
from .session import Phase, WorkerSession
from .task import Task

LEFT_OUT_S = 5.0  # seconds for which a worker that let an offer pass is not offered that task again
PREFER_S = 2.0  # seconds for which a task waits for a worker that has its model loaded, if there is one
LOOKED_AT = 50  # tasks, and owners, that are passed over for one worker before it is left idle for a moment


@dataclass(slots=True)
class Waiting:
    """One waiting task as the dispatcher sees it; `cost` is its expected seconds, `since` when it could be offered."""

    model: str
    owner: str
    key: Key
    cost: float
    not_before: float
    since: float
    queued: bool = False
    left_out: dict[str, float] | None = None

    def may_go_to(self, session: WorkerSession, warm: Collection[str], now: float) -> bool:
        """Whether this worker may be offered the task now."""
        if self.left_out is not None and self.left_out.get(session.worker, 0.0) > now:
            return False
        return session.warm == self.model or self.model not in warm or now >= self.since + PREFER_S


class Dispatcher:
    """The waiting tasks, ready to be matched; `cap` is how many tasks of one owner run at once (0: any)."""

    def __init__(self, cap: int = 0) -> None:
        self.shares = Shares(cap)
        self.waiting: dict[str, Waiting] = {}
        self.queues: dict[str, FairQueue] = {}
        self.sleeping: list[tuple[float, str]] = []
        self.charged: dict[str, tuple[str, float]] = {}

    # --- waiting ------------------------------------------------------------------------------------------------

    def add(self, task: Task, cost: float, now: float, left_out: dict[str, float] | None = None) -> None:
        """A task waits from now on; before `task.not_before` it is not offered."""
        self.remove(task.id)
        key = key_of(task.created_at, task.priority, task.id)
        entry = Waiting(task.model, task.owner, key, cost, task.not_before, now, left_out=left_out)
        self.waiting[task.id] = entry
        if task.not_before > now:
            heapq.heappush(self.sleeping, (task.not_before, task.id))
        else:
            self.queue(entry, now)

    def queue(self, entry: Waiting, now: float) -> None:
        """A task can be offered from now on."""
        entry.queued, entry.since = True, now
        queue = self.queues.get(entry.model)
        if queue is None:
            queue = self.queues[entry.model] = FairQueue(self.shares)
        queue.add(entry.owner, entry.key)

    def remove(self, task_id: str) -> None:
        """A task does not wait any more."""
        entry = self.waiting.pop(task_id, None)
        if entry is not None and entry.queued:
            self.queues[entry.model].discard(entry.owner, entry.key)

    def wake(self, now: float) -> None:
        """Queue the tasks whose time has come."""
        while self.sleeping and self.sleeping[0][0] <= now:
            not_before, task_id = heapq.heappop(self.sleeping)
            entry = self.waiting.get(task_id)
            if entry is None or entry.queued or task_id in self.charged or entry.not_before != not_before:
                continue
            self.queue(entry, now)

    def put_back(self, task: Task, left_out: str | None, now: float, seconds: float = LEFT_OUT_S) -> None:
        """An offer came to nothing: the task waits again, and the worker `left_out` is not asked for some seconds."""
        entry = self.waiting[task.id]
        owner, cost = self.charged.pop(task.id)
        self.shares.ended(owner, -cost)
        barred = entry.left_out
        if left_out is not None:
            barred = {**(barred or {}), left_out: now + seconds}
        self.add(task, entry.cost, now, barred)

    def leave_out(self, task_id: str, worker: str, until: float) -> None:
        """A worker is not offered this task before `until` (seconds)."""
        entry = self.waiting[task_id]
        entry.left_out = {**(entry.left_out or {}), worker: until}

    # --- running ------------------------------------------------------------------------------------------------

    def began(self, task_id: str, owner: str, cost: float) -> None:
        """A task is offered or runs: its owner is charged."""
        if task_id not in self.charged:
            self.charged[task_id] = (owner, cost)
            self.shares.began(owner, cost)

    def ended(self, task_id: str, seconds: float | None = None) -> None:
        """A task runs no longer; its owner pays for the `seconds` it took, if that is known."""
        owner, cost = self.charged.pop(task_id, ("", 0.0))
        if owner:
            self.shares.ended(owner, 0.0 if seconds is None else seconds - cost)

    # --- matching -----------------------------------------------------------------------------------------------

    def match(self, sessions: Collection[WorkerSession], now: float) -> list[tuple[str, WorkerSession]]:
        """Pairs of task id and worker session, best task first; matched tasks leave the queue and are charged.

        The freest worker is asked first. A task goes to a worker that has its model, is not left out, and, for a
        bounded time, has that model loaded.
        """
        pairs: list[tuple[str, WorkerSession]] = []
        warm = {session.warm for session in sessions if session.warm and session.usable}
        for session in sorted((s for s in sessions if s.free), key=lambda s: -s.free):
            for _ in range(session.free):
                task_id = self.take(session, warm, now)
                if task_id is None:
                    break
                pairs.append((task_id, session))
        return pairs

    def take(self, session: WorkerSession, warm: Collection[str], now: float) -> str | None:
        """The best waiting task for one worker, taken out of the queue, or None."""
        firsts = [found for model in session.models if (found := self.first(model, session, warm, now)) is not None]
        if not firsts:
            return None
        _, key = min(firsts)
        task_id = key[1]
        entry = self.waiting[task_id]
        self.queues[entry.model].discard(entry.owner, key)
        entry.queued = False
        self.began(task_id, entry.owner, entry.cost)
        return task_id

    def first(
        self, model: str, session: WorkerSession, warm: Collection[str], now: float
    ) -> tuple[float, Key] | None:
        """The first task of a model that this worker may be offered, behind its owner's turn; it stays queued."""
        queue = self.queues.get(model)
        if queue is None:
            return None
        with closing(queue.users()) as users:
            for user in islice(users, LOOKED_AT):
                for key in islice(queue.lines[user], LOOKED_AT):
                    if self.waiting[key[1]].may_go_to(session, warm, now):
                        return self.shares.start_tag(user), key
        return None

    # --- telling ------------------------------------------------------------------------------------------------

    def position(self, task: Task) -> int | None:
        """About which place in line a waiting task has, from 1; None while it is not in line."""
        entry = self.waiting.get(task.id)
        if entry is None or not entry.queued:
            return None
        return 1 + self.queues[entry.model].position(entry.owner, entry.key, max(entry.cost, 1e-9))

    def blocked_by(self, task: Task, sessions: Iterable[WorkerSession]) -> str | None:
        """Why a waiting task waits; None where nothing but its turn, or a moment, stands in the way."""
        entry = self.waiting.get(task.id)
        if entry is None or task.id in self.charged:
            return None
        able = [s for s in sessions if task.model in s.models and s.phase is Phase.READY and s.attached]
        if not able:
            return "no_worker_for_model"
        if all(session.paused for session in able):
            return "paused"
        if self.shares.capped(task.owner):
            return "your_limit"
        return None if any(session.free for session in able) else "all_busy"
