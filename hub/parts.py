"""The parts that many waiting tasks have in common, kept once: whose they are, which model, which video.

Owns the memory of equal values. Never changes what a task says.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from msgspec.structs import force_setattr

from .media import Facts
from .task import Source, Task

KEPT = 4096  # values of a kind that are remembered; then it begins anew, and what is shared by then stays shared

T = TypeVar("T", bound=Hashable)
NO_OPTIONS: dict[str, Any] = {}


class Pool(Generic[T]):
    """Values of one kind."""

    def __init__(self) -> None:
        self.known: dict[Hashable, T] = {}

    def same(self, value: T, key: Hashable = None) -> T:
        """The first value seen that equals this one; a `key` that is the same for equal ones finds it faster."""
        if len(self.known) >= KEPT:
            self.known.clear()
        known = self.known.setdefault(value if key is None else key, value)
        return known if key is None or known == value else value


class Parts:
    """What tasks are made of."""

    def __init__(self) -> None:
        self.texts: Pool[str] = Pool()
        self.numbers: Pool[int] = Pool()
        self.facts: Pool[Facts] = Pool()
        self.sources: Pool[Source] = Pool()

    def share(self, task: Task) -> None:
        """Let a task hold what earlier ones hold, wherever that is equal."""
        put = force_setattr  # the task is frozen, and says the same after this as before
        put(task, "owner", self.texts.same(task.owner))
        put(task, "model", self.texts.same(task.model))
        put(task, "options", task.options or NO_OPTIONS)
        put(task, "video", self.source(task.video))
        if task.background is not None:
            put(task, "background", self.source(task.background))
        for name in ("progress", "not_before", "updated_at"):
            put(task, name, getattr(task, name) or 0.0)

    def source(self, source: Source) -> Source:
        """An equal input, shared if one like it was seen."""
        if self.sources.known.get(source.media_id) is source:
            return source
        known = self.sources.same(source, source.media_id)
        if known is source:
            put, text, facts = force_setattr, self.texts.same, self.facts.same(source.facts)
            put(source, "content_type", text(source.content_type))
            put(source, "facts", facts)
            for name in ("fps", "codec", "pixel_format", "container"):
                put(facts, name, text(getattr(facts, name)))
            for name in ("width", "height", "frames"):
                put(facts, name, self.numbers.same(getattr(facts, name)))
            if facts.audio_codec is not None:
                put(facts, "audio_codec", text(facts.audio_codec))
        return known
