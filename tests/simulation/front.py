"""The hub's front door as requests see it: what handlers/tasks.py and its neighbours do between two awaits.

Owns no rule: each function reads, has the core decide, waits until that is durable, and answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.structs import replace

from hub.effects import Delete, Save
from hub.errors import Conflict, Invalid, NotFound
from hub.interface import Interface
from hub.media import Media, Purpose
from hub.task import Task

from .hub import SimulatedHub, source


class Order(NamedTuple):
    """What a user asks for: `poison` ends the worker that opens it, `large` is more than some workers take."""

    model: str
    priority: int
    poison: bool
    large: bool


async def create(hub: SimulatedHub, user: str, key: str, order: Order) -> str:
    """POST /api/tasks with an Idempotency-Key: the task's id."""
    if (user, key) in hub.creating:
        raise Conflict("the first request with this Idempotency-Key is not answered yet", code="running")
    hub.creating.add((user, key))
    try:
        earlier = await replayed(hub, user, key, order)
        return earlier if earlier is not None else await make(hub, user, key, order)
    finally:
        hub.creating.discard((user, key))


async def make(hub: SimulatedHub, user: str, key: str, order: Order) -> str:
    hub.check_ready()
    video = source(order.poison, order.large)
    task = Task(
        hub.world.new_id(), user, order.model, video, None, hub.clock.wall(), priority=order.priority,
        request_key=key, request_hash=repr(order),
    )
    try:
        await hub.carry_out(hub.core.submit(task, hub.clock.now()))
    except Conflict:
        earlier = await replayed(hub, user, key, order)
        if earlier is None:
            raise
        return earlier
    return task.id


async def replayed(hub: SimulatedHub, user: str, key: str, order: Order) -> str | None:
    earlier = await hub.store.find(Task, owner=user, request_key=key)
    if earlier is None:
        return None
    if earlier.request_hash != repr(order):
        raise Invalid("this Idempotency-Key was used for another request", code="key_reused")
    return earlier.id


async def owned(hub: SimulatedHub, id: str) -> Task:
    task = await hub.store.get(Task, id)
    if task is None:
        raise NotFound("there is no such task")
    return task


async def move(hub: SimulatedHub, id: str, name: str) -> tuple[int, dict[str, Any]]:
    """POST cancel, retry or (an admin) requeue: the version that was decided on, and the task as it is after that."""
    task = await owned(hub, id)
    hub.check_ready()
    effects = getattr(hub.core, name)(task, hub.clock.now())
    version = max([e.record.version for e in effects if isinstance(e, Save) and e.record.id == id], default=0)
    hub.world.tell("%s of %s is decided", name, id)
    await hub.carry_out(effects)
    hub.world.watch.answered(name, id, version)
    return version, hub.view(await owned(hub, id))


async def look(hub: SimulatedHub, id: str) -> dict[str, Any]:
    """GET a task."""
    return hub.view(await owned(hub, id))


async def delete(hub: SimulatedHub, id: str) -> None:
    """DELETE an ended task with its results."""
    task = await owned(hub, id)
    hub.check_ready()
    results = await hub.store.page(Media, 100, task_id=id)
    await hub.carry_out([*hub.core.delete(task), *(Delete(Media, record.id) for record in results)])


async def upload(hub: SimulatedHub, lease: str, sha256: str) -> str:
    """A worker sends a result for its lease: the id of its record."""
    task = hub.core.lease_of(lease)
    record = Media(
        hub.world.new_id(), task.owner, Purpose.RESULT, "r.mp4", "video/mp4", 9, sha256, "d" * 32, None,
        hub.clock.wall(), task.id,
    )
    await hub.carry_out([Save(record, 0)])
    return record.id


async def change_interface(hub: SimulatedHub, name: str, **changes: Any) -> None:
    """PATCH what an interface service may do: durable first, then its session follows."""
    known = await hub.store.get(Interface, name)
    if known is None:
        raise NotFound("there is no such interface service")
    await keep(hub, replace(known, **changes, version=known.version + 1), known.version)


async def keep(hub: SimulatedHub, record: Interface, previous: int) -> None:
    await hub.carry_out([Save(record, previous)])
    hub.registry.hear(record)


async def remove_interface(hub: SimulatedHub, name: str) -> None:
    """DELETE it, and send its service away."""
    await hub.carry_out([Delete(Interface, name)])
    hub.registry.remove(name)


async def add_interface(hub: SimulatedHub, name: str) -> None:
    """POST a new one."""
    version = 1000 * next(hub.world.numbers)  # a name that comes again must not be taken for the one that was removed
    await keep(hub, Interface(name, f"token of {name}", hub.world.now, version=version), 0)
