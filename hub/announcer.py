"""What viewers may see: tasks as they are durable, and the topics in which changes of them are told.

Owns which topics an event goes to and what is in it, the news of waiting tasks, and where all this ends when the hub
does. Never decides, awaits, or sees a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Raw, Struct

from . import resuming, views
from .clock import rfc3339
from .core import Core
from .effects import Effect, Publish
from .later import Later
from .messages import DELETED, PROGRESSED, encoder
from .news import ADMIN, MINE, OWN, News
from .outlook import Outlook
from .ports import Clock
from .previews import Previews
from .shown import Shown
from .task import Task
from .topics import Topic, Topics
from .watching import Watch

RECORD, OPTION, ATTEMPT = 1280, 256, 512  # bytes in memory: of an event with its record, and of each of these in it


class Announcer:
    """Tells viewers what is durable."""

    def __init__(self, core: Core, clock: Clock, views: views.Views, topics: Topics) -> None:
        self.core = core
        self.clock = clock
        self.views = views
        self.topics = topics
        self.shown = Shown()
        self.news = News(core, topics)
        self.watch = Watch(core, topics)
        self.previews = Previews(core, topics, self.watch)

    # --- beginning and end --------------------------------------------------------------------------------------

    def begin(self, end: resuming.LiveEnd | None, stored: list[Task], newest: Task | None) -> bool:
        """Show what was `stored` at the start; whether the topics go on where the hub's last life ended."""
        self.shown.open = dict(self.core.tasks)
        if end is None or end.digest != resuming.digest(stored, newest):
            return False
        resuming.take_up(self.topics, end)
        return True

    def end(self, newest: Task | None, version: int) -> resuming.LiveEnd:
        """What the next life needs to go on; nothing may be shown after this."""
        return resuming.ending(self.topics, resuming.digest(self.core.tasks.values(), newest), version)

    # --- telling ------------------------------------------------------------------------------------------------

    def publish(self, effect: Publish) -> None:
        """Tell everybody who watches what has become of a task; it is put together when somebody looks, and once."""
        task, wall = effect.task, self.clock.wall()
        if effect.type == DELETED:
            self.shown.remove(task.id)
        else:
            self.shown.show(task)
        own, mine, everybody = self.topic(task.id), self.topics.get(MINE, task.owner), self.topics.known(ADMIN)
        at, key = rfc3339(wall), task.id if effect.type == PROGRESSED else None
        data: Raw | Later
        if effect.type == PROGRESSED:
            data = Raw(encoder.encode(views.progressed(task)))
        elif effect.type == DELETED:
            data = Raw(encoder.encode({"id": task.id}))
        else:
            outlook = self.core.outlook(task)
            self.news.tell(task, outlook)
            cursor = f"{own.epoch}:{own.offset + 1}"
            data = Later(View(self.views, task, wall, outlook, cursor), weight(task))
        own.publish(effect.type, data, at, key)
        mine.publish(effect.type, data, at, key)
        if everybody is not None:
            everybody.publish(effect.type, with_owner(task.owner, data), at, key)

    def topic(self, task_id: str) -> Topic:
        return self.topics.get(f"{OWN}{task_id}")

    def view(self, task: Task) -> dict[str, Any]:
        """A task as the outside may see it now; `task` is what the store said when it was read."""
        task = self.shown.latest(task)
        return self.views.task(task, self.clock.wall(), self.core.outlook(task), self.topic(task.id).cursor)

    def look(self) -> list[Effect]:
        """What workers are to be told about who looks."""
        return self.watch.look(self.clock.now())

    def changed(self) -> Iterator[Task | None]:
        """Waiting tasks of which there is news; None now and then, for a pause."""
        return self.news.round(self.shown.open)


class View(Struct, gc=False, eq=False):
    """A task's view at a moment, made when it is called for."""

    views: views.Views
    task: Task
    wall: float
    outlook: Outlook
    cursor: str

    def __call__(self) -> dict[str, Any]:
        return self.views.task(self.task, self.wall, self.outlook, self.cursor)


def with_owner(owner: str, data: Raw | Later) -> Raw | Later:
    """An object's JSON that says first whose it is."""
    if isinstance(data, Later):
        return Later(lambda: with_owner(owner, data.read()), data.size)
    return Raw(b'{"owner":' + encoder.encode(owner) + b"," + bytes(data)[1:])


def weight(task: Task) -> int:
    """About how many bytes an event holds until it is read, if nobody else has the record any more."""
    size = RECORD + OPTION * len(task.options) + len(task.message)
    for attempt in task.attempts:
        size += ATTEMPT + len(attempt.detail)
    return size
