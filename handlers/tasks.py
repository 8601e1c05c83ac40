"""Tasks: create, list, look at, cancel, retry, delete; and the models to choose from."""

from __future__ import annotations

from typing import Any

from hub import views
from hub.core import Core
from hub.effects import Delete
from hub.errors import Invalid, NotFound
from hub.interface import OfferedModel
from hub.media import Media
from hub.task import State, Task

from . import kept_line
from .base import Endpoint, check_id
from .creation import create
from .media import remove_bytes
from .task_line import TaskLine


class Tasks(Endpoint):
    async def get(self) -> None:
        limit, before = self.page_arguments("state")
        state = self.get_query_argument("state", None)
        if state is not None and state not in tuple(State):
            raise Invalid(f"state is one of {', '.join(State)}", code="bad_query")
        equal = {"owner": self.user.id} | ({"state": state} if state else {})
        found = await self.rooms.store.page(Task, limit, before, **equal)
        views = [self.rooms.runner.view(task) for task in await self.rooms.runner.catch_up(found)]
        self.answer_list(views, found, limit)

    async def post(self) -> None:
        headers = self.request.headers
        made = await create(
            self.rooms, self.user, headers.get("Content-Type", ""), bytes(self.received),
            headers.get("Idempotency-Key"),
        )
        if kept_line.can_take(self):
            return TaskLine(self, self.bearer()).tell(made)
        for name, value in made.headers.items():
            self.set_header(name, value)
        self.answer(made.view, 201)


class TaskEndpoint(Endpoint):
    """What the endpoints of one task share."""

    async def owned(self, id: str) -> Task:
        """The user's own task, as stored.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        task = await self.rooms.store.get(Task, check_id(id))
        if task is None or task.owner != self.user.id:
            raise NotFound("there is no such task")
        return task

    async def decide_on(self, id: str, move: str) -> None:
        """Cancel or retry, and answer with the task as it is then."""
        task = await self.owned(id)
        runner = self.rooms.runner
        runner.check_ready()
        decision = getattr(runner.core, move)
        await runner.carry_out(decision(task, self.rooms.clock.now()))
        self.answer(runner.view(await self.owned(id)))


class OneTask(TaskEndpoint):
    async def get(self, id: str) -> None:
        task = await self.owned(id)
        if not await self.rooms.runner.catch_up([task]):
            raise NotFound("there is no such task")
        self.answer(self.rooms.runner.view(task))

    async def delete(self, id: str) -> None:
        task = await self.owned(id)
        runner = self.rooms.runner
        runner.check_ready()
        results = await self.rooms.store.page(Media, 100, task_id=id)
        await runner.carry_out([*runner.core.delete(task), *(Delete(Media, record.id) for record in results)])
        for record in results:
            await remove_bytes(self.rooms, record)
        self.set_status(204)


class CancelTask(TaskEndpoint):
    async def post(self, id: str) -> None:
        await self.decide_on(id, "cancel")


class RetryTask(TaskEndpoint):
    async def post(self, id: str) -> None:
        task = await self.owned(id)
        inputs = {source.media_id for source in (task.video, task.background) if source is not None}
        with self.rooms.inputs.used(inputs):
            if task.state.ended and await self.rooms.store.count(Media, id=tuple(inputs)) < len(inputs):
                raise NotFound("a file that this task was made of has been deleted")
            await self.decide_on(id, "retry")


def model_view(core: Core, model: OfferedModel) -> dict[str, Any]:
    """A model with who offers it now and how long it takes."""
    return views.model(model, core.ready_workers(model.id), core.work.estimates.rate(model.id))


class Models(Endpoint):
    async def get(self) -> None:
        core = self.rooms.runner.core
        known = sorted(core.models.values(), key=lambda model: model.id)
        items = [model_view(core, model) for model in known]
        items.sort(key=lambda item: item["workers_ready"] == 0)
        self.answer({"items": items, "next": None})


ROUTES = [
    (r"/api/models", Models),
    (r"/api/tasks", Tasks),
    (r"/api/tasks/([^/]+)", OneTask),
    (r"/api/tasks/([^/]+)/cancel", CancelTask),
    (r"/api/tasks/([^/]+)/retry", RetryTask),
]
