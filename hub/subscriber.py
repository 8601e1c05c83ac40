"""A viewer's place in its topics: what it has, what it is given next, and when it is hopeless.

A viewer that falls behind costs nothing: it has no queue, only a place in each topic's history. What it takes later is
merged: of a task's progress only the latest counts, and a marker stands for what was left out, so that its numbers
have no gap. Never knows a transport.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from .messages import MERGED, Event, Merged, encode
from .previews import Shot
from .topics import Form, Frame, Topic


class Subscriber:
    """A viewer that is woken when there is something, and takes it when it can.

    `lagged` is set, and `wake` called a last time, when what it has missed is more than one may have waiting; and when
    it has left.
    """

    MAX_FRAMES = 256
    MAX_BYTES = 1024 * 1024

    __slots__ = ("wake", "topics", "places", "pictures", "behind", "lagged")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.topics: dict[str, Topic] = {}
        self.places: dict[Topic, int] = {}
        self.pictures: dict[tuple[Topic, str], Shot] | None = None
        self.behind = False
        self.lagged = False

    # --- coming and going ---------------------------------------------------------------------------------------

    def subscribe(self, topic: Topic) -> None:
        """Join, as one who has all that is there: the answer to the subscription says where the topic stands.

        Whoever has left meanwhile, or was cut off, joins nothing.
        """
        if self.lagged:
            return
        self.topics[topic.name] = topic
        self.places[topic] = topic.offset
        topic.viewers.add(self)
        topic.home.watched[topic] = None
        if not self.behind:
            topic.followers.add(self)

    def unsubscribe(self, name: str) -> bool:
        topic = self.topics.pop(name, None)
        if topic is None:
            return False
        del self.places[topic]
        topic.viewers.discard(self)
        topic.followers.discard(self)
        if not topic.viewers:
            topic.home.watched.pop(topic, None)
        return True

    def close(self) -> None:
        """Leave every topic, for good."""
        self.lagged = True
        for name in list(self.topics):
            self.unsubscribe(name)

    # --- being told ---------------------------------------------------------------------------------------------

    def news(self) -> None:
        """There is something new: say so once, until it is taken."""
        if not self.behind and any(place != topic.offset for topic, place in self.places.items()):
            self.rest()
            self.wake()

    def show(self, topic: Topic, shot: Shot) -> None:
        """There is another picture: of each kind the last one waits."""
        if self.pictures is None:
            self.pictures = {}
        self.pictures[topic, shot.header.kind] = shot
        self.wake()

    def take_pictures(self) -> list[tuple[Topic, Shot]]:
        """The pictures that wait."""
        waiting, self.pictures = self.pictures, None
        return [(topic, shot) for (topic, _), shot in waiting.items()] if waiting else []

    def rest(self) -> None:
        """Be left alone until everything is taken."""
        self.behind = True
        for topic in self.topics.values():
            topic.followers.discard(self)

    def take(self) -> list[Frame]:
        """Everything that is new, topic by topic in order, with old progress merged; nothing for one who lagged."""
        frames: list[Frame] = []
        for topic, place in self.places.items():
            if place != topic.offset:
                missed = topic.after(place)
                if missed is None:
                    self.give_up()
                    return []
                frames += merged(topic, place, missed)
                self.places[topic] = topic.offset
        if len(frames) > self.MAX_FRAMES or sum(len(frame.data) for frame in frames) > self.MAX_BYTES:
            self.give_up()
            return []
        self.follow()
        return frames

    def follow(self) -> None:
        """Everything is taken: be told of the next news."""
        self.behind = False
        for topic in self.topics.values():
            topic.followers.add(self)

    @property
    def hopeless(self) -> bool:
        """Whether something it has missed is gone."""
        return any(topic.offset - place > len(topic.history) for topic, place in self.places.items())

    def give_up(self) -> None:
        """It was too slow: it has to come back."""
        self.close()
        self.wake()


class Direct(Subscriber):
    """A viewer whose connection takes bytes at once, in its `form`.

    `send` says whether it would take more; if not, `drained` is to be called when it does again.
    """

    __slots__ = ("send", "form", "frame_picture")

    def __init__(
        self, wake: Callable[[], None], send: Callable[[bytes], bool], form: Form,
        frame_picture: Callable[[Shot], bytes],
    ) -> None:
        super().__init__(wake)
        self.send = send
        self.form = form
        self.frame_picture = frame_picture

    def news(self) -> None:
        """Send all that is new, with what others are sent too."""
        more = not self.behind
        while more:
            parts, more = [], False
            for topic, place in self.places.items():
                if place != topic.offset:
                    piece = topic.gathered(place, self.form)
                    if piece is None:
                        return self.give_up()
                    parts.append(piece[0])
                    self.places[topic] = piece[1]
                    more = more or piece[1] != topic.offset
            if parts and not self.send(parts[0] if len(parts) == 1 else b"".join(parts)):
                return self.rest()

    def show(self, topic: Topic, shot: Shot) -> None:
        """Send a picture, unless there is anything more important to send."""
        if not self.behind and not self.send(self.frame_picture(shot)):
            self.rest()

    def drained(self) -> None:
        """The connection takes bytes again: what has come meanwhile is sent merged."""
        frames = self.take()
        if frames and not self.send(b"".join(map(self.form, frames))):
            self.rest()


def merged(topic: Topic, place: int, frames: list[Frame]) -> list[Frame]:
    """Frames after `place` without the progress that later progress of the same task replaces; markers say so."""
    seen: set[str] = set()
    kept: list[Frame] = []
    for frame in reversed(frames):
        if frame.key is None or frame.key not in seen:
            kept.append(frame)
            if frame.key is not None:
                seen.add(frame.key)
    return list(marked(topic, place, reversed(kept))) if len(kept) < len(frames) else frames


def marked(topic: Topic, place: int, frames: Iterable[Frame]) -> Iterable[Frame]:
    """The frames, with a marker in each gap."""
    for frame in frames:
        if frame.offset != place + 1:
            at = msgspec.json.decode(frame.data, type=Event).at
            marker = Event(
                type=MERGED, topic=topic.name, epoch=topic.epoch, offset=frame.offset - 1, at=at,
                data=Merged(first=place + 1),
            )
            yield Frame(topic, marker.offset, encode(marker))
        yield frame
        place = frame.offset
