"""What admins see and do: everybody's tasks, the queue with its reasons, users, models, and numbers.

Interface services have their own module, admin_interfaces. Decides nothing: cancelling and requeueing are the core's.
"""

from __future__ import annotations

import asyncio
import heapq
import shutil
from collections import Counter
from itertools import chain, islice
from typing import Any

from msgspec import UNSET, UnsetType

from hub import account, views
from hub.account import Role, User
from hub.effects import Save
from hub.errors import Conflict, Invalid, NotFound
from hub.media import Media
from hub.task import IllegalMove, State, Task

from .base import Endpoint, check_id
from .bodies import Form
from .tasks import model_view

PIECE = 10_000  # tasks of the queue that are looked through without a pause


class AdminEndpoint(Endpoint):
    """What all of an admin's endpoints share."""

    access = "admin"

    async def owners(self, tasks: list[Task]) -> dict[str, dict[str, Any]]:
        """Whose tasks these are, by the owner's id."""
        ids = tuple({task.owner for task in tasks})
        known = {user.id: user for user in await self.rooms.store.page(User, len(ids), id=ids)} if ids else {}
        return {id: {"id": id, "email": known[id].email if id in known else None} for id in ids}

    async def shown(self, tasks: list[Task]) -> list[dict[str, Any]]:
        """Tasks as their owners see them, with who that is and how long ago they were created (seconds)."""
        owners, wall = await self.owners(tasks), self.rooms.clock.wall()
        return [
            {**self.rooms.runner.view(task), "owner": owners[task.owner], "age": round(wall - task.created_at, 1)}
            for task in tasks
        ]


class Pending(AdminEndpoint):
    """GET /api/tasks/admin/pending: the waiting tasks, oldest first, each with the reason."""

    async def get(self) -> None:
        limit, after = self.page_arguments()
        found = await self.oldest(limit, after or "")
        self.answer_list(await self.shown(found), found, limit)

    async def oldest(self, limit: int, after: str) -> list[Task]:
        """The first waiting tasks behind the id `after`; others have their turn between two pieces of a long queue."""
        found: list[Task] = []
        every = iter(list(self.rooms.runner.core.tasks.values()))
        while piece := list(islice(every, PIECE)):
            waiting = (task for task in piece if task.state is State.WAITING and task.id > after)
            found = heapq.nsmallest(limit, chain(found, waiting), key=lambda task: task.id)
            await asyncio.sleep(0)
        return found


class AllTasks(AdminEndpoint):
    """GET /api/admin/tasks: everybody's tasks."""

    async def get(self) -> None:
        limit, before = self.page_arguments("state", "owner")
        equal: dict[str, Any] = {}
        if (state := self.get_query_argument("state", None)) is not None:
            if state not in tuple(State):
                raise Invalid(f"state is one of {', '.join(State)}", code="bad_query")
            equal["state"] = state
        if (owner := self.get_query_argument("owner", None)) is not None:
            equal["owner"] = owner
        found = await self.rooms.store.page(Task, limit, before, **equal)
        self.answer_list(await self.shown(await self.rooms.runner.catch_up(found)), found, limit)


class AnyTask(AdminEndpoint):
    """What can be done with anybody's task."""

    async def stored(self, id: str) -> Task:
        """Raises NotFound where there is none."""
        task = await self.rooms.store.get(Task, check_id(id))
        if task is None:
            raise NotFound("there is no such task")
        return task

    async def tell(self, id: str) -> None:
        [shown] = await self.shown([await self.stored(id)])
        self.answer(shown)


class CancelAnyTask(AnyTask):
    """POST /api/admin/tasks/{id}/cancel."""

    async def post(self, id: str) -> None:
        task, runner = await self.stored(id), self.rooms.runner
        runner.check_ready()
        await runner.carry_out(runner.core.cancel(task, self.rooms.clock.now()))
        await self.tell(id)


class RequeueTask(AnyTask):
    """POST /api/admin/tasks/{id}/requeue: whatever became of it, it waits again; a running attempt does not count."""

    async def post(self, id: str) -> None:
        task, runner, now = await self.stored(id), self.rooms.runner, self.rooms.clock.now()
        runner.check_ready()
        core = runner.core
        task = core.work.newest(task)
        if task.state is State.COMPLETED:
            raise IllegalMove("a completed task is not done again", code="task_completed")
        if task.state is not State.WAITING:
            again = core.requeue if task.state is State.PROCESSING else core.retry
            await runner.carry_out(again(task, now))
        await self.tell(id)


