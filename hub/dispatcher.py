"""Who waits, and who is offered what next.

Owns the waiting tasks by model, what each owner has had (see fairness), and which worker a task is kept from. Never
changes a task and never sends: it answers "which task for this worker". The cost of an answer depends on the workers,
their models and the tasks that they may not have, not on how many tasks wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from itertools import islice, repeat

from msgspec import Struct

from .fairness import Key, Shares, Turn, order
from .limits import Limits, ModelQueue, limits_of
from .messages import Model
from .session import WorkerSession
from .task import Task
from .verdict import misfit

LEFT_OUT_S = 5.0  # seconds for which a worker that let an offer pass is not offered that task again; then twice that
DOUBLINGS = 5  # so often at most is that doubled
AVOID_S = 600.0  # seconds for which a task is kept from a worker on which it failed, if another one may take it
PREFER_S = 2.0  # seconds for which a task is kept for a worker that has its model loaded and no slot free
LOOKED_AT = 50  # tasks, and owners, that are passed over for one worker before it is left idle for a moment
LOOKS = 1000  # tasks that wait already and are looked at in one decision, where a worker has limits of its own
PARTS = 8  # limits, for one model, that are kept without asking whether a worker that has them is still here


class LeftOut(Struct):
    """Until when (seconds) a worker is not offered a task, and how often it has let it pass in that `session`, if any.

    With another session the worker begins anew.
    """

    until: float
    session: str = ""
    passes: int = 0

    def bars(self, session: str, now: float) -> bool:
        """Whether this holds for a session of that worker."""
        return self.until > now and self.session in ("", session)


class Decision:
    """What is the same for all of the workers `asked` at once.

    `loaded` counts by model the slots of those who have it loaded, by their limits. `kept` are tasks that were found
    to be kept for these, `in_vain` the limits with which others have been asked and got nothing for that reason alone.
    """

    def __init__(self, asked: Collection[WorkerSession], now: float) -> None:
        self.asked = asked
        self.now = now
        self.looks = repeat(True, LOOKS)
        self.kept: set[str] = set()
        self.in_vain: set[Limits] = set()

    @cached_property
    def loaded(self) -> dict[str, dict[Limits, tuple[Model, int]]]:
        loaded: dict[str, dict[Limits, tuple[Model, int]]] = {}
        for session in self.asked:
            offer = session.models.get(session.warm)
            if offer is not None and session.usable and session.rests_until <= self.now:
                slots = loaded.setdefault(offer.name, {})
                _, number = slots.get(limits_of(offer), (offer, 0))
                slots[limits_of(offer)] = (offer, number + session.slots)
        return loaded

    def slots(self, task: Task) -> int:
        """How many slots there are, taken or not, where its model is loaded and it is taken."""
        loaded = self.loaded.get(task.model, {}).values()
        return sum(number for offer, number in loaded if misfit(offer, task.video.facts) is None)


class Dispatcher:
    """The waiting tasks, ready to be matched.

    `cost` gives a task's expected seconds, `cap` is how many tasks of one owner run at once (0: any). `asleep` are
    the tasks that wait for their time, `charged` those that are offered or run: whose they are, at what price and with
    what weight. `left_out` says by task which workers are not offered it, `kept` until when (seconds) it is kept for
    some. `avoided` says by task on which workers it failed, and until when others are preferred; `having` who had which
    model when tasks were matched last.
    """

    def __init__(self, cost: Callable[[Task], float], cap: int = 0) -> None:
        self.cost = cost
        self.shares = Shares(cap)
        self.queues: dict[str, ModelQueue] = {}
        self.asleep: dict[str, Task] = {}
        self.alarms: list[tuple[float, str]] = []
        self.charged: dict[str, tuple[str, float, int, Turn | None]] = {}
        self.left_out: dict[str, dict[str, LeftOut]] = {}
        self.avoided: dict[str, tuple[frozenset[str], float]] = {}
        self.kept: dict[str, float] = {}
        self.having: Mapping[str, Mapping[str, WorkerSession]] = {}

    # --- waiting ------------------------------------------------------------------------------------------------

    def add(self, task: Task, now: float) -> None:
        """A task waits from now on; before `task.not_before` it is not offered."""
        self.shares.now = now
        if task.not_before > now:
            self.asleep[task.id] = task
            heapq.heappush(self.alarms, (task.not_before, task.id))
        else:
            self.queue(task)

    def queue(self, task: Task) -> None:
        """A task can be offered from now on."""
        queue = self.queues.get(task.model)
        if queue is None:
            queue = self.queues[task.model] = ModelQueue(self.shares)
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

    def put_back(self, task: Task, passed_by: WorkerSession | None, now: float) -> None:
        """An offer came to nothing: the task waits again, and the worker that let it pass is not asked for a while.

        Each time it lets the same task pass, that is twice as long; so whoever would take it finds it waiting.
        """
        *_, turn = self.charged[task.id]
        self.ended(task.id, 0.0)
        self.add(task, now)
        if turn is not None and task.model in self.queues:
            self.queues[task.model].restore(task.owner, turn)
        if passed_by is not None:
            left_out = self.left_out.setdefault(task.id, {})
            known = left_out.get(passed_by.worker)
            passes = known.passes if known is not None and known.session == passed_by.id else 0
            until = now + LEFT_OUT_S * 2 ** min(passes, DOUBLINGS)
            left_out[passed_by.worker] = LeftOut(until, passed_by.id, passes + 1)

    def leave_out(self, task_id: str, worker: str, until: float) -> None:
        """A worker is not offered this task before `until` (seconds)."""
        self.left_out.setdefault(task_id, {})[worker] = LeftOut(until)

    def avoid(self, task: Task, workers: frozenset[str], now: float) -> None:
        """A task failed on these workers: for some time others that may take it come first, busy ones too."""
        self.avoided[task.id] = workers, max(now, task.not_before) + AVOID_S

    def avoids(self, task: Task, session: WorkerSession, now: float) -> bool:
        """Whether a task is kept from a worker for another one."""
        if task.id not in self.avoided:
            return False
        failed_on, until = self.avoided[task.id]
        able = self.having.get(task.model, {}).values()
        return now < until and session.worker in failed_on and somebody_else(task, failed_on, able)

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
            cost = self.cost(task) / task.weight
            self.charged[task.id] = (task.owner, cost, task.weight, turn)
            self.shares.began(task.owner, cost)
            self.had_some(task.owner)

    def ended(self, task_id: str, seconds: float | None = None) -> None:
        """A task is offered or runs no longer; its owner pays for the `seconds` it took, if that is known."""
        owner, cost, weight, _ = self.charged.pop(task_id, ("", 0.0, 1, None))
        if owner:
            self.shares.ended(owner, cost, cost if seconds is None else seconds / weight)
            self.had_some(owner)

    def had_some(self, owner: str) -> None:
        """What an owner has had is another amount now: the turns follow."""
        for queue in self.queues.values():
            if owner in queue.lines:
                queue.enter(owner)

    # --- matching -----------------------------------------------------------------------------------------------

    def match(
        self, having: Mapping[str, Mapping[str, WorkerSession]], now: float
    ) -> list[tuple[Task, WorkerSession]]:
        """Pairs of task and worker session, best task first; matched tasks leave the queue and are charged.

        `having` says by model which sessions have it. The freest worker is asked first, and who has got a task is as
        free as it is then. A task goes to a worker that has its model for a video of that size, is not left out, and,
        for a bounded time, has that model loaded and has not failed it.
        """
        self.shares.now = now
        self.having = having
        able: dict[str, WorkerSession] = {}
        waiting = 0
        for model, queue in self.queues.items():
            if queue.size and model in having:
                able |= having[model]
                waiting += queue.size
                if len(queue.parts) > PARTS:
                    queue.keep_only(session.models[model] for session in having[model].values())
        decision = Decision(able.values(), now)
        free = [
            (-slots, number, session) for number, session in enumerate(able.values())
            if session.rests_until <= now and (slots := session.free)
        ]
        heapq.heapify(free)
        pairs: list[tuple[Task, WorkerSession]] = []
        while free and len(pairs) < waiting:
            slots, number, session = heapq.heappop(free)
            task = self.take(session, decision)
            if task is not None:
                pairs.append((task, session))
                if slots < -1:
                    heapq.heappush(free, (slots + 1, number, session))
        return pairs

    def take(self, session: WorkerSession, decision: Decision) -> Task | None:
        """The best waiting task for one worker, taken out of the queue, or None."""
        best: tuple[Turn, Key, Task] | None = None
        for model, offer in session.models.items():
            queue = self.queues.get(model)
            if queue is not None and queue.size:
                found = self.first(queue, offer, session, decision)
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
        self, queue: ModelQueue, offer: Model, session: WorkerSession, decision: Decision
    ) -> tuple[Turn, Key, Task] | None:
        """The first task of a model that this worker may be offered, behind its owner's turn; it stays queued."""
        cold, alike = session.warm != offer.name, True
        if cold and limits_of(offer) in decision.in_vain:
            return None
        tasks = queue.within(offer, decision.looks)
        with closing(tasks.users()) as users:
            for turn, user in islice(users, LOOKED_AT):
                for task in islice(tasks.lines[user], LOOKED_AT):
                    if self.bars(task, session, decision.now):
                        alike = False
                    elif not (cold and self.keep(task, queue.size, decision)):
                        return turn, order(task), task
        if cold and alike:
            decision.in_vain.add(limits_of(offer))
        return None

    def bars(self, task: Task, session: WorkerSession, now: float) -> bool:
        """Whether a worker is left out of a task, or it is kept from that worker for another one."""
        left_out = self.left_out.get(task.id, {}).get(session.worker)
        return (left_out is not None and left_out.bars(session.id, now)) or self.avoids(task, session, now)

    def keep(self, task: Task, waiting: int, decision: Decision) -> bool:
        """Whether a task is kept for those who have its model loaded; one that somebody let pass or failed is not.

        While no more tasks wait than these have slots, each is kept for a bounded time. With more, the first goes at
        once, so that none behind it begins before it.
        """
        if task.id in self.left_out or task.id in self.avoided:
            return False
        if task.id not in decision.kept:
            if waiting > decision.slots(task) or self.kept.setdefault(task.id, decision.now + PREFER_S) <= decision.now:
                return False
            decision.kept.add(task.id)
        return True


def somebody_else(task: Task, workers: Collection[str], sessions: Iterable[WorkerSession]) -> bool:
    """Whether one of these sessions, of a worker that is none of `workers`, takes offers, and this task."""
    facts = task.video.facts
    return any(each.usable and each.worker not in workers and each.takes(task.model, facts) for each in sessions)
