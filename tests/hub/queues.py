"""Queues and dispatchers to try things on: tasks of one owner, workers with limits, and serving them one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from hub.dispatcher import Dispatcher
from hub.fairness import LITTLE_S, FairQueue, Shares
from hub.messages import Model
from hub.session import WorkerSession
from hub.task import Task

from .world import FACTS, SOURCE, START, a_hello, a_task

COST = 10.0


def tasks(owner: str, number: int, since: float = START, **changes: object) -> list[Task]:
    return [a_task(f"{owner}-{n:05}", owner=owner, created_at=since + n, **changes) for n in range(number)]


def serve(queue: FairQueue, cost: Callable[[Task], float] = lambda task: COST) -> Task | None:
    """The next task in turn starts; None if nobody may have one."""
    users = queue.users()
    found = next(users, None)
    users.close()
    if found is None:
        return None
    _, user = found
    task = next(iter(queue.lines[user]))
    queue.discard(task)
    queue.shares.began(user, cost(task) / task.weight)
    queue.enter(user)
    return task


def end(queue: FairQueue, user: str, seconds: float = COST, cost: float = COST) -> None:
    """A task of this user ends, after so many seconds; it was expected to take `cost`."""
    queue.shares.ended(user, cost, seconds)
    queue.enter(user)


def serve_all(queue: FairQueue, cost: Callable[[Task], float] = lambda task: COST) -> list[Task]:
    found = []
    while (task := serve(queue, cost)) is not None:
        found.append(task)
    return found


def a_queue(*waiting: Task, cap: int = 0) -> FairQueue:
    queue = FairQueue(Shares(cap))
    for task in waiting:
        queue.add(task)
    return queue


def had(shares: Shares, user: str) -> float:
    """What a user has had and is having, in seconds."""
    return shares.seconds(shares.had(user)) - LITTLE_S


# --- dispatchers


LITTLE = replace(SOURCE, facts=replace(FACTS, height=359))


def a_worker(name: str = "w1", models: Sequence[str] = ("m",), slots: int = 1) -> WorkerSession:
    return WorkerSession(f"session-{name}", a_hello(name, models, slots=slots), START)


def a_dispatcher(cost: float = 10.0, cap: int = 0) -> Dispatcher:
    return Dispatcher(lambda task: cost, cap)


def with_tasks(*ids: str, **changes: object) -> Dispatcher:
    dispatcher = a_dispatcher()
    for id in ids:
        dispatcher.add(a_task(id, **changes), START)
    return dispatcher


def having(*workers: WorkerSession) -> dict[str, dict[str, WorkerSession]]:
    found: dict[str, dict[str, WorkerSession]] = {}
    for worker in workers:
        for model in worker.models:
            found.setdefault(model, {})[worker.id] = worker
    return found


def pairs(dispatcher: Dispatcher, *workers: WorkerSession, now: float = START) -> list[tuple[str, str]]:
    return [(task.id, session.worker) for task, session in dispatcher.match(having(*workers), now)]


def small(name: str = "small", slots: int = 4) -> WorkerSession:
    """A worker for pictures of less than 640 x 360."""
    return WorkerSession(name, a_hello(name, [Model("m", max_pixels=640 * 360 - 1)], slots=slots), START)
