"""Whose turn it is: start-time fair queuing between users, aged priorities within each user's own tasks.

Owns the waiting order of one model and the shares that all models have in common. Work is charged when it starts, by
its expected seconds, and corrected when it ends. Who has had least comes first; who has been away is not owed the past
(the start tag of Goyal, Vin, Cheng: Start-time Fair Queuing, 1996). Nobody starves: a turn keeps its tag while it
waits, and whatever is served moves the tags of those who come later. Never knows a worker.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Generator, Iterator
from itertools import accumulate, islice

from .estimate import size_of
from .task import Task

AGING_S = 600.0  # a task that has waited this long counts one step of priority more
CROWD = 32  # users up to whom seconds are shared exactly; newcomers get so many for each that somebody is ahead of them
GONE = 256  # tasks that have left the front of a line before the line is moved up
LOOKED_AT = 1000  # other users that a position looks at; the rest are taken to be like them
KEPT = 1000  # users whose share is remembered without asking whether it still matters

Turn = tuple[float, int]  # a tag in virtual seconds, and a number that puts equal tags in the order of their coming
Key = tuple[float, str]  # creation time, earlier by AGING_S for each step of priority, then the id: lower goes first


def order(task: Task) -> Key:
    """A task's fixed place among its owner's: priority plus age, written so that it never has to be updated."""
    return task.created_at - task.priority * AGING_S, task.id


class Shares:
    """What each user has had, in virtual seconds, and how many of each user's tasks run.

    `cap` is how many of one user's tasks may run at once, 0 for any number.
    """

    def __init__(self, cap: int = 0) -> None:
        self.cap = cap
        self.virtual = 0.0
        self.finish: dict[str, float] = {}
        self.running: dict[str, int] = {}
        self.prune_at = KEPT

    def start_tag(self, user: str) -> float:
        """Where a user who asks now starts: not before what is served now, not before what the user had."""
        return max(self.virtual, self.had(user))

    def had(self, user: str) -> float:
        """Up to where a user was served."""
        return self.finish.get(user, 0.0)

    def capped(self, user: str) -> bool:
        """Whether a user has as many tasks running as are allowed."""
        return bool(self.cap) and self.running.get(user, 0) >= self.cap

    def began(self, user: str, cost: float, tag: float | None = None) -> None:
        """A task of this user starts, in a turn at `tag` if it had one; `cost` is its expected seconds."""
        start = self.start_tag(user) if tag is None else max(tag, self.had(user))
        self.virtual = max(self.virtual + cost / CROWD, start)
        self.finish[user] = start + cost
        self.running[user] = self.running.get(user, 0) + 1
        if len(self.finish) > self.prune_at:
            self.finish = {user: tag for user, tag in self.finish.items() if tag > self.virtual}
            self.prune_at = max(KEPT, 2 * len(self.finish))

    def ended(self, user: str, correction: float) -> None:
        """A task of this user is over; `correction` is real minus expected seconds."""
        if user in self.finish:
            self.finish[user] += correction
        left = self.running.get(user, 0) - 1
        if left > 0:
            self.running[user] = left
        else:
            self.running.pop(user, None)


class Line:
    """One user's waiting tasks for one model, in order; `gone` is how many at the front have left already."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.gone = 0

    def __len__(self) -> int:
        return len(self.tasks) - self.gone

    def __iter__(self) -> Iterator[Task]:
        return islice(self.tasks, self.gone, None)

    def __contains__(self, task: Task) -> bool:
        return self.place(task) is not None

    def place(self, task: Task) -> int | None:
        """Where in `tasks` it is, if it is."""
        at = bisect_left(self.tasks, order(task), lo=self.gone, key=order)
        return at if at < len(self.tasks) and self.tasks[at].id == task.id else None

    def add(self, task: Task) -> None:
        if self.gone and (not len(self) or order(task) < order(self.tasks[self.gone])):
            self.gone -= 1
            self.tasks[self.gone] = task
        elif not len(self) or order(self.tasks[-1]) <= order(task):
            self.tasks.append(task)
        else:
            insort(self.tasks, task, lo=self.gone, key=order)

    def discard(self, task: Task) -> bool:
        """Take it out; False if it was not there."""
        at = self.place(task)
        if at is None:
            return False
        if at > self.gone:
            del self.tasks[at]
            return True
        self.gone += 1
        if self.gone >= GONE:
            del self.tasks[:self.gone]
            self.gone = 0
        return True

    def rank(self, task: Task) -> int:
        """How many stand before it."""
        return bisect_left(self.tasks, order(task), lo=self.gone, key=order) - self.gone


