"""News for waiting tasks: whose outlook is no longer what the viewers were told.

Owns what was told of each waiting task that somebody watches. Looks at a few tasks at a time, round after round, and
only at those that are watched. Never publishes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping

from .core import Core
from .outlook import Outlook
from .task import State, Task
from .topics import Topics

LOOKED_AT, MOST, PAUSE = 500, 200, 20  # tasks that a round looks at, tells of, and looks at between two pauses
TOLD = 20_000  # tasks whose last told outlook is remembered; the longest unchanged are forgotten first
OF_ONE_OWNER = 1000  # tasks looked at for one who watches all of theirs, those that are next in line for each model
ETA_CHANGE = 0.2  # share by which a time must have changed to be told again
OWN, MINE, ADMIN = "task:", "tasks", "admin"  # topics: of one task, of all of a user's, of everybody's


class News:
    """What was told, and what should be told anew."""

    def __init__(self, core: Core, topics: Topics) -> None:
        self.core = core
        self.topics = topics
        self.told: OrderedDict[str, Outlook] = OrderedDict()
        self.due: deque[str] = deque()
        self.doubtful: set[str] = set()

    def doubt(self, task_ids: Iterable[str]) -> None:
        """Viewers of these were told something in the hub's last life: whatever it was, tell them anew."""
        self.doubtful.update(task_ids)

    def shown(self, task: Task, outlook: Outlook) -> None:
        """Somebody has asked for this task and may watch it from now on; what others were told before still counts."""
        if task.state is State.WAITING and task.id not in self.told and task.id not in self.doubtful:
            self.tell(task, outlook)

    def tell(self, task: Task, outlook: Outlook) -> None:
        """Whoever watches this task was told its outlook."""
        if task.state is not State.WAITING:
            self.told.pop(task.id, None)
            self.doubtful.discard(task.id)
            return
        self.doubtful.discard(task.id)
        self.told[task.id] = outlook
        self.told.move_to_end(task.id)
        if len(self.told) > TOLD:
            self.told.popitem(last=False)

    def round(self, known: Mapping[str, Task]) -> Iterator[Task | None]:
        """Watched tasks that wait, as they are `known`, whose outlook has changed; None now and then, for a pause."""
        if not self.due:
            self.due.extend(self.watched())
        found = 0
        for number in range(1, min(LOOKED_AT, len(self.due)) + 1):
            task = known.get(self.due.popleft())
            if task is not None and task.state is State.WAITING and self.waits(task.id) and self.is_news(task):
                found += 1
                yield task
            if number % PAUSE == 0:
                yield None
            if found == MOST or not self.due:
                return

    def is_news(self, task: Task) -> bool:
        """Whether an outlook has changed since it was told; what was never told is known from now on."""
        outlook = self.core.outlook(task)
        if task.id in self.told:
            return differs(self.told[task.id], outlook)
        if task.id in self.doubtful:
            return True
        self.tell(task, outlook)
        return False

    def waits(self, task_id: str) -> bool:
        """Whether it waits and is not on offer: then it is about to be told anyway, or soon waits as before."""
        task = self.core.tasks.get(task_id)
        return task is not None and task.state is State.WAITING and task_id not in self.core.offers.of

    def watched(self) -> Iterator[str]:
        """Each waiting task that somebody watches, by itself or among all of its owner's."""
        seen: set[str] = set()
        for topic in self.topics.watched:
            if topic.name == MINE:
                seen.update(task.id for task in self.core.dispatcher.of(topic.owner, OF_ONE_OWNER))
            elif topic.name.startswith(OWN):
                seen.add(topic.name.removeprefix(OWN))
        yield from seen


def differs(told: Outlook, now: Outlook) -> bool:
    """Whether viewers should know: another place, another reason, or a time that has changed by much."""
    if (told.position, told.blocked_by, told.eta is None) != (now.position, now.blocked_by, now.eta is None):
        return True
    return told.eta is not None and now.eta is not None and abs(now.eta.p50 - told.eta.p50) > ETA_CHANGE * told.eta.p50
