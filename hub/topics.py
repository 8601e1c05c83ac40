"""Live topics: a bounded history each, an offset and an epoch, and who looks.

Owns what "missed" means: a cursor (epoch:offset) is answered with all that came after it, or declined. An event is
encoded once, when somebody reads it, and what many viewers are given at once is put together once. Never knows a
transport.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from .later import Later
from .messages import Event, encoder
from .rounds import Rounds

if TYPE_CHECKING:
    from .previews import Shot
    from .subscriber import Subscriber

HISTORY = 1000  # events kept a topic
HISTORY_BYTES = 4 * 1024 * 1024  # of one topic's history
ALL_BYTES = 128 * 1024 * 1024  # of all histories together; the longest unused are emptied first
MAX_TOPICS = 20_000  # topics kept; the longest unused without viewers are forgotten first
PIECE = 256 * 1024  # bytes that are put together for viewers at once


class Frame(Struct, gc=False, eq=False):
    """One event, encoded once for everybody; a later event with the same `key` makes this one dispensable.

    `content` is the event until somebody reads it, and its bytes from then on. There are very many frames, so the
    garbage collector looks past them: a frame that is dropped from its topic's history makes no circle any more.
    """

    topic: Topic
    offset: int
    content: Event | bytes
    key: str | None = None

    @property
    def epoch(self) -> str:
        return self.topic.epoch

    @property
    def data(self) -> bytes:
        """The event's JSON."""
        content = self.content
        if isinstance(content, Event):
            before = self.size
            self.content = content = encoded(replace(content, data=content.data.read()))
            self.topic.weigh(self, before)
        return content

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        content = self.content
        return len(content) if isinstance(content, bytes) else content.data.size


buffer = bytearray()  # in which events are encoded, one after the other


def encoded(event: Event) -> bytes:
    """JSON that takes no more memory than its length: it is kept, and an encoder's own result has room to spare."""
    encoder.encode_into(event, buffer)
    return bytes(buffer)


Form = Callable[[Frame], bytes]  # how a transport wraps a frame


