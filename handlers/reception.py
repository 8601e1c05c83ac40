"""A file on its way in: from its first byte to its record, whoever sends it and however.

Owns who may write to an upload at the moment, and the order in which a whole file becomes a record. What may begin, go
on or end is decided in hub/upload; what the bytes are is found out by the probe.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog
from msgspec.structs import replace

from hub import media
from hub.errors import Conflict, DiskFull, HubError, Invalid, Unavailable
from hub.media import USER_PURPOSES, Media, Previews
from hub.upload import State, Upload, check_offset, check_open, check_size, gives_way

if TYPE_CHECKING:
    from .answers import Rooms

log = structlog.get_logger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between two tries to record a file while the database is away


class Visitor(Protocol):
    """A request that sends bytes to an upload."""

    def sent_away(self) -> None:
        """A newer request goes on with the upload; what has arrived is saved."""


class Reception:
    """One upload: its record, its bytes, and the one request that may write at the moment.

    Everything that touches the bytes holds `turn`. A request that was sent away learns of it with its next write.
    """

    def __init__(self, rooms: Rooms, upload: Upload) -> None:
        self.rooms = rooms
        self.upload = upload
        self.incoming = rooms.files.receive(
            upload.id, algorithms=upload.algorithms, resumable=upload.version > 0,
        )
        self.visitor: Visitor | None = None
        self.turn = asyncio.Lock()
        self.known = True  # whether the number of bytes is known; after a start of the hub the disk is asked first
        self.checking: asyncio.Future[None] | None = None

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self.incoming.size

    def belongs_to(self, owner: str, lease: str | None) -> bool:
        """Whether this user, or the worker under this lease, has begun it."""
        return (self.upload.owner, self.upload.lease) == (owner, lease)

    @property
    def complete(self) -> bool:
        """Whether all bytes of a file are here that nobody looks into yet."""
        upload = self.upload
        return upload.state is State.RECEIVING and not upload.partial and upload.whole(self.incoming.durable)

    # --- who writes ---------------------------------------------------------------------------------------------

    async def enter(self, visitor: Visitor, offset: int, coming: int, algorithm: str | None) -> None:
        """Let a request write from `offset` on, `coming` bytes (0: not known); one that is at it may have to go.

        With an `algorithm` (sha1, sha256, md5) the body counts as a whole or not at all.

        Raises:
            Conflict, Forbidden, NotFound, TooLarge: see hub.upload.check_open and check_offset.
        """
        async with self.turn:
            await self.recover()
            if gives_way(self.size, offset) and await self.send_away():
                self.check_complete()
            check_open(self.upload)
            check_offset(self.upload, self.size, offset, coming)
            await self.incoming.hold(algorithm)
            self.visitor = visitor

    async def interrupt(self) -> int:
        """Whoever writes saves what there is and goes; the bytes that are durable then."""
        async with self.turn:
            await self.recover()
            await self.send_away()
            self.check_complete()
            return self.incoming.durable

    async def send_away(self) -> bool:
        """Whether anybody was there; what has come is saved."""
        visitor, self.visitor = self.visitor, None
        if visitor is not None:
            try:
                await self.save()
            finally:
                visitor.sent_away()
        return visitor is not None

    async def learn(self) -> None:
        """Know how much there is."""
        async with self.turn:
            await self.recover()

    async def recover(self) -> None:
        """Ask the disk how much there is, once after a start."""
        if not self.known:
            await self.incoming.recover()
            self.known = True

    async def write(self, chunk: bytes, visitor: Visitor | None = None) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: more than was declared, or than is allowed.
            Conflict: code upload_resumed: a newer request goes on with this upload.
            DiskFull, Unavailable: back at the durable bytes.
        """
        async with self.turn:
            self.check_visitor(visitor)
            check_size(self.upload, self.size + len(chunk))
            await self.incoming.write(chunk)
            self.heard(self.size)

    async def draw(self, source: int, most: int, visitor: Visitor) -> int:
        """Take up to `most` of the next bytes out of the socket `source`; 0 where it has none for now.

        Raises:
            EOFError: see store.incoming.Incoming.draw.
            TooLarge, Conflict, DiskFull, Unavailable: as for write().
        """
        async with self.turn:
            self.check_visitor(visitor)
            check_size(self.upload, self.size + most)
            count = await self.incoming.draw(source, most)
            self.heard(self.size)
            return count

    def call(self, **fields: str) -> None:
        """Say what the file is (`name`, `content_type`, `purpose`), where that was not known in the beginning."""
        self.upload = replace(self.upload, **fields)

    async def say_length(self, length: int) -> None:
        """The length that was left open is said.

        Raises:
            Invalid, TooLarge: see hub.upload.Uploads.say_length.
        """
        async with self.turn:
            await self.recover()
            self.upload, effects = self.rooms.receptions.book.say_length(self.upload, length, self.size)
            await self.rooms.runner.carry_out(effects)

    def heard(self, size: int) -> None:
        self.rooms.receptions.book.arrived(self.upload.id, size, self.rooms.clock.now())

    def check_visitor(self, visitor: Visitor | None) -> None:
        """Raises Conflict where somebody else goes on with this upload."""
        if self.visitor is not visitor:
            raise gone_on()

    async def end_chunk(self, visitor: Visitor, checksum: bytes | None) -> None:
        """The body is over: make it durable, and forget it where its hash is not `checksum`.

        Raises:
            Invalid: code checksum_mismatch.
        """
        async with self.turn:
            self.check_visitor(visitor)
            self.visitor = None
            await self.incoming.sync()
            if checksum is not None and await self.incoming.check() != checksum:
                await self.drop()
                raise Invalid("the bytes arrived damaged: their checksum is another one", code="checksum_mismatch")
            await self.incoming.keep()
            self.heard(await self.incoming.pause())

    async def leave(self, visitor: Visitor) -> None:
        """The request ends before its body: what has come is saved, unless it counts only as a whole."""
        async with self.turn:
            if self.visitor is visitor:
                self.visitor = None
                await self.save()
                self.check_complete()

    async def drop_chunk(self, visitor: Visitor) -> None:
        """The body was not what it should be: nothing of it stays."""
        async with self.turn:
            if self.visitor is visitor:
                self.visitor = None
                await self.drop()

    async def save(self) -> None:
        if self.incoming.checked:
            await self.drop()
        else:
            await self.incoming.pause()

    async def drop(self) -> None:
        await self.incoming.drop()
        self.heard(self.size)

    async def abandon(self) -> None:
        """Leave nothing behind; harmless when called twice and after a record was made."""
        self.visitor = None
        self.rooms.receptions.forget(self)
        await self.incoming.discard()

    # --- a whole file -------------------------------------------------------------------------------------------

    async def conclude(self) -> Media:
        """All bytes are here: hash, look inside (for users' files), keep and record.

        Raises:
            MediaRefused, Invalid: it is not what it should be.
        """
        upload = self.upload
        assert upload.purpose is not None
        digest = await self.incoming.finish()
        if digest.size == 0:
            raise Invalid("the file is empty", code="empty_file")
        facts = previews = None
        if upload.purpose in USER_PURPOSES:
            facts, previews = await self.rooms.probe(self.incoming.path, upload.purpose)
        record = Media(
            upload.id, upload.owner, upload.purpose, media.clean_name(upload.name, upload.purpose),
            upload.content_type[:100], digest.size, digest.sha256, digest.md5, facts, self.rooms.clock.wall(),
            upload.task_id,
        )
        async with self.rooms.contents.of(digest.sha256):
            await self.keep(record, previews)
        return record

    async def keep(self, record: Media, previews: Previews | None) -> None:
        """Previews, content, record, in this order: what a record points at is there.

        Raises:
            Unavailable: the database does not answer; where that is known before, nothing is left behind.
        """
        self.rooms.runner.check_ready()
        try:
            if previews is not None:
                await self.rooms.files.save_previews(record.id, previews)
            await self.incoming.seal(record.purpose)
        except HubError:
            await self.rooms.files.delete_previews(record.id)
            raise
        effects = self.rooms.receptions.book.accept(self.upload, record, self.rooms.clock.wall())
        await self.rooms.runner.carry_out(effects)

    def check_complete(self) -> None:
        """Look into the file, if a request that went before its end has brought the last byte."""
        if self.complete:
            self.check()

    def check(self) -> asyncio.Future[None]:
        """All bytes of an upload that is known by its id are here; done when it is a record or rejected."""
        if self.checking is None:
            self.upload = self.rooms.receptions.book.complete(self.upload)
            self.checking = asyncio.ensure_future(self.look())
            self.rooms.runner.own(self.checking)
        return self.checking

    async def look(self) -> None:
        """Look into the file, however often it takes, until there is a record or a refusal."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self.assemble()
                await self.conclude()
                break
            except (DiskFull, Unavailable) as error:
                log.info("upload_waits", upload=self.upload.id, reason=error.code)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_S, pause * 2)
            except Conflict:
                break  # an earlier try has made the record
            except HubError as refusal:
                book, wall = self.rooms.receptions.book, self.rooms.clock.wall()
                self.upload, effects = book.reject(self.upload, refusal, wall)
                await self.rooms.runner.decide(effects)
                break
        for part in self.upload.parts:
            await self.rooms.receptions.drop(part)
        await self.abandon()

    async def assemble(self) -> None:
        """Put the parts together, from the beginning where an earlier try has not come to its end."""
        if not self.upload.parts or self.upload.whole(self.incoming.durable):
            return
        async with self.turn:
            await self.incoming.restart()
            for part in self.upload.parts:
                await self.incoming.append(self.rooms.files.receive(part).path)
            await self.incoming.pause()


def gone_on() -> Conflict:
    """What a request hears whose upload a newer one goes on with."""
    return Conflict("another request goes on with this upload", code="upload_resumed")
