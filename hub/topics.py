"""Live topics: a bounded history each, an offset and an epoch, and the subscribers.

Owns what "missed" means: a cursor (epoch:offset) is answered with all that came after it, or declined. Never
knows a transport: a subscriber is anything that takes encoded frames.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from dataclasses import dataclass
from typing import Any, Protocol

from .messages import Event, encode

HISTORY = 1000  # events kept a topic
MAX_TOPICS = 20_000  # topics kept; the longest unused without subscribers are forgotten first


@dataclass(frozen=True, slots=True)
class Frame:
    """One event, encoded once for everybody."""

    offset: int
    data: bytes
    event: Event


class Sink(Protocol):
    """Where a subscriber's frames go; it must not block."""

    def deliver(self, frame: Frame) -> None: ...


class Topic:
    """A stream of events under one epoch, numbered from 1."""

    def __init__(self, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.offset = 0
        self.history: deque[Frame] = deque(maxlen=HISTORY)
        self.sinks: set[Sink] = set()

    @property
    def cursor(self) -> str:
        return f"{self.epoch}:{self.offset}"

    def publish(self, type: str, data: Any, at: str) -> None:
        """Add an event and give it to every subscriber."""
        self.offset += 1
        event = Event(type=type, topic=self.name, epoch=self.epoch, offset=self.offset, at=at, data=data)
        frame = Frame(self.offset, encode(event), event)
        self.history.append(frame)
        for sink in tuple(self.sinks):
            sink.deliver(frame)

    def since(self, cursor: str) -> list[Frame] | None:
        """All frames after the cursor, or None where that cannot be told whole."""
        epoch, _, text = cursor.rpartition(":")
        if epoch != self.epoch or not text.isascii() or not text.isdigit() or len(text) > 18:
            return None
        offset = int(text)
        if offset > self.offset or (offset < self.offset and self.history[0].offset > offset + 1):
            return None
        return [frame for frame in self.history if frame.offset > offset]


class Topics:
    """All topics of this hub. A topic that was forgotten comes back under a new epoch, so no cursor ever lies."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.made = 0
        self.topics: OrderedDict[tuple[str, str], Topic] = OrderedDict()

    def get(self, name: str, owner: str = "") -> Topic:
        """The topic of that name; `owner` keeps apart the topics that each user has of the same name."""
        topic = self.topics.get((name, owner))
        if topic is None:
            self.forget_unused()
            self.made += 1
            topic = self.topics[name, owner] = Topic(name, f"{self.epoch}.{self.made}")
        self.topics.move_to_end((name, owner))
        return topic

    def forget_unused(self) -> None:
        """Make room for one more topic: the longest unused that nobody watches go."""
        excess = len(self.topics) + 1 - MAX_TOPICS
        if excess > 0:
            unwatched = (key for key, topic in self.topics.items() if not topic.sinks)
            for key in list(islice(unwatched, excess)):
                del self.topics[key]


class Subscriber:
    """A viewer's queue between the topics and a connection: bounded, and cut when hopeless.

    `wake` is called when there is something to take; `lagged` is set once the viewer was too slow for its queue.
    """

    MAX_FRAMES = 256
    MAX_BYTES = 1024 * 1024

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.queue: deque[Frame] = deque()
        self.bytes = 0
        self.lagged = False
        self.topics: dict[str, Topic] = {}

    def subscribe(self, topic: Topic) -> None:
        """Join; what still waits of this topic is dropped, for the subscriber is now told where the topic stands."""
        waiting, self.queue, self.bytes = self.queue, deque(), 0
        for frame in waiting:
            if frame.event.topic != topic.name:
                self.queue.append(frame)
                self.bytes += len(frame.data)
        self.topics[topic.name] = topic
        topic.sinks.add(self)

    def unsubscribe(self, name: str) -> bool:
        topic = self.topics.pop(name, None)
        if topic is not None:
            topic.sinks.discard(self)
        return topic is not None

    def close(self) -> None:
        """Leave every topic and drop what waits."""
        for name in list(self.topics):
            self.unsubscribe(name)
        self.queue.clear()

    def deliver(self, frame: Frame) -> None:
        if self.lagged:
            return
        self.queue.append(frame)
        self.bytes += len(frame.data)
        if len(self.queue) > self.MAX_FRAMES or self.bytes > self.MAX_BYTES:
            self.lagged = True
            self.close()
        self.wake()

    def next(self) -> Frame | None:
        """The frame that has waited longest, or None."""
        if not self.queue:
            return None
        frame = self.queue.popleft()
        self.bytes -= len(frame.data)
        return frame

    def take(self) -> list[Frame]:
        """Everything that waits, in order."""
        frames = list(self.queue)
        self.queue.clear()
        self.bytes = 0
        return frames
