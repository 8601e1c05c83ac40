"""An upload on its way in: what may begin, at which offset it goes on, who lets go, and how it ends.

Owns the record of an upload and what the unfinished ones have reserved. Plain decisions: time and what is stored are
given, changes come back as effects. How many bytes there are is never in the record: the file itself says so.

    receiving ──last byte──▶ checking ──accepted──▶ (ready: a media record under the same id)
        │                       └──────refused────▶ rejected
        └─deleted, expired──▶ gone
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from .effects import Delete, Effect, Save
from .errors import Conflict, DiskFull, Forbidden, HubError, Invalid, NotFound, RateLimited, TooLarge
from .media import USER_PURPOSES, Media, Purpose
from .task import Problem

REMEMBERED_S = 24 * 3600.0  # how long it is known that an upload was rejected or is gone
SPARE = 0.02  # the part of a disk that uploads leave free, for everything else that writes there


class State(StrEnum):
    """Where an upload is.

    `checking` is never stored, since the bytes show it; nor is `ready`: a media record stands for the upload then.
    """

    RECEIVING = "receiving"
    CHECKING = "checking"
    READY = "ready"
    REJECTED = "rejected"
    GONE = "gone"


class Upload(Struct, frozen=True):
    """One upload; its id will be the media's.

    `length` is bytes, None while it is not said; `ceiling` is how many bytes may come at most. `purpose` is None for a
    part, whose bytes end up in another upload; `parts` are the ids of those that this one is put together of. `lease`
    and `task_id` are set for what a worker sends. `metadata` is what its client said. `purge_at` is when the record
    may be forgotten. Times are seconds since the epoch. `version` is 0 as long as it is not stored.
    """

    id: str
    owner: str
    purpose: Purpose | None
    ceiling: int
    created_at: float
    name: str = ""
    content_type: str = ""
    metadata: str = ""
    length: int | None = None
    partial: bool = False
    parts: tuple[str, ...] = ()
    lease: str | None = None
    task_id: str | None = None
    state: State = State.RECEIVING
    problem: Problem | None = None
    purge_at: float | None = None
    version: int = 0

    @property
    def by_user(self) -> bool:
        """Whether it counts as its owner's own: what workers send does not."""
        return self.task_id is None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What its bytes are hashed with: those of a part with nothing, since the whole is.

        MD5 is for users' own files alone, which can be asked for by it; it takes longer than everything else.
        """
        if self.purpose is None:
            return ()
        return ("sha256", "md5") if self.purpose in USER_PURPOSES else ("sha256",)

    @property
    def reserved(self) -> int:
        """Bytes that are kept free for it in its owner's quota."""
        return self.ceiling if self.length is None else self.length

    def whole(self, size: int) -> bool:
        """Whether `size` bytes are all of it."""
        return size == self.length


class Usage(Struct, frozen=True):
    """What a user has: bytes, files."""

    size: int = 0
    files: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.size + other.size, self.files + other.files)


class Limits(Struct, frozen=True):
    """Bytes a user may have, files, uploads at once, and the seconds after which an upload without news is gone."""

    size: int
    files: int
    uploads: int
    life_s: float


class Underway(Struct):
    """An unfinished upload: `size` bytes have come, the last at `heard_at` by the clock that never jumps."""

    upload: Upload
    size: int
    heard_at: float


