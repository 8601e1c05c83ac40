"""What a user may see live: topics by their names, and the snapshot of each as it is this very moment.

Owns who may watch what. Every transport asks here, and joins in the same turn of the loop in which it gets a topic's
snapshot, so that no event falls between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from hub.account import User
from hub.errors import Invalid, NotFound
from hub.messages import Joined
from hub.news import ADMIN, MINE, OWN
from hub.subscriber import Subscriber
from hub.task import Task
from hub.topics import Topic

from .base import OBJECT_ID, Rooms

SNAPSHOT = 50  # tasks in a snapshot of many
SUBSCRIPTIONS = 200  # of one connection

Snapshot = Callable[[], Any]


async def join(rooms: Rooms, user: User, subscriber: Subscriber, name: str, after: str | None) -> Joined:
    """Join a topic: with what was missed where that can be told whole, else with a snapshot.

    Raises:
        NotFound: no such topic, or nothing for this user.
        Invalid: too many subscriptions.
    """
    if len(subscriber.topics) >= SUBSCRIPTIONS and name not in subscriber.topics:
        raise Invalid(f"at most {SUBSCRIPTIONS} subscriptions a connection")
    topic = known(rooms, user, name) if after else None
    missed = topic.since(after) if topic is not None and after else None
    shown = None
    if topic is None or missed is None:
        topic, snapshot = await find(rooms, user, name)
        # From here to the subscription nothing awaits, so no event falls between the two.
        missed = topic.since(after) if after else None
        shown = snapshot() if missed is None else None
    subscriber.subscribe(topic)
    return joined(topic, [Raw(frame.data) for frame in missed or ()], missed is not None, shown)


def joined(topic: Topic, events: list[Raw], recovered: bool = True, snapshot: Any = None) -> Joined:
    """Where a topic stands, and what was missed up to there."""
    return Joined(
        topic=topic.name, epoch=topic.epoch, offset=topic.offset, recovered=recovered, snapshot=snapshot,
        events=events,
    )


def cursor(joined: list[Joined]) -> str:
    """The cursor of several topics: theirs, joined by commas."""
    return joint({each.epoch: each.offset for each in joined})


def joint(places: dict[str, int]) -> str:
    """The same of epochs and offsets."""
    return ",".join(f"{epoch}:{offset}" for epoch, offset in places.items())


def known(rooms: Rooms, user: User, name: str) -> Topic | None:
    """The topic of that name, if it is there and sure to be this user's without asking the store.

    Whoever comes back with a cursor that is good costs no reading.
    """
    runner = rooms.runner
    if name == MINE:
        return runner.topics.known(MINE, user.id)
    if name == ADMIN:
        return runner.topics.known(ADMIN) if user.role == "admin" else None
    task = runner.shown.open.get(name.removeprefix(OWN))
    return runner.topics.known(name) if task is not None and task.owner == user.id else None


async def find(rooms: Rooms, user: User, name: str) -> tuple[Topic, Snapshot]:
    """The topic of that name and a function that makes its snapshot at once.

    Raises:
        NotFound: there is none for this user.
    """
    runner = rooms.runner
    if name == MINE:
        mine = await runner.catch_up(await rooms.store.page(Task, SNAPSHOT, owner=user.id))
        return runner.topics.get(MINE, user.id), lambda: {"items": [
            runner.view(task) for task in runner.shown.snapshot(mine, user.id, SNAPSHOT)
        ]}
    if name == ADMIN and user.role == "admin":
        newest = await runner.catch_up(await rooms.store.page(Task, SNAPSHOT))
        return runner.topics.get(ADMIN), lambda: {"items": [
            {"owner": task.owner} | runner.view(task) for task in runner.shown.snapshot(newest, None, SNAPSHOT)
        ]}
    kind, id = name[:len(OWN)], name[len(OWN):]
    task = await rooms.store.get(Task, id) if kind == OWN and OBJECT_ID.fullmatch(id) else None
    if task is None or task.owner != user.id or not await runner.catch_up([task]):
        raise NotFound("there is no such topic")
    return runner.topic(id), lambda: runner.view(task)
