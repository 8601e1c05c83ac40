"""Creating a task: the order as it comes in, the files that it names, and the same order sent twice.

Owns what a request for a new task may say and what its answer is, whatever brings it. Whether the task is accepted is
the core's to decide.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from hub.account import User
from hub.errors import Conflict, Invalid
from hub.ids import new_id
from hub.media import Purpose
from hub.task import Task

from . import bodies
from .answers import Rooms

Option = Annotated[str, Meta(max_length=500)] | bool | Annotated[int, Meta(ge=-(2**53), le=2**53)] | float
OptionName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class TaskForm(bodies.Form):
    video_id: Annotated[str, Meta(max_length=100)]
    model: Annotated[str, Meta(min_length=1, max_length=64)]
    background_id: Annotated[str, Meta(max_length=100)] | None = None
    options: Annotated[dict[OptionName, Option], Meta(max_length=50)] = {}
    priority: Annotated[int, Meta(ge=-10, le=10)] = 0


@dataclass(frozen=True, slots=True)
class Created:
    """A task that was made, now or by an earlier request: what the answer says, and its headers."""

    view: dict[str, Any]
    replayed: bool = False

    @property
    def headers(self) -> dict[str, str]:
        told = {"Location": f"/api/tasks/{self.view['id']}"}
        return told | {"Idempotency-Replayed": "true"} if self.replayed else told


async def create(rooms: Rooms, user: User, content_type: str, body: bytes, key: str | None) -> Created:
    """Make the task that is ordered, once for each Idempotency-Key.

    Raises:
        Invalid, Unsupported: what is ordered makes no sense; code key_reused: the key was for another order.
        NotFound: there is no such file of this user's.
        Conflict: code running: the first request with this key is not answered yet.
        Unavailable: it could not be made durable.
    """
    form = bodies.read(TaskForm, content_type, body)
    order = hashlib.sha256(body).hexdigest()
    if key is None:
        return await make(rooms, user, form, None, order)
    if not 1 <= len(key) <= 200 or not key.isprintable():
        raise Invalid("an Idempotency-Key has 1 to 200 printable characters")
    under_way = (user.id, key)
    if under_way in rooms.creating:
        raise Conflict("the first request with this Idempotency-Key is not answered yet", code="running")
    rooms.creating.add(under_way)
    try:
        return await replayed(rooms, user, key, order) or await make(rooms, user, form, key, order)
    finally:
        rooms.creating.discard(under_way)


async def make(rooms: Rooms, user: User, form: TaskForm, key: str | None, order: str) -> Created:
    """Make it of files that nobody deletes meanwhile; where another hub was first with this key, it is that one."""
    runner, inputs = rooms.runner, rooms.inputs
    with inputs.used({form.video_id, form.background_id or ""}):
        runner.check_ready()
        video = await inputs.source(user.id, form.video_id, Purpose.VIDEO, "/video_id")
        background = None
        if form.background_id is not None:
            background = await inputs.source(user.id, form.background_id, Purpose.BACKGROUND, "/background_id")
        task = Task(
            new_id(), user.id, form.model, video, background, rooms.clock.wall(), dict(form.options),
            form.priority, user.weight, request_key=key, request_hash=order,
        )
        try:
            await runner.carry_out(runner.core.submit(task, rooms.clock.now()))
        except Conflict:
            earlier = None if key is None else await replayed(rooms, user, key, order)
            if earlier is None:
                raise
            return earlier
        return Created(runner.view(task))


async def replayed(rooms: Rooms, user: User, key: str, order: str) -> Created | None:
    """The task that this key has created before, if it has.

    Raises:
        Invalid: code key_reused: it was another request.
    """
    earlier = await rooms.store.find(Task, owner=user.id, request_key=key)
    if earlier is None:
        return None
    if earlier.request_hash != order:
        raise Invalid("this Idempotency-Key was used for another request", code="key_reused")
    return Created(rooms.runner.view(earlier), replayed=True)
