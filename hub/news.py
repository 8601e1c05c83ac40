"""News for waiting tasks: whose outlook is no longer what the viewers were told.

Owns what was told of waiting tasks. Looks at a few tasks at a time, and only at those that are watched: each topic that
somebody watches has its turns, so that who watches one task does not wait for those who watch many. Never publishes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from itertools import islice

from .core import Core
from .outlook import Outlook
from .task import State, Task
from .topics import Topic, Topics

LOOKED_AT, MOST, PAUSE = 500, 200, 20  # tasks that a round looks at, tells of, and looks at between two pauses
TOLD = 50_000  # tasks whose last told outlook is remembered; the longest not looked at are forgotten first
FIRST = 200  # tasks looked at for who watches all of theirs, or everybody's: those that are next in line for each model
ETA_CHANGE = 0.2  # share by which a time must have changed to be told again
OWN, MINE, ADMIN = "task:", "tasks", "admin"  # topics: of one task, of all of a user's, of everybody's


class News:
    """What was told, and what should be told anew.

    `turns` are the watched topics in the order of their turns, `left` those of their tasks that are still to be looked
    at, None where the topic has not had a turn yet.
    """

    def __init__(self, core: Core, topics: Topics) -> None:
        self.core = core
        self.topics = topics
        self.told: OrderedDict[str, Outlook] = OrderedDict()
        self.turns: deque[Topic] = deque()
        self.left: dict[Topic, Iterator[str] | None] = {}

    def tell(self, task: Task, outlook: Outlook) -> None:
        """Whoever watches this task was told its outlook."""
        if task.state is not State.WAITING:
            self.told.pop(task.id, None)
            return
        self.told[task.id] = outlook
        self.told.move_to_end(task.id)
        if len(self.told) > TOLD:
            self.told.popitem(last=False)

    def round(self, known: Mapping[str, Task]) -> Iterator[Task | None]:
        """Watched tasks that wait, as they are `known`, whose outlook has changed; None now and then, for a pause.

        A topic whose tasks were all looked at has no turn before the next round.
        """
        for topic in self.topics.watched:
            if topic not in self.left:
                self.left[topic] = None
                self.turns.append(topic)
        steps = looked = found = 0
        while self.turns and looked < LOOKED_AT and found < MOST:
            task_id = self.turn()
            if task_id is not None:
                looked += 1
                task = known.get(task_id)
                if task is not None and task.state is State.WAITING and self.waits(task_id) and self.is_news(task):
                    found += 1
                    yield task
            steps += 1
            if steps % PAUSE == 0:
                yield None

    def turn(self) -> str | None:
        """The next task of the topic whose turn it is; None where there is none left."""
        topic = self.turns.popleft()
        tasks = self.left[topic]
        if tasks is None:
            tasks = self.left[topic] = iter(list(self.tasks_of(topic)))
        task_id = next(tasks, None) if topic in self.topics.watched else None
        if task_id is None:
            del self.left[topic]
        else:
            self.turns.append(topic)
        return task_id

    def tasks_of(self, topic: Topic) -> Iterator[str]:
        """The tasks of a topic of which there may be news."""
        if topic.name == MINE:
            yield from (task.id for task in self.core.dispatcher.of(topic.owner, FIRST))
        elif topic.name == ADMIN:
            yield from (task.id for task in self.of_everybody())
        elif topic.name.startswith(OWN):
            yield topic.name.removeprefix(OWN)

    def of_everybody(self) -> Iterator[Task]:
        """The first tasks in everybody's lines, `FIRST` at most of each model: of many owners fewer each."""
        for queue in self.core.dispatcher.queues.values():
            each = max(1, FIRST // max(1, len(queue.lines)))
            for line in islice(queue.lines.values(), FIRST):
                yield from islice(line, each)

    def is_news(self, task: Task) -> bool:
        """Whether an outlook has changed since it was told; of what is not known any more it is told anew."""
        told, outlook = self.told.get(task.id), self.core.outlook(task)
        if told is None or differs(told, outlook):
            return True
        self.told.move_to_end(task.id)
        return False

    def waits(self, task_id: str) -> bool:
        """Whether it waits and is not on offer: then it is about to be told anyway, or soon waits as before."""
        task = self.core.tasks.get(task_id)
        return task is not None and task.state is State.WAITING and task_id not in self.core.offers.of


def differs(told: Outlook, now: Outlook) -> bool:
    """Whether viewers should know: another place, another reason, or a time that has changed by much."""
    if (told.position, told.blocked_by, told.eta is None) != (now.position, now.blocked_by, now.eta is None):
        return True
    return told.eta is not None and now.eta is not None and abs(now.eta.p50 - told.eta.p50) > ETA_CHANGE * told.eta.p50
