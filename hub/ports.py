"""What the hub needs from outside, as Protocols: each is a small promise that store/ or __main__ keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .effects import Delete, Outcome, Save
from .media import Facts, Purpose

R = TypeVar("R")


class Clock(Protocol):
    """Time, twice: `now` never jumps (leases live by it), `wall` is what people and tokens go by. Both seconds."""

    def now(self) -> float: ...

    def wall(self) -> float: ...


class Store(Protocol):
    """Remembers records; a record's class is its kind."""

    async def commit(self, changes: Sequence[Save | Delete]) -> list[Outcome]:
        """Make all changes durable and say for each what became of it, in order.

        A change whose guard (the version before) does not match is MISSED, one that breaks a unique rule is TAKEN;
        both change nothing. Safe to call again with the same changes after any failure.

        Raises:
            Unavailable: the database did not answer; nothing is known about the changes.
        """

    async def get(self, kind: type[R], id: str) -> R | None: ...

    async def find(self, kind: type[R], **equal: Any) -> R | None: ...

    async def page(self, kind: type[R], limit: int, before: str | None = None, **equal: Any) -> list[R]:
        """Newest first, ids below `before`, at most `limit`; a tuple as a value means "one of"."""

    async def count(self, kind: type[Any], **equal: Any) -> int: ...

    async def ping(self) -> None:
        """Raises Unavailable where the database does not answer."""


class Probe(Protocol):
    """Looks into a file without trusting it."""

    async def __call__(self, path: Path, purpose: Purpose) -> tuple[Facts, bytes]:
        """The facts and a small JPEG.

        Raises:
            MediaRefused: the file is not what `purpose` asks for, with the reason as its code.
        """
