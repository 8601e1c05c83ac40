"""Tasks that are ordered one after the other over one kept connection."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from hub.errors import HubError

from . import kept_line
from .answers import Answering
from .creation import Created, create
from .kept_line import KEY, KeptLine, Said

log = structlog.get_logger(__name__)

START = b"POST /api/tasks"


class TaskLine:
    """One connection; whether its token still stands is asked for each order."""

    __slots__ = ("rooms", "token", "content_type", "line", "work")

    def __init__(self, handler: Answering, token: str) -> None:
        self.rooms = handler.rooms
        self.token = token
        self.content_type = handler.request.headers.get("Content-Type", "")
        self.line = KeptLine(handler, *kept_line.take(handler), START, self)
        self.work: asyncio.Task[None] | None = None
        self.rooms.kept.add(self)

    def ask(self, query: str, said: Said, body: bytes) -> None:
        """One order."""
        self.work = self.line.loop.create_task(self.answer(body, said.get(KEY)))

    async def answer(self, body: bytes, key: str | None) -> None:
        try:
            user = await self.rooms.identities.user(self.token)
            self.tell(await create(self.rooms, user, self.content_type, body, key))
        except HubError as error:
            self.line.refuse(error)
        except Exception:
            log.exception("request_failed", path=self.line.access.path)
            self.line.refuse(HubError())

    def tell(self, made: Created) -> None:
        """Answer with the task."""
        more = "".join(f"{name}: {value}\r\n" for name, value in made.headers.items())
        self.line.write(201, msgspec.json.encode(made.view), more)

    def end(self) -> None:
        """The hub stops: let the connection end, after the answer that is due."""
        self.line.end()

    def gone(self) -> None:
        """The connection is over, or Tornado's again."""
        self.rooms.kept.discard(self)