class Uploads:
    """The unfinished uploads, and what is reserved for them.

    A new one is claimed at once, so that others see it, then settled when it is known what its owner and the disk have.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.underway: dict[str, Underway] = {}

    # --- beginning ----------------------------------------------------------------------------------------------

    def claim(self, upload: Upload, now: float, instead: tuple[str, ...] = ()) -> Usage:
        """A new upload begins; what its owner's others have reserved, those `instead` of which it comes left out.

        Raises:
            RateLimited: code too_many_uploads.
        """
        others = self.reserved(upload.owner, instead)
        if upload.by_user and others.files >= self.limits.uploads:
            detail = f"{others.files} of your uploads are not finished; finish or delete some first"
            raise RateLimited(detail, code="too_many_uploads")
        self.underway[upload.id] = Underway(upload, 0, now)
        return others

    def reserved(self, owner: str, but: tuple[str, ...] = ()) -> Usage:
        """What the unfinished uploads of a user have reserved."""
        mine = [each.upload for each in self.underway.values() if each.upload.owner == owner]
        mine = [upload for upload in mine if upload.by_user and upload.id not in but]
        return Usage(sum(upload.reserved for upload in mine), len(mine))

    def settle(self, upload: Upload, used: Usage, total: int, free: int) -> Upload:
        """Let it begin, or not; `used` is what its owner has, stored and reserved, without it.

        `total` and `free` are bytes of the disk. Where no length was said, the ceiling may come back lower.

        Raises:
            TooLarge: code quota.
            DiskFull: the disk has no room for all that was promised to come.
        """
        if upload.by_user:
            left = self.limits.size - used.size
            if used.files >= self.limits.files:
                raise TooLarge(f"you have {used.files} files, which is as many as you may have", code="quota")
            if (upload.length or 1) > left:
                raise TooLarge(f"there is room for {max(0, left)} of the {self.limits.size} bytes you may have",
                               code="quota")
            upload = replace(upload, ceiling=min(upload.ceiling, left))
        awaited = sum(
            max(0, each.upload.length - each.size) for each in self.underway.values() if each.upload.length is not None
        )
        if awaited > free - SPARE * total:
            raise DiskFull("there is no room for so much now")
        self.underway[upload.id].upload = upload
        return upload

    def know(self, upload: Upload, size: int, now: float) -> None:
        """Take up an upload that was begun before the hub started, or by another hub."""
        self.underway[upload.id] = Underway(upload, size, now)

    # --- going on -----------------------------------------------------------------------------------------------

    def arrived(self, id: str, size: int, now: float) -> None:
        """So many bytes are here now."""
        each = self.underway.get(id)
        if each is not None:
            each.size, each.heard_at = size, now

    def say_length(self, upload: Upload, length: int, size: int) -> tuple[Upload, list[Effect]]:
        """The length that was left open is said, once.

        Raises:
            Invalid: code bad_length: it was said before, or more is here already.
            TooLarge: it is over the ceiling.
        """
        if upload.length is not None and upload.length != length:
            raise Invalid(f"the length was said before: {upload.length} bytes", code="bad_length")
        if length < size:
            raise Invalid(f"{size} bytes are here already", code="bad_length")
        if length > upload.ceiling:
            raise TooLarge(f"at most {upload.ceiling} bytes")
        if upload.length == length:
            return upload, []
        return self.changed(upload, length=length)

    def expires_in(self, id: str, now: float) -> float:
        """Seconds until an unfinished upload is gone, if nothing comes until then."""
        each = self.underway.get(id)
        return 0.0 if each is None else max(0.0, each.heard_at + self.limits.life_s - now)

    def late(self, id: str, now: float) -> bool:
        """Whether an upload has waited too long for its next byte, or to be part of another."""
        each = self.underway.get(id)
        receiving = each is not None and each.upload.state is State.RECEIVING
        return receiving and self.expires_in(id, now) == 0

    # --- ending -------------------------------------------------------------------------------------------------

    def complete(self, upload: Upload) -> Upload:
        """All bytes are here, and are looked into."""
        after = self.underway[upload.id].upload = replace(upload, state=State.CHECKING)
        return after

    def accept(self, upload: Upload, media: Media, now: float) -> list[Effect]:
        """It is what it should be: from now on the media record stands for it, and for its parts."""
        effects: list[Effect] = [Save(media, 0)]
        effects += [Delete(Upload, upload.id)] if upload.version else []
        for part in upload.parts:
            if part in self.underway:
                effects += self.end(self.underway[part].upload, now)[1]
        return effects

    def reject(self, upload: Upload, error: HubError, now: float) -> tuple[Upload, list[Effect]]:
        """It is not what it should be."""
        problem = Problem(error.code, error.detail)
        return self.changed(upload, state=State.REJECTED, problem=problem, purge_at=now + REMEMBERED_S)

    def end(self, upload: Upload, now: float) -> tuple[Upload, list[Effect]]:
        """It is deleted, expired or used up: its bytes go."""
        after, effects = self.changed(upload, state=State.GONE, purge_at=now + REMEMBERED_S)
        self.release(upload.id)
        return after, effects

    def release(self, id: str) -> None:
        """Nothing is reserved for it any more."""
        self.underway.pop(id, None)

    def changed(self, upload: Upload, **fields: object) -> tuple[Upload, list[Effect]]:
        """The next version of an upload; one that was never stored stays so."""
        stored = upload.version > 0
        after: Upload = replace(upload, version=upload.version + stored, **fields)
        if upload.id in self.underway:
            self.underway[upload.id].upload = after
        return after, [Save(after, upload.version)] if stored else []


def stored(upload: Upload) -> tuple[Upload, list[Effect]]:
    """The first version of an upload that can be resumed."""
    after = replace(upload, version=1)
    return after, [Save(after, 0)]


def check_open(upload: Upload) -> None:
    """Let pass what still takes bytes.

    Raises:
        NotFound: code upload_gone.
        Forbidden: code upload_finished.
    """
    if upload.state is State.GONE:
        raise NotFound("this upload was deleted or has expired; begin a new one", code="upload_gone")
    if upload.state is not State.RECEIVING or upload.parts:
        raise Forbidden("all bytes of this upload are here", code="upload_finished")


def check_offset(upload: Upload, size: int, offset: int, coming: int) -> None:
    """Let bytes pass that go on where the last ones ended; `coming` is how many, 0 where that is not known.

    Raises:
        Forbidden: code upload_finished.
        Conflict: code offset_mismatch.
        TooLarge: there would be more than were declared.
    """
    if upload.whole(size) and (coming or offset != size):  # its length may just have been said
        raise Forbidden("all bytes of this upload are here", code="upload_finished")
    if offset != size:
        raise Conflict(f"the upload is at {size}, not at {offset}; ask with HEAD", code="offset_mismatch")
    check_size(upload, offset + coming)


def check_size(upload: Upload, size: int) -> None:
    """Raises TooLarge where `size` bytes are more than an upload may have."""
    most = upload.reserved
    if size > most:
        raise TooLarge(f"this upload has at most {most} bytes")


def gives_way(size: int, offset: int | None) -> bool:
    """Whether a request that still sends lets go for a newer one.

    One that asks (`offset` None) always wins: its client has lost the older connection. One that sends wins if it goes
    on exactly where the older one is (`size`); any other offset would be refused, so the older one goes on.
    """
    return offset is None or offset == size


def put_together(upload: Upload, parts: list[Upload], sizes: list[int]) -> Upload:
    """An upload out of finished parts.

    Raises:
        Conflict: code parts_unfinished.
        Invalid: code bad_metadata: one of them is no part.
        TooLarge: they are too much together.
    """
    for part, size in zip(parts, sizes, strict=True):
        if not part.partial:
            raise Invalid(f"{part.id} was not created as a part", code="bad_metadata")
        if not part.whole(size):
            raise Conflict(f"the part {part.id} is not finished", code="parts_unfinished")
    length = sum(sizes)
    if length > upload.ceiling:
        raise TooLarge(f"at most {upload.ceiling} bytes")
    return replace(upload, length=length, parts=tuple(part.id for part in parts))
