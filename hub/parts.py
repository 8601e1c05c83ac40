"""The parts that many waiting tasks have in common, kept once: whose they are, which model, which video.

Owns the memory of equal values. Never changes what a task says.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from .media import Facts
from .task import Source, Task

KEPT = 4096  # values of a kind that are remembered; then it begins anew, and what is shared by then stays shared

T = TypeVar("T", bound=Hashable)
NO_OPTIONS: dict[str, Any] = {}


class Pool(Generic[T]):
    """Values of one kind."""

    def __init__(self) -> None:
        self.known: dict[T, T] = {}

    def same(self, value: T) -> T:
        """The first value seen that equals this one."""
        if len(self.known) >= KEPT:
            self.known.clear()
        return self.known.setdefault(value, value)


class Parts:
    """What tasks are made of."""

    def __init__(self) -> None:
        self.texts: Pool[str] = Pool()
        self.numbers: Pool[int] = Pool()
        self.facts: Pool[Facts] = Pool()
        self.sources: Pool[Source] = Pool()

    def share(self, task: Task) -> Task:
        """An equal task that shares its parts with earlier ones; the task itself where it does so already."""
        video = self.source(task.video)
        background = self.source(task.background) if task.background is not None else None
        owner, model, options = self.texts.same(task.owner), self.texts.same(task.model), task.options or NO_OPTIONS
        if (
            video is task.video and background is task.background and owner is task.owner and model is task.model
            and options is task.options
        ):
            return task
        return replace(task, owner=owner, model=model, video=video, background=background, options=options)

    def source(self, source: Source) -> Source:
        known = self.sources.known.get(source)
        if known is not None:
            return known
        text, facts = self.texts.same, source.facts
        shared = replace(
            facts, width=self.numbers.same(facts.width), height=self.numbers.same(facts.height), fps=text(facts.fps),
            codec=text(facts.codec), pixel_format=text(facts.pixel_format), container=text(facts.container),
            audio_codec=text(facts.audio_codec) if facts.audio_codec is not None else None,
        )
        return self.sources.same(
            replace(source, content_type=text(source.content_type), facts=self.facts.same(shared))
        )
