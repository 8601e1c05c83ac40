"""A user's own files as the inputs of tasks.

Keeps what it has read for a few seconds, so that whoever orders many tasks for one video asks the database once. A
file that is removed here is forgotten at once, one that another hub removes within seconds. Keeps apart those who make
tasks of a file and those who delete it: from the first look at the file to the moment in which the task is stored,
nobody else can know of the task.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from hub.errors import Conflict, FieldError, NotFound
from hub.media import Media, Purpose
from hub.ports import Clock, Store
from hub.task import Source

from .base import OBJECT_ID

KEPT_S, KEPT = 3.0, 10_000


class Inputs:
    """Finds inputs, and says who may have them now."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.known: OrderedDict[str, tuple[float, Media]] = OrderedDict()
        self.in_use: Counter[str] = Counter()
        self.leaving: set[str] = set()

    async def source(self, owner: str, media_id: str, purpose: Purpose, pointer: str) -> Source:
        """One of the owner's files as an input; `pointer` is the field that names it.

        Raises:
            NotFound: there is none with this id and purpose.
        """
        record = await self.record(media_id) if OBJECT_ID.fullmatch(media_id) else None
        if record is None or record.owner != owner or record.purpose is not purpose or record.facts is None:
            field = FieldError(pointer, "not_found", f"you have no such {purpose}")
            raise NotFound(f"you have no such {purpose}", fields=(field,))
        return Source(record.id, record.name, record.size, record.sha256, record.content_type, record.facts)

    async def record(self, media_id: str) -> Media | None:
        """A file's record as it is, or was a moment ago."""
        kept, now = self.known.get(media_id), self.clock.now()
        if kept is not None and kept[0] > now:
            return kept[1]
        record = await self.store.get(Media, media_id)
        if record is not None and record.facts is not None:
            self.known[media_id] = now + KEPT_S, record
            if len(self.known) > KEPT:
                self.known.popitem(last=False)
        return record

    @contextmanager
    def used(self, ids: Collection[str]) -> Iterator[None]:
        """A task is made of these files.

        Raises:
            NotFound: one of them is being deleted.
        """
        if self.leaving.intersection(ids):
            raise NotFound("this file is being deleted")
        self.in_use.update(ids)
        try:
            yield
        finally:
            self.in_use.subtract(ids)
            self.in_use = +self.in_use

    @contextmanager
    def going(self, id: str) -> Iterator[None]:
        """A file is being deleted.

        Raises:
            Conflict: code in_use: a task is just being made of it.
            NotFound: it is being deleted already.
        """
        if self.in_use[id]:
            raise Conflict("a task is just being made of this", code="in_use")
        if id in self.leaving:
            raise NotFound("this file is being deleted")
        self.leaving.add(id)
        try:
            yield
        finally:
            self.leaving.discard(id)
            self.known.pop(id, None)
