"""Progress at a bearable pace: how much of what a running task says is stored and shown.

Owns what the store and the viewers already know of each running task. Never changes a task.
"""

from __future__ import annotations

import math

from msgspec import Struct

from . import messages
from .effects import Effect, Publish, Save
from .task import PHASES, Task


class Pace(Struct):
    """What of one running task was stored and shown, and when; when it began, how far it got, and since when.

    It is not stored (`stored_at` is infinite) before it has changed here: it may be another process that works with it.
    """

    stored_version: int
    stored_at: float
    shown_version: int
    shown_at: float
    reached: tuple[int, int]
    moved_at: float
    began_at: float | None = None


class Pacing:
    """The paces of all running tasks; `store_s` and `show_s` are the least seconds between two of the same.

    `storing` is off while the store does not answer: then what is new stays here, and is not stored again and again.
    """

    def __init__(self, store_s: float, show_s: float) -> None:
        self.store_s = store_s
        self.show_s = show_s
        self.storing = True
        self.paces: dict[str, Pace] = {}

    def begin(self, task: Task, stored_version: int, now: float, began_at: float | None) -> None:
        """A task runs; the store has, or soon has, `stored_version`; a newer one is stored with its next change."""
        stored_at = now if stored_version == task.version else math.inf
        self.paces[task.id] = Pace(stored_version, stored_at, task.version, now, reached(task), now, began_at)

    def end(self, task_id: str) -> None:
        self.paces.pop(task_id, None)

    def stored_version(self, task: Task) -> int:
        """The version that the store has, or will have once all that was decided is durable."""
        pace = self.paces.get(task.id)
        return task.version if pace is None else pace.stored_version

    def step(self, before: Task, after: Task, now: float, shown: bool) -> list[Effect]:
        """A running task has changed; viewers have nothing to see in a change that is not `shown`."""
        pace = self.paces[after.id]
        if pace.stored_at == math.inf:
            pace.stored_at = -math.inf  # before it is shown
        if not shown and pace.shown_version == before.version:
            pace.shown_version = after.version
        percent, phase = reached(after)
        furthest = max(percent, pace.reached[0]), max(phase, pace.reached[1])
        if furthest != pace.reached:
            pace.reached, pace.moved_at = furthest, now
        return self.due(after, now)

    def moved(self, task_id: str, now: float) -> None:
        """A task has got further, says who judges its worker by another rule than by its numbers."""
        if (pace := self.paces.get(task_id)) is not None:
            pace.moved_at = now

    def due(self, task: Task, now: float) -> list[Effect]:
        """Store and show what is new in a running task, if it is time."""
        pace = self.paces[task.id]
        effects: list[Effect] = []
        if self.storing and task.version > pace.stored_version and now - pace.stored_at >= self.store_s:
            effects.append(Save(task, pace.stored_version))
            pace.stored_version, pace.stored_at = task.version, now
        if task.version > pace.shown_version and now - pace.shown_at >= self.show_s:
            effects.append(Publish(task, messages.PROGRESSED))
            pace.shown_version, pace.shown_at = task.version, now
        return effects

    def seconds(self, task_id: str, now: float) -> float | None:
        """How long a task has run, if this process saw it begin."""
        pace = self.paces.get(task_id)
        return None if pace is None or pace.began_at is None else now - pace.began_at

    def stalled(self, task_id: str, now: float, patience: float) -> bool:
        """Whether a task has got no further for longer than `patience` seconds."""
        return now - self.paces[task_id].moved_at > patience

    def forgive(self, now: float) -> None:
        """The hub itself was away: nobody has stalled."""
        for pace in self.paces.values():
            pace.moved_at = now


def reached(task: Task) -> tuple[int, int]:
    """How far a running task is, in steps that nobody can make endlessly small: tenths of a percent, and phases."""
    return int(10 * task.progress), PHASES.index(task.phase) if task.phase in PHASES else 0
