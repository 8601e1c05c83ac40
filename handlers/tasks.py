"""Tasks: create, list, look at, cancel, retry, delete; and the models to choose from."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from msgspec import Meta

from hub import views
from hub.core import Core
from hub.effects import Delete
from hub.errors import Conflict, FieldError, Invalid, NotFound
from hub.ids import new_id
from hub.interface import OfferedModel
from hub.media import Media, Purpose
from hub.task import Source, State, Task

from .base import OBJECT_ID, Endpoint, check_id
from .bodies import Form
from .media import remove_bytes

Option = Annotated[str, Meta(max_length=500)] | bool | Annotated[int, Meta(ge=-(2**53), le=2**53)] | float
OptionName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class TaskForm(Form):
    video_id: Annotated[str, Meta(max_length=100)]
    model: Annotated[str, Meta(min_length=1, max_length=64)]
    background_id: Annotated[str, Meta(max_length=100)] | None = None
    options: Annotated[dict[OptionName, Option], Meta(max_length=50)] = {}
    priority: Annotated[int, Meta(ge=-10, le=10)] = 0


class Tasks(Endpoint):
    async def get(self) -> None:
        limit, before = self.page_arguments("state")
        state = self.get_query_argument("state", None)
        if state is not None and state not in tuple(State):
            raise Invalid(f"state is one of {', '.join(State)}", code="bad_query")
        equal = {"owner": self.user.id} | ({"state": state} if state else {})
        found = await self.rooms.store.page(Task, limit, before, **equal)
        self.answer_list([self.rooms.runner.view(task) for task in found], limit, found[-1].id if found else None)

    async def post(self) -> None:
        form = self.form(TaskForm)
        key = self.request.headers.get("Idempotency-Key")
        if key is None:
            return await self.create(form, None)
        if not 1 <= len(key) <= 200 or not key.isprintable():
            raise Invalid("an Idempotency-Key has 1 to 200 printable characters")
        under_way = (self.user.id, key)
        if under_way in self.rooms.creating:
            raise Conflict("the first request with this Idempotency-Key is not answered yet", code="running")
        self.rooms.creating.add(under_way)
        try:
            if not await self.replayed(key):
                await self.create(form, key)
        finally:
            self.rooms.creating.discard(under_way)

    async def create(self, form: TaskForm, key: str | None) -> None:
        """Make the task and answer with it; where another hub has just made it under the same key, with that one."""
        runner = self.rooms.runner
        runner.check_ready()
        video = await self.source(form.video_id, Purpose.VIDEO, "/video_id")
        background = None
        if form.background_id is not None:
            background = await self.source(form.background_id, Purpose.BACKGROUND, "/background_id")
        task = Task(
            new_id(), self.user.id, form.model, video, background, self.rooms.clock.wall(), dict(form.options),
            form.priority, request_key=key, request_hash=self.digest(),
        )
        try:
            await runner.carry_out(runner.core.submit(task, self.rooms.clock.now()))
        except Conflict:
            if key is None or not await self.replayed(key):
                raise
            return
        self.set_header("Location", f"/api/tasks/{task.id}")
        self.answer(runner.view(task), 201)

    def digest(self) -> str:
        return hashlib.sha256(bytes(self.received)).hexdigest()

    async def replayed(self, key: str) -> bool:
        """Answer with the task that this key has created before, if it has.

        Raises:
            Invalid: code key_reused: it was another request.
        """
        earlier = await self.rooms.store.find(Task, owner=self.user.id, request_key=key)
        if earlier is None:
            return False
        if earlier.request_hash != self.digest():
            raise Invalid("this Idempotency-Key was used for another request", code="key_reused")
        self.set_header("Idempotency-Replayed", "true")
        self.set_header("Location", f"/api/tasks/{earlier.id}")
        self.answer(self.rooms.runner.view(earlier), 201)
        return True

    async def source(self, media_id: str, purpose: Purpose, pointer: str) -> Source:
        """One of the user's own files as a task's input.

        Raises:
            NotFound: there is none with this id and purpose.
        """
        record = await self.rooms.store.get(Media, media_id) if OBJECT_ID.fullmatch(media_id) else None
        if record is None or record.owner != self.user.id or record.purpose is not purpose or record.facts is None:
            field = FieldError(pointer, "not_found", f"you have no such {purpose}")
            raise NotFound(f"you have no such {purpose}", fields=(field,))
        return Source(record.id, record.name, record.size, record.sha256, record.content_type, record.facts)


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
        self.answer(self.rooms.runner.view(await self.owned(id)))

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
