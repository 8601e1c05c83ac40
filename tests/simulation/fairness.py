"""Whether an offer is fair: among one owner's tasks for one model, who asked first is served first.

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
            if (left_out is None or not left_out.bars(session.id, now)) and takes(other.video.facts) and dispatcher.kept.get(other.id, now) <= now:
                yield other.id
