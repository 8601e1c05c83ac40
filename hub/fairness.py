"""Whose turn it is: start-time fair queuing between users, aged priorities within each user's own tasks.

Owns the waiting order of one model and the shares that all models have in common. Work is charged when it starts, by
its expected seconds, and corrected when it ends. Who has had least comes first; who has been away is not owed the past
(the start tag of Goyal, Vin, Cheng: Start-time Fair Queuing, 1996). Nobody starves: a waiting user's tag stands still
while the others' grow. Never knows a worker.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

AGING_S = 600.0  # a task that has waited this long counts one step of priority more

Key = tuple[float, str]  # creation time, earlier by AGING_S for each step of priority, then the id: lower goes first


def key_of(created_at: float, priority: int, task_id: str) -> Key:
    """A task's fixed place among its owner's: priority plus age, written so that it never has to be updated."""
    return created_at - priority * AGING_S, task_id


class Shares:
    """What each user has had, in virtual seconds, and how many of each user's tasks run.

    `cap` is how many of one user's tasks may run at once, 0 for any number.
    """

    def __init__(self, cap: int = 0) -> None:
        self.cap = cap
        self.virtual = 0.0
        self.finish: dict[str, float] = {}
        self.running: dict[str, int] = {}

    def start_tag(self, user: str) -> float:
        """Where a user's next task starts: not before what is served now, not before what the user had."""
        return max(self.virtual, self.finish.get(user, 0.0))

    def capped(self, user: str) -> bool:
        """Whether a user has as many tasks running as are allowed."""
        return bool(self.cap) and self.running.get(user, 0) >= self.cap

    def began(self, user: str, cost: float) -> None:
        """A task of this user starts; `cost` is its expected seconds."""
        tag = self.start_tag(user)
        self.virtual = tag
        self.finish[user] = tag + cost
        self.running[user] = self.running.get(user, 0) + 1
        if len(self.finish) > 1000 and len(self.finish) > 4 * len(self.running):
            self.finish = {user: tag for user, tag in self.finish.items() if tag > self.virtual}

    def ended(self, user: str, correction: float) -> None:
        """A task of this user is over; `correction` is real minus expected seconds."""
        if user in self.finish:
            self.finish[user] += correction
        left = self.running.get(user, 0) - 1
        if left > 0:
            self.running[user] = left
        else:
            self.running.pop(user, None)


@dataclass(slots=True)
class Line:
    """One user's waiting tasks for one model, in order; `head` is how many at the front are gone already."""

    keys: list[Key] = field(default_factory=list)
    head: int = 0

    def __len__(self) -> int:
        return len(self.keys) - self.head

    def __iter__(self) -> Iterator[Key]:
        for at in range(self.head, len(self.keys)):
            yield self.keys[at]

    def add(self, key: Key) -> None:
        insort(self.keys, key, lo=self.head)

    def discard(self, key: Key) -> None:
        at = bisect_left(self.keys, key, lo=self.head)
        if at == len(self.keys) or self.keys[at] != key:
            return
        if at > self.head:
            del self.keys[at]
            return
        self.head += 1
        if self.head > 64 and self.head * 2 > len(self.keys):
            del self.keys[:self.head]
            self.head = 0

    def rank(self, key: Key) -> int:
        """How many stand before `key`."""
        return bisect_left(self.keys, key, lo=self.head) - self.head


class FairQueue:
    """The waiting tasks of one model."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares
        self.lines: dict[str, Line] = {}
        self.turns: list[tuple[float, int, str]] = []  # a heap of users; entries that are out of date are dropped late
        self.entered: dict[str, tuple[float, int]] = {}
        self.count = 0

    def add(self, user: str, key: Key) -> None:
        """A task waits."""
        line = self.lines.get(user)
        if line is None:
            line = self.lines[user] = Line()
        line.add(key)
        self.enter(user)

    def discard(self, user: str, key: Key) -> None:
        """A task waits no longer."""
        line = self.lines.get(user)
        if line is not None:
            line.discard(key)
            if not len(line):
                del self.lines[user]
                self.entered.pop(user, None)

    def enter(self, user: str) -> None:
        """Give a user a turn, by what that user has had until now."""
        tag = self.shares.start_tag(user)
        known = self.entered.get(user)
        if known is None or known[0] != tag:
            self.count += 1
            self.entered[user] = (tag, self.count)
            heapq.heappush(self.turns, (tag, self.count, user))

    def users(self) -> Generator[str, None, None]:
        """Users with waiting tasks who may run one, whose turn it is first; taking one does not end it."""
        passed: list[tuple[float, int, str]] = []
        try:
            while self.turns:
                turn = self.turns[0]
                tag, count, user = turn
                if self.entered.get(user) != (tag, count):
                    heapq.heappop(self.turns)
                elif tag < self.shares.start_tag(user):
                    heapq.heappop(self.turns)
                    self.enter(user)
                else:
                    heapq.heappop(self.turns)
                    passed.append(turn)
                    if not self.shares.capped(user):
                        yield user
        finally:
            for turn in passed:
                heapq.heappush(self.turns, turn)

    def position(self, user: str, key: Key, cost: float) -> int:
        """About how many tasks go first, if all cost `cost` seconds: one's own before it, and the others' turns."""
        line = self.lines.get(user)
        if line is None:
            return 0
        own = line.rank(key)
        tag = self.shares.start_tag(user) + own * cost
        ahead = own
        for other, theirs in self.lines.items():
            if other != user:
                turns = (tag - self.shares.start_tag(other)) / cost
                ahead += max(0, min(len(theirs), int(turns) + (1 if turns > 0 else 0)))
        return ahead
