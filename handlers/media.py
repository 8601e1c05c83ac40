"""Users' videos and backgrounds: lists, records, deletion, and whether a file is here already."""

from __future__ import annotations

from typing import ClassVar

from hub import sweeper
from hub.effects import Delete
from hub.errors import Conflict, NotFound
from hub.media import Media, Purpose
from hub.task import State, Task

from .base import Endpoint, Rooms, check_id
from .uploads import UserFiles, told

OPEN = (State.WAITING, State.PROCESSING)


class Collection(UserFiles):
    """GET lists, POST (see uploads) adds."""

    async def get(self) -> None:
        limit, before = self.page_arguments()
        found = await self.rooms.store.page(Media, limit, before, owner=self.user.id, purpose=self.purpose)
        wall = self.rooms.clock.wall()
        views = [self.rooms.views.media(record, wall) for record in found]
        self.answer_list(views, found, limit)


class Item(Endpoint):
    """GET one, DELETE one."""

    purpose: ClassVar[Purpose]
    input_field: ClassVar[str]

    async def owned(self, id: str) -> Media:
        """The user's own record of this purpose.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        record = await self.rooms.store.get(Media, check_id(id))
        if record is None or record.owner != self.user.id or record.purpose is not self.purpose:
            raise NotFound(f"there is no such {self.purpose}")
        return record

    async def get(self, id: str) -> None:
        self.answer(told(self.rooms, await self.owned(id)))

    async def delete(self, id: str) -> None:
        record = await self.owned(id)
        self.rooms.runner.check_ready()
        with self.rooms.inputs.going(id):
            needed = await self.rooms.store.count(Task, state=OPEN, **{f"{self.input_field}__media_id": id})
            if needed:
                raise Conflict(f"{needed} open tasks need this {self.purpose}; cancel them first", code="in_use")
            await self.rooms.runner.carry_out([Delete(Media, id)])
        await remove_bytes(self.rooms, record)
        self.set_status(204)


class Check(Endpoint):
    """GET /api/videos/check/{md5 or sha256}: does this user have the file already?"""

    purpose: ClassVar[Purpose]

    async def get(self, digest: str) -> None:
        name = {32: "md5", 64: "sha256"}.get(len(digest))
        found = None
        if name is not None:
            equal = {"owner": self.user.id, "purpose": self.purpose, name: digest.lower()}
            found = await self.rooms.store.find(Media, **equal)
        view = None if found is None else self.rooms.views.media(found, self.rooms.clock.wall())
        self.answer({"exists": found is not None, self.purpose.value: view})


class Videos(Collection):
    purpose = Purpose.VIDEO


class Video(Item):
    purpose, input_field = Purpose.VIDEO, "video"


class VideoCheck(Check):
    purpose = Purpose.VIDEO


class Backgrounds(Collection):
    purpose = Purpose.BACKGROUND


class Background(Item):
    purpose, input_field = Purpose.BACKGROUND, "background"


class BackgroundCheck(Check):
    purpose = Purpose.BACKGROUND


async def remove_bytes(rooms: Rooms, record: Media) -> None:
    """Remove what a deleted record pointed at: its previews, and the content where no other record has the same."""
    await sweeper.remove_bytes(rooms.store, rooms.files, rooms.contents.of, record)


ROUTES = [
    (r"/api/videos", Videos),
    (r"/api/videos/check/([0-9a-fA-F]+)", VideoCheck),
    (r"/api/videos/([^/]+)", Video),
    (r"/api/backgrounds", Backgrounds),
    (r"/api/backgrounds/check/([0-9a-fA-F]+)", BackgroundCheck),
    (r"/api/backgrounds/([^/]+)", Background),
]
