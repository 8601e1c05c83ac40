"""What the hub needs from outside, as Protocols: each is a small promise that store/ or __main__ keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .account import User
from .effects import Delete, Outcome, Save
from .media import Facts, Media, Previews, Purpose
from .retention import Found

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
            Exception: anything else: one of them can never be stored; nothing is known about the others.
        """

    async def get(self, kind: type[R], id: str) -> R | None: ...

    async def find(self, kind: type[R], **equal: Any) -> R | None: ...

    async def page(self, kind: type[R], limit: int, before: str | None = None, **equal: Any) -> list[R]:
        """Newest first, ids below `before`, at most `limit`; a tuple as a value means "one of"."""

    async def versions(
        self, kind: type[Any], limit: int, before: str | None = None, **equal: Any
    ) -> list[tuple[str, int]]:
        """Ids and versions alone, as `page` has them."""

    async def count(self, kind: type[Any], **equal: Any) -> int: ...

    async def present(self, kind: type[Any], field: str, values: Sequence[Any], **equal: Any) -> set[Any]:
        """Those of `values` that some record has in `field`."""

    async def total(self, kind: type[Any], field: str, **equal: Any) -> int:
        """The sum of a field."""

    async def ping(self) -> None:
        """Raises Unavailable where the database does not answer."""


class Probe(Protocol):
    """Looks into a file without trusting it."""

    async def __call__(self, path: Path, purpose: Purpose) -> tuple[Facts, Previews]:
        """The facts and small pictures.

        Raises:
            MediaRefused: the file is not what `purpose` asks for, with the reason as its code.
        """


class Incoming(Protocol):
    """A file on its way in: hashed while it is written, and gone unless it is sealed.

    Its methods are awaited one after the other; each raises DiskFull where there is no room, and is then back at the
    bytes that are durable.
    """

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int:
        """Bytes that were given to it."""

    @property
    def durable(self) -> int:
        """Bytes that survive a power cut."""

    @property
    def checked(self) -> bool:
        """Whether what comes in now counts as a whole or not at all."""

    async def recover(self) -> int:
        """After a start: ask the disk how many bytes there are."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append."""

    async def append(self, source: Path) -> None:
        """Append all of another file."""

    async def hold(self, algorithm: str | None = None) -> None:
        """A chunk begins that can be dropped; with an `algorithm` also by a crash."""

    async def check(self) -> bytes:
        """The hash of the chunk."""

    async def keep(self) -> None:
        """The chunk counts."""

    async def drop(self) -> None:
        """The chunk is forgotten."""

    async def restart(self) -> None:
        """All bytes are forgotten."""

    async def sync(self) -> int:
        """Make everything durable."""

    async def pause(self) -> int:
        """Make everything durable, and hold nothing open."""

    async def draw(self, source: int, most: int) -> int:
        """Append what the non-blocking socket `source` has, at most `most` bytes; 0 where that is nothing for now.

        Raises:
            EOFError: the other end has hung up.
            DiskFull: there is no room; nothing is left behind then.
        """

    async def finish(self) -> Digest:
        """All bytes are there and durable: their hashes and number."""

    async def seal(self, purpose: Purpose) -> Path:
        """Keep the finished file under its hash, and here until `discard`."""

    async def discard(self) -> None:
        """Forget it here; harmless when called twice."""


class Arrived(Protocol):
    """What an earlier life left of an upload: `size` in bytes, `at` when the last came (seconds since the epoch)."""

    @property
    def size(self) -> int: ...

    @property
    def at(self) -> float: ...


class Digest(Protocol):
    @property
    def sha256(self) -> str: ...

    @property
    def md5(self) -> str | None: ...

    @property
    def size(self) -> int: ...


class Files(Protocol):
    """Keeps bytes: sealed content under its hash, apart from anybody's record of it."""

    def receive(
        self, upload_id: str, offset: int = ..., algorithms: Collection[str] = ..., resumable: bool = ...,
    ) -> Incoming:
        """A place for the bytes of an upload, which are hashed with these `algorithms`."""

    async def clear_incoming(self, keep: Collection[str] = ()) -> Mapping[str, Arrived]:
        """Remove what an earlier life left behind, but for the uploads in `keep`; what there is of those."""

    async def room(self) -> tuple[int, int]:
        """Bytes of the disk under what is coming in: in all, and free."""

    def path(self, purpose: Purpose, sha256: str) -> Path: ...

    async def delete(self, purpose: Purpose, sha256: str) -> None: ...

    async def save_previews(self, media_id: str, previews: Previews) -> None: ...

    def poster_path(self, media_id: str) -> Path: ...

    def strip_path(self, media_id: str) -> Path: ...

    async def delete_previews(self, media_id: str) -> None: ...


class Space(Protocol):
    """Knows what lies in the folders."""

    def batches(self) -> AsyncIterator[list[Found]]:
        """All of the hub's own files, some at a time."""

    async def remove(self, found: Found) -> bool:
        """False where it is gone, or was changed since it was found."""

    async def without_file(self, records: Iterable[Media]) -> list[Media]:
        """Those records whose bytes are not there."""


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
