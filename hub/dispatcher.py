"""Who waits, and who is offered what next.

Owns the order of waiting tasks, per model. Never changes a task and never sends: it answers "which task for this
worker". The cost of an answer depends on the worker's models, not on how many tasks wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from .session import Phase, WorkerSession
from .task import Task

LEFT_OUT_S = 5.0  # seconds for which a worker that declined a task is not offered it again

Key = tuple[int, float, str]  # lower first: higher priority, then older, then the id


@dataclass(slots=True)
class Waiting:
    """One waiting task as the dispatcher sees it."""

    model: str
    key: Key
    not_before: float
    queued: bool = False
    left_out: dict[str, float] = field(default_factory=dict)


class Dispatcher:
    """The waiting tasks, ready to be matched with workers."""

    def __init__(self) -> None:
        self.waiting: dict[str, Waiting] = {}
        self.queues: dict[str, list[Key]] = {}
        self.sleeping: list[tuple[float, str]] = []

    def add(self, task: Task, now: float, left_out: dict[str, float] | None = None) -> None:
        """A task waits from now on; before `task.not_before` it is not offered."""
        key = (-task.priority, task.created_at, task.id)
        entry = self.waiting[task.id] = Waiting(task.model, key, task.not_before, left_out=left_out or {})
        if task.not_before > now:
            heapq.heappush(self.sleeping, (task.not_before, task.id))
        else:
            self.queue(entry)

    def queue(self, entry: Waiting) -> None:
        """A task can be offered from now on."""
        entry.queued = True
        heapq.heappush(self.queues.setdefault(entry.model, []), entry.key)

    def remove(self, task_id: str) -> Waiting | None:
        """A task does not wait any more; its place in the queue is dropped when it comes up."""
        return self.waiting.pop(task_id, None)

    def wake(self, now: float) -> bool:
        """Queue the tasks whose time has come; True if there were any."""
        woken = False
        while self.sleeping and self.sleeping[0][0] <= now:
            not_before, task_id = heapq.heappop(self.sleeping)
            entry = self.waiting.get(task_id)
            if entry is not None and not entry.queued and entry.not_before == not_before:
                self.queue(entry)
                woken = True
        return woken

    def match(self, sessions: Iterable[WorkerSession], now: float) -> list[tuple[str, WorkerSession]]:
        """Pairs of task id and worker session, best task first; matched tasks leave the queue.

        The freest worker is asked first, and a task goes to a worker that has its model and did not decline it.
        """
        pairs: list[tuple[str, WorkerSession]] = []
        for session in sorted(sessions, key=lambda session: -session.free):
            for _ in range(session.free):
                task_id = self.take(session, now)
                if task_id is None:
                    break
                pairs.append((task_id, session))
        return pairs

    def take(self, session: WorkerSession, now: float) -> str | None:
        """The best waiting task for one worker, taken out of the queue, or None."""
        firsts = [key for model in session.models if (key := self.pop(model, session.worker, now)) is not None]
        if not firsts:
            return None
        best = min(firsts)
        for key in firsts:
            if key != best:
                heapq.heappush(self.queues[self.waiting[key[2]].model], key)
        self.waiting[best[2]].queued = False
        return best[2]

    def pop(self, model: str, worker: str, now: float) -> Key | None:
        """Take the first key off a model's queue that this worker may be offered; those before it stay."""
        queue = self.queues.get(model, [])
        passed: list[Key] = []
        found: Key | None = None
        while queue and found is None:
            key = heapq.heappop(queue)
            entry = self.current(key)
            if entry is not None and entry.left_out.get(worker, 0.0) <= now:
                found = key
            elif entry is not None:
                passed.append(key)
        for key in passed:
            heapq.heappush(queue, key)
        return found

    def current(self, key: Key) -> Waiting | None:
        """The task that a queued key stands for, if it waits in this place."""
        entry = self.waiting.get(key[2])
        return entry if entry is not None and entry.queued and entry.key == key else None

    def put_back(self, task: Task, declined_by: str | None, now: float) -> None:
        """An offer came to nothing: the task waits again, and whoever declined it is left out for a while."""
        entry = self.waiting.get(task.id)
        left_out = entry.left_out if entry is not None else {}
        if declined_by is not None:
            left_out[declined_by] = now + LEFT_OUT_S
        self.add(task, now, left_out)

    def blocked_by(self, task: Task, sessions: Iterable[WorkerSession]) -> str | None:
        """Why a waiting task waits: nobody has its model, or everybody who has is busy."""
        able = [s for s in sessions if task.model in s.models and s.phase is Phase.READY and s.attached]
        if not able:
            return "no_worker_for_model"
        return None if any(session.free for session in able) else "all_busy"
