"""Where live topics stood when the hub ended in order, so that its next life can take them up.

Owns the record of it and what makes it true: the digest of what the store held then. Whatever was shown was stored
before, or the digest does not fit the tasks that are found; then topics begin anew, and viewers get snapshots.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from .task import Task
from .topics import Topics

ID = "live"
TOPICS, EVENTS, BYTES = 5000, 100, 4 * 1024 * 1024  # taken along: topics, last events of each, bytes of all events


class TopicEnd(Struct, frozen=True):
    """One topic: where it stood, and its last events as they were sent."""

    name: str
    owner: str
    epoch: str
    offset: int
    history: tuple[str, ...]


class LiveEnd(Struct, frozen=True):
    """All topics that were used last, and the digest of the open tasks and the newest one; "" while a hub runs.

    Each life of a hub takes two versions: one when it begins, one when it ends in order.
    """

    id: str
    digest: str
    topics: tuple[TopicEnd, ...]
    version: int = 1


def digest(open_tasks: Iterable[Task], newest: Task | None) -> str:
    """What the store held, in one word."""
    held = sorted(f"{task.id} {task.version}" for task in open_tasks)
    return sha256("\n".join([newest.id if newest else "", *held]).encode()).hexdigest()


def ending(topics: Topics, state: str, version: int) -> LiveEnd:
    """The record for the next life."""
    ends, room = [], BYTES
    for topic in reversed(topics.topics.values()):
        history: list[str] = []
        for frame in reversed(tuple(topic.history)):  # reading it may shorten the history
            room -= len(frame.data)
            if room < 0 or len(history) == EVENTS:
                break
            history.append(frame.data.decode())
        ends.append(TopicEnd(topic.name, topic.owner, topic.epoch, topic.offset, tuple(reversed(history))))
        if len(ends) == TOPICS:
            break
    return LiveEnd(ID, state, tuple(reversed(ends)), version)


def take_up(topics: Topics, end: LiveEnd) -> None:
    """Go on where the record says."""
    for each in end.topics:
        topics.restore(each.name, each.owner, each.epoch, each.offset, [text.encode() for text in each.history])
