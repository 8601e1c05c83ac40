"""What the hub needs from outside, as Protocols: each is a small promise that store/ or __main__ keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .account import User
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


class Incoming(Protocol):
    """A file on its way in: hashed while it is written, and gone unless it is sealed."""

    @property
    def path(self) -> Path: ...

    async def write(self, chunk: bytes | memoryview) -> None:
        """Raises DiskFull where there is no room; nothing is left behind then."""

    async def finish(self) -> Digest:
        """All bytes are there and durable: their hashes and number."""

    async def seal(self, purpose: Purpose) -> Path:
        """Keep the finished file under its hash."""

    async def discard(self) -> None:
        """Forget it; harmless after `seal`."""


class Digest(Protocol):
    @property
    def sha256(self) -> str: ...

    @property
    def md5(self) -> str: ...

    @property
    def size(self) -> int: ...


class Files(Protocol):
    """Keeps bytes: sealed content under its hash, apart from anybody's record of it."""

    def receive(self, upload_id: str) -> Incoming: ...

    def path(self, purpose: Purpose, sha256: str) -> Path: ...

    async def delete(self, purpose: Purpose, sha256: str) -> None: ...

    async def save_poster(self, media_id: str, jpeg: bytes) -> None: ...

    def poster_path(self, media_id: str) -> Path: ...

    async def delete_poster(self, media_id: str) -> None: ...


class Claims(Protocol):
    """What a user's token says."""

    @property
    def sub(self) -> str: ...

    @property
    def jti(self) -> str: ...

    @property
    def exp(self) -> int: ...

    @property
    def epoch(self) -> int: ...


class Tokens(Protocol):
    """Issues and reads users' tokens; the wall clock is given."""

    def issue(self, user: User, now_wall: float) -> tuple[str, str, int]: ...

    def read(self, token: str, now_wall: float) -> Claims:
        """Raises Unauthorized for everything that is not a living token of this hub."""


class Passwords(Protocol):
    """Hashes and compares passwords away from the event loop."""

    async def hash(self, password: str) -> str: ...

    async def matches(self, password: str, stored: str | None) -> bool:
        """False for an unknown user too, after the same time."""
