"""All uploads under way in this process: begun, found again, deleted, expired, and taken up after a start.

Owns which of them there are. What they may reserve is decided in hub/upload; how one goes on is in reception.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from hub.effects import Delete
from hub.errors import HubError, NotFound
from hub.media import USER_PURPOSES, Media
from hub.upload import State, Upload, Uploads, Usage, check_open, stored

from .reception import Reception

if TYPE_CHECKING:
    from .answers import Rooms

log = structlog.get_logger(__name__)

EXPIRY_S = 60.0  # how often it is looked for uploads that have waited too long


class Receptions:
    """All uploads under way in this process."""

    def __init__(self, rooms: Rooms, book: Uploads) -> None:
        self.rooms = rooms
        self.book = book
        self.open: dict[str, Reception] = {}

    async def start(self) -> None:
        """Take up what was under way before the hub started; what is whole is looked into, leftovers go."""
        rooms = self.rooms
        found = await rooms.runner.read(Upload, state=State.RECEIVING)
        left = await rooms.files.clear_incoming([upload.id for upload in found])
        wall, now = rooms.clock.wall(), rooms.clock.now()
        for upload in found:
            arrived = left.get(upload.id)
            size, at = (arrived.size, arrived.at) if arrived else (0, upload.created_at)
            whole = upload.length is not None and size >= upload.length and not upload.partial
            if (whole or size == 0) and await rooms.store.get(Media, upload.id) is not None:
                await rooms.runner.carry_out([Delete(Upload, upload.id)])
                continue
            reception = self.adopt(upload, size, now - max(0.0, wall - at))
            if whole or upload.parts:
                rooms.runner.own(self.resume(reception))
        await rooms.files.clear_incoming(list(self.open))
        rooms.runner.own(self.expire_forever())

    async def resume(self, reception: Reception) -> None:
        """Go on with what may have all its bytes."""
        await reception.learn()
        if reception.complete or reception.upload.parts and reception.upload.state is State.RECEIVING:
            await reception.check()

    def adopt(self, upload: Upload, size: int, heard_at: float) -> Reception:
        """Take up an upload that was begun in another life or by another hub."""
        reception = Reception(self.rooms, upload)
        reception.known = False
        self.open[upload.id] = reception
        self.book.know(upload, size, heard_at)
        return reception

    async def begin(self, upload: Upload, resumable: bool, instead: tuple[str, ...] = ()) -> Reception:
        """A new upload: reserved, and stored where its client may come back to it.

        `instead` are the uploads that it takes the place of, in what its owner has.

        Raises:
            RateLimited: code too_many_uploads.
            TooLarge: code quota.
            DiskFull: there is no room for all that would have to come.
        """
        others = self.book.claim(upload, self.rooms.clock.now(), instead)
        try:
            used = others
            if upload.by_user:
                used = others + await self.stored(upload.owner)
            upload = self.book.settle(upload, used, *await self.rooms.files.room())
            if resumable:
                upload, effects = stored(upload)
                await self.rooms.runner.carry_out(effects)
        except BaseException:
            self.book.release(upload.id)
            raise
        self.book.underway[upload.id].upload = upload
        reception = self.open[upload.id] = Reception(self.rooms, upload)
        return reception

    async def stored(self, owner: str) -> Usage:
        """What a user has, apart from unfinished uploads."""
        mine = {"owner": owner, "purpose": tuple(USER_PURPOSES)}
        store = self.rooms.store
        return Usage(*await asyncio.gather(store.total(Media, "size", **mine), store.count(Media, **mine)))

    async def find(self, id: str, owner: str, lease: str | None) -> Reception:
        """An upload that this user, or the worker under this lease, has begun.

        Raises:
            NotFound: there is none; code upload_gone where there was one.
            Forbidden: code upload_finished: it has all its bytes.
        """
        reception = self.open.get(id)
        upload = reception.upload if reception else await self.rooms.store.get(Upload, id)
        if upload is None or (upload.owner, upload.lease) != (owner, lease):
            record = await self.rooms.store.get(Media, id)
            if record is not None and record.owner == owner and (record.task_id is None) == (lease is None):
                check_open(Upload(id, owner, record.purpose, 0, 0.0, state=State.READY))
            raise NotFound("there is no such upload")
        check_open(upload)
        if reception is None:
            reception = self.open.get(id) or self.adopt(upload, 0, self.rooms.clock.now())
        if reception.visitor is None and self.book.late(id, self.rooms.clock.now()):
            await self.end(reception)
            check_open(reception.upload)
        return reception

    async def end(self, reception: Reception) -> None:
        """Delete an upload with its bytes; that it is gone stays known for a day."""
        async with reception.turn:
            await reception.send_away()
            check_open(reception.upload)
            reception.upload, effects = self.book.end(reception.upload, self.rooms.clock.wall())
            try:
                await self.rooms.runner.carry_out(effects)
            finally:
                await self.drop(reception.upload.id)

    async def drop(self, id: str) -> None:
        """Remove the bytes of an upload that is gone."""
        reception = self.open.pop(id, None)
        await (reception.incoming if reception else self.rooms.files.receive(id)).discard()

    def forget(self, reception: Reception) -> None:
        """It is over, in one way or another."""
        self.open.pop(reception.upload.id, None)
        self.book.release(reception.upload.id)

    async def expire(self) -> None:
        """Let go of the uploads that have waited too long, and of those whose lease is over."""
        core, now = self.rooms.runner.core, self.rooms.clock.now()
        for id, reception in list(self.open.items()):
            upload = reception.upload
            over = self.book.late(id, now) or upload.lease is not None and upload.lease not in core.leases
            if over and upload.version and upload.state is State.RECEIVING and reception.visitor is None:
                await self.end(reception)

    async def expire_forever(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_S)
            try:
                await self.expire()
            except HubError as error:
                log.info("expiry_waits", reason=error.code)
