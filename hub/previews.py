"""Previews: small pictures of a task's current frame, while somebody looks at it.

Owns the binary message (1 byte type, 4 bytes big-endian length of the header, JSON header, JPEG or WebP), how many are
passed on, and the last picture of each kind. Nothing of it is stored, and without a viewer a picture is dropped unread.
"""

from __future__ import annotations

import msgspec

from .core import Core
from .messages import BadMessage, Picture, Preview, encode
from .news import OWN
from .topics import Topic, Topics
from .watching import Watch

TYPE = b"\x01"
LARGEST = 128 * 1024  # bytes of one whole message
HEADER = 2048  # bytes of its header
A_SECOND, AT_ONCE = 2.0, 3  # pictures of one lease: a second, and at once (one of each kind)
LEASES = 10_000  # of which it is remembered when they sent pictures

reader = msgspec.json.Decoder(Preview)


class Shot:
    """One picture as viewers get it; `number` grows by one, `wrapped` is a transport's to keep what it made of it."""

    __slots__ = ("header", "image", "data", "number", "wrapped")

    def __init__(self, header: Picture, image: bytes, number: int) -> None:
        self.header = header
        self.image = image
        self.data = packed(encode(header), image)
        self.number = number
        self.wrapped: bytes | None = None


class Previews:
    """What comes in from workers, and goes on to the viewers of the task's topic."""

    def __init__(self, core: Core, topics: Topics, watch: Watch) -> None:
        self.core = core
        self.topics = topics
        self.watch = watch
        self.number = 0
        self.levels: dict[str, tuple[float, float]] = {}

    def receive(self, worker: str, raw: bytes, now: float, at: str) -> None:
        """Pass a picture on, or drop it where nobody looks, the lease is over, or there were too many.

        Who polls looks between two polls, too.

        Raises:
            BadMessage: it is none.
        """
        preview, image = unpacked(raw)
        task = self.core.work.leased(preview.lease)
        if task is None or task.lease is None or task.lease.worker != worker:
            return
        topic = self.topics.known(f"{OWN}{task.id}")
        looked_at = topic is not None and (topic.viewers or preview.lease in self.watch.told)
        if topic is None or not looked_at or not self.pace(preview.lease, now):
            return
        self.number += 1
        header = Picture(
            topic=topic.name, id=task.id, attempt=task.attempt, kind=preview.kind, frame=preview.frame,
            content_type=content_type(image), number=self.number, at=at,
        )
        self.show(topic, Shot(header, image, self.number))

    def pace(self, lease: str, now: float) -> bool:
        """Whether a lease may send one more."""
        level, before = self.levels.get(lease, (0.0, now))
        level = max(0.0, level - (now - before) * A_SECOND) + 1
        if level > AT_ONCE:
            return False
        self.levels[lease] = level, now
        if len(self.levels) > LEASES:
            del self.levels[next(iter(self.levels))]
        return True

    def show(self, topic: Topic, shot: Shot) -> None:
        topic.pictures[shot.header.kind] = shot
        for viewer in tuple(topic.viewers):
            viewer.show(topic, shot)


def packed(header: bytes, image: bytes) -> bytes:
    """One whole message."""
    return TYPE + len(header).to_bytes(4, "big") + header + image


def unpacked(raw: bytes) -> tuple[Preview, bytes]:
    """The header and the picture of a worker's message.

    Raises:
        BadMessage: it is no preview, too large, or the picture is neither JPEG nor WebP.
    """
    if len(raw) > LARGEST:
        raise BadMessage(f"a preview has at most {LARGEST} bytes")
    size = int.from_bytes(raw[1:5], "big")
    if raw[:1] != TYPE or len(raw) < 5 or size > min(HEADER, len(raw) - 5):
        raise BadMessage("a preview begins with 1, four bytes of length and a JSON header")
    try:
        preview = reader.decode(raw[5:5 + size])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadMessage(str(error)) from None
    image = raw[5 + size:]
    if not content_type(image):
        raise BadMessage("a preview is a JPEG or a WebP")
    return preview, image


def content_type(image: bytes) -> str:
    """What a picture's first bytes say it is; "" for neither."""
    if image[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    return "image/webp" if image[:4] == b"RIFF" and image[8:12] == b"WEBP" else ""