class Topic:
    """A stream of events under one epoch, numbered from 1.

    `viewers` are all who look, `followers` those of them who have everything and are told at the next round.
    `pictures` are the last previews by kind.
    """

    __slots__ = (
        "name", "owner", "epoch", "offset", "history", "bytes", "viewers", "followers", "pictures", "home", "piece",
    )

    def __init__(self, name: str, epoch: str, owner: str = "", home: Topics | None = None) -> None:
        self.name = name
        self.owner = owner
        self.epoch = epoch
        self.offset = 0
        self.history: deque[Frame] = deque()
        self.bytes = 0
        self.viewers: set[Subscriber] = set()
        self.followers: set[Subscriber] = set()
        self.pictures: dict[str, Shot] = {}
        self.home = home if home is not None else Topics(epoch)
        self.piece: tuple[int, int, Form, bytes, int] | None = None

    @property
    def cursor(self) -> str:
        return f"{self.epoch}:{self.offset}"

    def publish(self, type: str, data: Any, at: str, key: str | None = None) -> None:
        """Add an event; whoever follows is told at the next round. Data that is `Later` waits until it is read."""
        self.offset += 1
        event = Event(type=type, topic=self.name, epoch=self.epoch, offset=self.offset, at=at, data=data)
        self.keep(event if isinstance(data, Later) else encoded(event), key)
        if self.followers:
            self.home.rounds.announce(self)

    def keep(self, content: Event | bytes, key: str | None = None) -> None:
        """Add the event of the newest offset to the history."""
        frame = Frame(self, self.offset, content, key)
        self.history.append(frame)
        self.grow(frame.size)

    def weigh(self, frame: Frame, before: int) -> None:
        """A frame has been read, and holds other than the bytes of `before`; it may have been dropped meanwhile."""
        if self.offset - frame.offset < len(self.history):
            self.grow(frame.size - before)

    def grow(self, size: int) -> None:
        """The history has grown; what it cannot hold any more is dropped."""
        history = self.history
        while len(history) > HISTORY or self.bytes + size > HISTORY_BYTES and len(history) > 1:
            size -= history.popleft().size
        self.bytes += size
        self.home.grow(size)

    def empty(self) -> None:
        """Forget the history; where the topic stands is still known."""
        self.home.bytes -= self.bytes
        self.bytes = 0
        self.history.clear()

    def since(self, cursor: str) -> list[Frame] | None:
        """All frames after the cursor, or None where that cannot be told whole.

        The cursors of several topics, joined by commas, are a cursor too: an epoch says which topic it is of.
        """
        for one in cursor.split(","):
            epoch, _, text = one.rpartition(":")
            if epoch == self.epoch:
                return self.after(int(text)) if text.isascii() and text.isdigit() and len(text) <= 18 else None
        return None

    def after(self, offset: int) -> list[Frame] | None:
        """All frames after the offset, or None where the history does not reach back so far."""
        missed = self.offset - offset
        if missed < 0 or missed > len(self.history):
            return None
        frames = list(islice(reversed(self.history), missed))
        frames.reverse()
        return frames

    def gathered(self, offset: int, form: Form) -> tuple[bytes, int] | None:
        """What came after the offset in one piece, and up to which offset; None where that is gone.

        Made once for all who stand at the same offset; a long piece ends early.
        """
        made = self.piece
        if made is None or made[0] != offset or made[1] != self.offset or made[2] is not form:
            frames = [self.history[-1]] if offset + 1 == self.offset and self.history else self.after(offset)
            if frames is None:
                return None
            parts, size, upto = [], 0, offset
            for frame in frames:
                parts.append(form(frame))
                size, upto = size + len(parts[-1]), frame.offset
                if size >= PIECE:
                    break
            made = self.piece = (offset, self.offset, form, parts[0] if len(parts) == 1 else b"".join(parts), upto)
        return made[3], made[4]


class Topics:
    """All topics of this hub. A topic that was forgotten comes back under a new epoch, so no cursor ever lies.

    `watched` are the topics that somebody looks at.
    """

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.made = 0
        self.bytes = 0
        self.topics: OrderedDict[tuple[str, str], Topic] = OrderedDict()
        self.watched: dict[Topic, None] = {}
        self.rounds = Rounds()

    def get(self, name: str, owner: str = "") -> Topic:
        """The topic of that name; `owner` keeps apart the topics that each user has of the same name."""
        topic = self.topics.get((name, owner))
        if topic is None:
            self.forget_unused()
            self.made += 1
            topic = self.topics[name, owner] = Topic(name, f"{self.epoch}.{self.made}", owner, self)
        self.topics.move_to_end((name, owner))
        return topic

    def known(self, name: str, owner: str = "") -> Topic | None:
        """The topic of that name, if anybody has asked for it."""
        return self.topics.get((name, owner))

    def restore(self, name: str, owner: str, epoch: str, offset: int, history: list[bytes]) -> None:
        """Take up a topic where it ended in an earlier life of the hub; `history` are its last events."""
        topic = self.topics[name, owner] = Topic(name, epoch, owner, self)
        topic.offset = offset - len(history)
        for data in history:
            topic.offset += 1
            topic.keep(data)

    def forget_unused(self) -> None:
        """Make room for one more topic: the longest unused that nobody watches go."""
        excess = len(self.topics) + 1 - MAX_TOPICS
        if excess > 0:
            unwatched = (key for key, topic in self.topics.items() if not topic.viewers)
            for key in list(islice(unwatched, excess)):
                self.topics.pop(key).empty()

    def grow(self, size: int) -> None:
        """Histories have grown; where they are too large together, the longest unused are emptied."""
        self.bytes += size
        if self.bytes > ALL_BYTES:
            for topic in self.topics.values():
                topic.empty()
                if self.bytes < ALL_BYTES * 3 // 4:
                    return