class UserChanges(Form):
    role: Role | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    weight: int | UnsetType = UNSET


class Users(AdminEndpoint):
    """GET /api/admin/users."""

    async def get(self) -> None:
        limit, before = self.page_arguments()
        found = await self.rooms.store.page(User, limit, before)
        self.answer_list([user_view(user) for user in found], found, limit)


class OneUser(AdminEndpoint):
    """PATCH /api/admin/users/{id}: another role or weight, or shut out."""

    async def patch(self, id: str) -> None:
        form = self.form(UserChanges)
        store, runner = self.rooms.store, self.rooms.runner
        user = await store.get(User, check_id(id))
        if user is None:
            raise NotFound("there is no such user")
        runner.check_ready()
        role = user.role if form.role is UNSET else form.role
        disabled = user.disabled if form.disabled is UNSET else form.disabled
        weight = user.weight if form.weight is UNSET else form.weight
        after = account.with_access(user, role, disabled, weight)
        if leads(user) and not leads(after) and not await self.others_lead(user):
            raise Conflict("there would be no admin left", code="last_admin")
        await runner.carry_out([Save(after, user.version)])
        self.rooms.identities.forget_user(id)
        if after.token_epoch != user.token_epoch:
            self.rooms.audience.sign_out(id)
        self.answer(user_view(after))

    async def others_lead(self, user: User) -> bool:
        """Whether there is another admin who can sign in."""
        admins = await self.rooms.store.page(User, 200, role="admin")
        return any(leads(other) and other.id != user.id for other in admins)


class AllModels(AdminEndpoint):
    """GET /api/admin/models: every model with who offers it and how many tasks wait for it."""

    async def get(self) -> None:
        core = self.rooms.runner.core
        waiting = Counter({model: queue.size for model, queue in core.dispatcher.queues.items()})
        waiting.update(core.tasks[id].model for id in (*core.dispatcher.asleep, *core.offers.of))
        self.answer({"items": [
            {
                **model_view(core, model), "waiting": waiting[model.id],
                "interfaces": sorted(each.worker for each in core.sessions.values() if model.id in each.models),
            }
            for model in sorted(core.models.values(), key=lambda model: model.id)
        ], "next": None})


class OneModel(AdminEndpoint):
    """DELETE /api/admin/models/{name}: forget a model that nobody offers any more."""

    async def delete(self, name: str) -> None:
        runner = self.rooms.runner
        runner.check_ready()
        await runner.carry_out(runner.core.forget_model(name))
        self.set_status(204)


class Stats(AdminEndpoint):
    """GET /api/admin/stats: how much there is of everything."""

    async def get(self) -> None:
        store, settings, core = self.rooms.store, self.rooms.settings, self.rooms.runner.core
        tasks = {state.value: await store.count(Task, state=state) for state in State}
        folders = {
            "data": settings.data_dir, "videos": settings.upload_videos_dir,
            "backgrounds": settings.upload_backgrounds_dir, "output": settings.output_dir,
        }
        space = await asyncio.to_thread(lambda: {name: shutil.disk_usage(path) for name, path in folders.items()})
        phases = Counter(session.phase.value if session.attached else "detached" for session in core.sessions.values())
        self.answer({
            "tasks": tasks,
            "sessions": dict(phases),
            "slots": {
                "all": sum(session.slots for session in core.sessions.values()),
                "free": sum(session.free for session in core.sessions.values()),
            },
            "users": await store.count(User),
            "media": await store.count(Media),
            "viewers": len(self.rooms.runner.viewers),
            "space": views.space(self.rooms.sweeper.report),
            "disk": {name: {"total": usage.total, "free": usage.free} for name, usage in space.items()},
        })


def leads(user: User) -> bool:
    """Whether this is an admin who can sign in."""
    return user.role == "admin" and not user.disabled


def user_view(user: User) -> dict[str, Any]:
    """A user as admins see one."""
    return {**account.public(user), "disabled": user.disabled, "weight": user.weight}


ROUTES = [
    (r"/api/tasks/admin/pending", Pending),
    (r"/api/admin/tasks", AllTasks),
    (r"/api/admin/tasks/([^/]+)/cancel", CancelAnyTask),
    (r"/api/admin/tasks/([^/]+)/requeue", RequeueTask),
    (r"/api/admin/users", Users),
    (r"/api/admin/users/([^/]+)", OneUser),
    (r"/api/admin/models", AllModels),
    (r"/api/admin/models/([^/]+)", OneModel),
    (r"/api/admin/stats", Stats),
]
