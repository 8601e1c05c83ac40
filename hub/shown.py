"""What viewers were shown last of each task.

Owns the answer to "how does this task stand, for everybody who looks": a reading of the store takes time, and may be
older than an event that was shown meanwhile. Never publishes, and never reads the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from .task import Task

KEPT = 2_000  # tasks that came, ended or were deleted lately: more than can while a reading of the store is under way


class Shown:
    """The open tasks as they were shown last; `lately` those that came or ended not long ago, None for deleted ones."""

    def __init__(self) -> None:
        self.open: dict[str, Task] = {}
        self.lately: OrderedDict[str, Task | None] = OrderedDict()

    def show(self, task: Task) -> None:
        """Viewers are shown this record now."""
        if task.state.ended:
            self.open.pop(task.id, None)
            self.note(task.id, task)
        else:
            if task.id not in self.open:
                self.note(task.id, task)
            self.open[task.id] = task

    def remove(self, task_id: str) -> None:
        """Viewers learn now that a task is no more."""
        self.open.pop(task_id, None)
        self.note(task_id, None)

    def note(self, task_id: str, task: Task | None) -> None:
        self.lately[task_id] = task
        self.lately.move_to_end(task_id)
        if len(self.lately) > KEPT:
            self.lately.popitem(last=False)

    def latest(self, task: Task) -> Task:
        """A task as viewers may see it; `task` is what the store said when it was read."""
        known = self.open.get(task.id)
        if known is not None:
            return known
        ended = self.lately.get(task.id)
        return ended if ended is not None and ended.version > task.version else task

    def gone(self, task_id: str) -> bool:
        """Whether viewers were told lately that a task is no more, whatever the store said when it was read."""
        return self.lately.get(task_id, self) is None

    def snapshot(self, found: Iterable[Task], owner: str | None, most: int) -> list[Task]:
        """The newest tasks of an owner (None: of everybody), `most` at most, as viewers may see them.

        `found` is what the store said. With those that came while it was read, without those that went.
        """
        tasks = {task.id: task for task in found}
        for task_id, task in self.lately.items():
            if task is None:
                tasks.pop(task_id, None)
            elif owner in (None, task.owner):
                tasks.setdefault(task_id, task)
        return [self.latest(tasks[id]) for id in sorted(tasks, reverse=True)[:most]]
