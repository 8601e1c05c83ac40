"""What other processes do to the records that this one holds: noticed, and then the store is believed.

Owns when a task is read again. Never decides what follows from it: the core does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from .effects import Outcome, Publish
from .interface import Interface, OfferedModel
from .journal import Key, tasks_in
from .messages import DELETED, UPDATED
from .task import State, Task

if TYPE_CHECKING:
    from .runner import Runner

log = structlog.get_logger(__name__)

OPEN = (State.WAITING, State.PROCESSING)
LOOK_AGAIN_S = 10.0  # after the start; no write is under way for longer
PAGE = 1000  # tasks that are compared without a pause


class Elsewhere:
    """Follows the store on behalf of a runner."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.adopting: set[str] = set()

    def reload(self, refused: Mapping[Key, Outcome]) -> None:
        """Another process moved these tasks, or knows these models and workers: believe the store."""
        for (kind, id), outcome in refused.items():
            if kind is Task:
                if outcome is Outcome.MISSED:
                    log.warning("task_moved_elsewhere", task=id)
                self.adopt(id)
            elif kind is OfferedModel or kind is Interface:
                self.runner.own(self.adopt_record(kind, id))

    async def adopt_record(self, kind: type[OfferedModel] | type[Interface], name: str) -> None:
        runner = self.runner
        record = await runner.ask(lambda: runner.store.get(kind, name))
        if isinstance(record, OfferedModel):
            runner.core.models[name] = record
        elif record is not None:
            runner.decide(runner.core.know(record, runner.clock.now()))

    def adopt(self, task_id: str) -> None:
        """Believe the store about a task, as soon as it can be asked."""
        if task_id not in self.adopting:
            self.adopting.add(task_id)
            self.runner.own(self.read_again(task_id))

    async def read_again(self, task_id: str) -> None:
        try:
            task = await self.reading(task_id)
        finally:
            self.adopting.discard(task_id)
        runner = self.runner
        core, shown, now = runner.core, runner.shown.open.get(task_id), runner.clock.now()
        if task is not None:
            effects = core.adopt(task, now)
            effects.append(Publish(core.tasks.get(task_id, task), UPDATED))
        else:
            effects = core.forget(task_id, now)
            effects += [Publish(shown, DELETED)] if shown is not None else []
        runner.decide([*effects, *core.dispatch(now)])

    async def reading(self, task_id: str) -> Task | None:
        """A task as it is stored, read until nothing that was decided here meanwhile can be newer."""
        runner = self.runner
        while True:
            while task_id in self.undurable():
                await runner.decide([])
            believed = runner.core.work.believed(task_id)
            task = await runner.ask(lambda: runner.store.get(Task, task_id))
            if runner.core.work.believed(task_id) == believed:
                return task

    def undurable(self) -> set[str]:
        """The tasks of which something was decided that is not durable yet."""
        return tasks_in([*self.runner.committing, *self.runner.journal])

    async def look_again(self) -> None:
        """What the process before this one had asked for may have been written after this one had read."""
        await asyncio.sleep(LOOK_AGAIN_S)
        for task_id in await self.differing():
            await self.compare(task_id)

    async def differing(self) -> list[str]:
        """The open tasks that seem to be stored in another version, or not to be known; some just move."""
        runner, believed = self.runner, self.runner.core.work.believed
        known, found = sorted(runner.core.tasks), list[str]()
        before: str | None = None
        while True:
            page = await runner.ask(lambda: runner.store.versions(Task, PAGE, before, state=OPEN))
            stored, last = dict(page), page[-1][0] if page else ""
            while known and known[-1] >= last:
                task_id = known.pop()
                if believed(task_id) != stored.pop(task_id, 0):
                    found.append(task_id)
                if not page and not len(known) % PAGE:
                    await asyncio.sleep(0)
            found += [task_id for task_id, version in stored.items() if believed(task_id) != version]
            if not page:
                return found
            before = last

    async def compare(self, task_id: str) -> None:
        """Adopt a task that is stored in another version than this process has made of it."""
        runner, believed = self.runner, self.runner.core.work.believed
        if task_id in self.undurable():
            return  # the guard of its own change will tell
        before = believed(task_id)
        task = await runner.ask(lambda: runner.store.get(Task, task_id))
        stored = 0 if task is None or task.state.ended and not before else task.version  # 0 is what has long ended
        if before == believed(task_id) != stored:
            log.warning("task_moved_elsewhere", task=task_id)
            self.adopt(task_id)