class Ahead:
    """How many tasks go before those of one user, by the number of the user's own before them.

    Each of the `others` has so many turns more before a task, the more of the user's own are before it: from `starts`
    of these on, and up to `ends`, when all that the other has has gone. Both are of those that were looked at.
    """

    def __init__(self, starts: list[int], ends: list[int], others: int) -> None:
        self.starts, self.ends = sorted(starts), sorted(ends)
        self.started, self.ended = list(accumulate(self.starts, initial=0)), list(accumulate(self.ends, initial=0))
        self.others = others

    def of(self, own: int) -> int:
        """How many go before a task that has `own` of its owner's before it."""
        seen = len(self.starts)
        begun, done = bisect_left(self.starts, own), bisect_left(self.ends, own)
        ahead = (own * begun - self.started[begun]) - (own * done - self.ended[done])
        return own + (ahead * self.others // seen if seen else 0)


class FairQueue:
    """The waiting tasks of one model; `size` is their number and `work` what they are, in megapixel-frames.

    A user with waiting tasks has one turn, at a tag that stays until it is used: `turns` is a heap of them, in which
    those that are not in `entered` any more are dropped late. Who is at the cap has none until a task of theirs ends.
    """

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self.lines: dict[str, Line] = {}
        self.turns: list[tuple[float, int, str]] = []
        self.entered: dict[str, Turn] = {}
        self.count = 0
        self.size = 0
        self.work = 0.0

    def add(self, task: Task) -> None:
        """A task waits."""
        line = self.lines.get(task.owner)
        if line is None:
            line = self.lines[task.owner] = Line()
        line.add(task)
        self.size += 1
        self.work += size_of(task.video.facts)
        self.enter(task.owner)

    def discard(self, task: Task) -> bool:
        """A task waits no longer; False if it did not wait here."""
        line = self.lines.get(task.owner)
        if line is None or not line.discard(task):
            return False
        self.size -= 1
        self.work = self.work - size_of(task.video.facts) if self.size else 0.0
        if not len(line):
            del self.lines[task.owner]
            self.entered.pop(task.owner, None)
        return True

    def __contains__(self, task: Task) -> bool:
        line = self.lines.get(task.owner)
        return line is not None and task in line

    def enter(self, user: str) -> None:
        """See that a user who waits has a turn, by what that user has had; call it whenever that has changed."""
        if user not in self.lines or self.shares.capped(user):
            self.entered.pop(user, None)
            return
        tag, known = self.shares.start_tag(user), self.entered.get(user)
        if known is not None and self.shares.had(user) <= known[0] <= tag:
            return
        self.count += 1
        self.entered[user] = (tag, self.count)
        if len(self.turns) > 64 + 2 * len(self.entered):
            self.turns = [(tag, count, user) for user, (tag, count) in self.entered.items()]
            heapq.heapify(self.turns)
        else:
            heapq.heappush(self.turns, (tag, self.count, user))

    def restore(self, user: str, turn: Turn) -> None:
        """What a user was served came to nothing: the turn is theirs again."""
        known = self.entered.get(user)
        if user in self.lines and (known is None or turn < known) and not self.shares.capped(user):
            self.entered[user] = turn
            heapq.heappush(self.turns, (*turn, user))

    def users(self) -> Generator[tuple[Turn, str], None, None]:
        """Users with waiting tasks who may run one, and their turns, the first first; looking does not use a turn."""
        passed: list[tuple[float, int, str]] = []
        try:
            while self.turns:
                tag, count, user = heapq.heappop(self.turns)
                if self.entered.get(user) == (tag, count):
                    passed.append((tag, count, user))
                    yield (tag, count), user
        finally:
            for turn in passed:
                heapq.heappush(self.turns, turn)

    def turn(self, user: str) -> Turn:
        """A user's turn: its tag, and its number among equals; a guess for one at the cap, who has none."""
        return self.entered.get(user) or (self.shares.start_tag(user), self.count + 1)

    def ahead(self, user: str, cost: float) -> Ahead:
        """What goes before the tasks of a user, if all take `cost` seconds; not all of many others are looked at."""
        tag, count = self.turn(user)
        starts, ends = list[int](), list[int]()
        for other, line in islice(self.lines.items(), LOOKED_AT + 1):
            if other != user:
                their_tag, their_count = self.turn(other)
                turns = (tag - their_tag) / cost
                whole = round(turns)
                if abs(turns - whole) < 1e-6:
                    whole += whole < 0 or (whole == 0 and their_count < count)
                else:
                    whole = math.ceil(turns)
                starts.append(-whole)
                ends.append(len(line) - whole)
        return Ahead(starts, ends, len(self.lines) - 1)

    def position(self, task: Task, cost: float) -> int:
        """About how many tasks go first, if all take `cost` seconds: one's own before it, and the others' turns."""
        return self.ahead(task.owner, cost).of(self.lines[task.owner].rank(task))
