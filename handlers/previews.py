"""Previews on their way: in from workers that have no websocket, out to viewers that have none."""

from __future__ import annotations

from typing import Any

from hub.clock import rfc3339
from hub.errors import Invalid, NotFound
from hub.interface import Interface
from hub.messages import PREVIEW, BadMessage, Event
from hub.news import OWN
from hub.previews import LARGEST, Shot
from hub.topics import Topic

from .base import Endpoint, Rooms, check_id

LINK_S = 600


def receive(rooms: Rooms, worker: str, raw: bytes) -> None:
    """A worker's picture; raises BadMessage where it is none."""
    clock = rooms.clock
    rooms.runner.announcer.previews.receive(worker, raw, clock.now(), rfc3339(clock.wall()))


def event(rooms: Rooms, topic: Topic, shot: Shot) -> Event:
    """A picture as an event that carries its address; it has no number of its own and leaves the cursor as it is."""
    header = shot.header
    path = f"/api/tasks/{header.id}/previews/{header.kind}"
    url = rooms.links.sign(path, int(rooms.clock.wall()) + LINK_S)
    data: dict[str, Any] = {
        "id": header.id, "attempt": header.attempt, "kind": header.kind, "frame": header.frame,
        "content_type": header.content_type, "number": shot.number, "url": f"{url}&n={shot.number}",
    }
    return Event(type=PREVIEW, topic=topic.name, epoch=topic.epoch, offset=topic.offset, at=header.at, data=data)


class WorkerPreview(Endpoint):
    """POST /api/workers/previews: one picture of a worker that no websocket reaches."""

    access = "anyone"
    max_body = LARGEST
    interface: Interface

    async def admit(self) -> None:
        self.interface = await self.rooms.identities.interface(self.bearer())
        await super().admit()

    def post(self) -> None:
        try:
            receive(self.rooms, self.interface.id, bytes(self.received))
        except BadMessage as error:
            raise Invalid(str(error)[:300]) from None
        self.set_status(204)


class LastPreview(Endpoint):
    """GET /api/tasks/{id}/previews/{kind}: the last picture, while somebody looks at the task."""

    access = "anyone"

    async def admit(self) -> None:
        if "signature" in self.request.query_arguments:
            expires, signature = self.get_query_argument("expires", ""), self.get_query_argument("signature")
            self.rooms.links.verify(self.request.path, expires, signature, self.rooms.clock.wall())
        else:
            self.user = await self.rooms.identities.user(self.bearer())

    def get(self, id: str, kind: str) -> None:
        topic = self.rooms.runner.topics.known(f"{OWN}{check_id(id)}")
        task = self.rooms.runner.core.tasks.get(id)
        shot: Shot | None = topic.pictures.get(kind) if topic is not None else None
        if shot is None or task is None or hasattr(self, "user") and self.user.id != task.owner:
            raise NotFound("there is no such picture (any more)")
        self.set_header("Content-Type", shot.header.content_type)
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("Cross-Origin-Resource-Policy", "same-site")
        self.write(shot.image)


ROUTES = [(r"/api/workers/previews", WorkerPreview), (r"/api/tasks/([^/]+)/previews/([^/]+)", LastPreview)]
