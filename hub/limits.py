"""The waiting tasks of one model, and beside them those that are within the limits of some workers.

Owns the parts of a line: a worker that takes no large videos is asked in a part where there are none, so it never has
to look past them. Never knows a worker, only what it said that it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .fairness import FairQueue, Shares, Turn
from .messages import Model
from .task import Task
from .verdict import misfit

Limits = tuple[str, int, int]  # a model, and the most pixels and frames of it (0: any number)


def limits_of(offer: Model) -> Limits:
    """What makes two workers alike in what they take."""
    return offer.name, offer.max_pixels, offer.max_frames


class Part(FairQueue):
    """Those tasks of a model that `offer` fits; `unseen` are those that came before it did, the first at the end."""

    def __init__(self, shares: Shares, offer: Model, unseen: list[Task]) -> None:
        super().__init__(shares)
        self.offer = offer
        self.unseen = unseen

    def takes(self, task: Task) -> bool:
        return misfit(self.offer, task.video.facts) is None


class ModelQueue(FairQueue):
    """All waiting tasks of a model. `parts` are those within limits that were asked for, each with turns of its own.

    `pixels` and `frames` are the most of a video since nothing waited.
    """

    def __init__(self, shares: Shares) -> None:
        super().__init__(shares)
        self.parts: dict[Limits, Part] = {}
        self.pixels = self.frames = 0

    def add(self, task: Task) -> None:
        super().add(task)
        facts = task.video.facts
        if (pixels := facts.width * facts.height) > self.pixels:
            self.pixels = pixels
        if facts.frames > self.frames:
            self.frames = facts.frames
        for part in self.parts.values():
            if part.takes(task):
                part.add(task)

    def discard(self, task: Task) -> bool:
        found = super().discard(task)
        if not self.size:
            self.parts.clear()
            self.pixels = self.frames = 0
        for part in self.parts.values():
            part.discard(task)
        return found

    def enter(self, user: str) -> None:
        super().enter(user)
        for part in self.parts.values():
            part.enter(user)

    def restore(self, user: str, turn: Turn) -> None:
        super().restore(user, turn)
        for part in self.parts.values():
            part.restore(user, turn)

    def within(self, offer: Model, looks: Iterator[object]) -> FairQueue:
        """The tasks that a worker takes who said `offer`.

        Those that wait already are looked at once, each for one of `looks`; when these are used up, the rest follows
        the next time.
        """
        if self.pixels <= (offer.max_pixels or self.pixels) and self.frames <= (offer.max_frames or self.frames):
            return self
        part = self.parts.get(limits_of(offer))
        if part is None and next(looks, None) is None:
            return FairQueue(self.shares)
        if part is None:
            unseen = [task for line in self.lines.values() for task in line]
            unseen.reverse()
            part = self.parts[limits_of(offer)] = Part(self.shares, offer, unseen)
        while part.unseen and next(looks, None) is not None:
            task = part.unseen.pop()
            if part.takes(task) and task in self and task not in part:
                part.add(task)
        return part

    def keep_only(self, offers: Iterable[Model]) -> None:
        """Only these will be asked for again."""
        known = {limits_of(offer) for offer in offers}
        self.parts = {limits: part for limits, part in self.parts.items() if limits in known}
