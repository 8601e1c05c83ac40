"""Whether an offer is fair: among one owner's tasks for one model, who asked first is served first; and whether it is wise.

Owns a rule of its own, written down anew: it must not be right because the hub's is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hub.core import Core
from hub.media import Facts
from hub.session import WorkerSession
from hub.task import Task

STEP_S = 600.0  # ten minutes of waiting are worth one step of priority


def urgency(task: Task) -> tuple[float, str]:
    return task.created_at - STEP_S * task.priority, task.id


def passed_over(
    core: Core, session: WorkerSession, takes: Callable[[Facts], bool], task_id: str, now: float
) -> Iterator[str]:
    """The tasks that this worker, which `takes` such videos, should have been offered before this one, and still can."""
    offered, dispatcher = core.tasks[task_id], core.dispatcher
    for other in core.tasks.values():
        alike = other.owner == offered.owner and other.model == offered.model
        if alike and urgency(other) < urgency(offered) and dispatcher.in_line(other):
            left_out = dispatcher.left_out.get(other.id, {}).get(session.worker)
            barred = left_out is not None and left_out.bars(session.id, now)
            if not barred and takes(other.video.facts) and dispatcher.kept.get(other.id, now) <= now:
                if not better_elsewhere(core, session, other, now):
                    yield other.id


def better_elsewhere(core: Core, session: WorkerSession, task: Task, now: float) -> bool:
    """Whether a task has lately failed on this worker, and another one takes tasks on which it has not."""
    failed_on = {attempt.worker for attempt in task.attempts if attempt.code != "refused"}
    if session.worker not in failed_on or core.dispatcher.avoided[task.id][1] <= now:
        return False
    others = [other for other in core.sessions.values() if other.usable and other.worker not in failed_on]
    return any(other.takes(task.model, task.video.facts) for other in others)
