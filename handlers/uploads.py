"""A file in the body of one request: raw, or in a form. What is not sent to its end leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from hub import views
from hub.errors import HubError, TooLarge, Unsupported
from hub.ids import new_id
from hub.media import Media, Purpose
from hub.upload import Upload

from . import raw_body
from .base import Endpoint, Rooms
from .multipart import FormReader
from .reception import Reception, gone_on

FORM_OVERHEAD = 1024 * 1024  # bytes that a form may have around its file
SILENCE_S = 60.0  # seconds for which a client that sends a file may pause
FAREWELL_S = 1.0  # seconds in which a request that was sent away may read why


class Receiving(Endpoint):
    """An endpoint whose body is a file, or a piece of one."""

    reception: Reception | None = None
    gone = False  # the client hung up
    concluding = False
    heard_at = 0.0
    watch: asyncio.TimerHandle | None = None

    async def prepare(self) -> None:
        await super().prepare()
        if self.refusal is None and self.is_file_itself():
            await raw_body.take_body(self.connection, self.request.headers, self)
        if self.gone:
            await self.give_up()

    def is_file_itself(self) -> bool:
        """Whether the body is the file or a piece of it, with nothing around it."""
        return self.reception is not None

    async def draw(self, source: int, most: int) -> int:
        """What receive() does, with bytes that are still in the socket."""
        assert self.reception is not None
        try:
            self.heard_at = float("inf")
            return await self.reception.draw(source, most, self)
        except HubError as error:
            await self.give_up(error)
            await self.refuse(error)
            return 0
        finally:
            self.heard_at = self.rooms.clock.now()

    async def receive(self, chunk: bytes) -> None:
        try:
            self.heard_at = float("inf")  # it is not the client's fault if the disk is slow
            await self.take(chunk)
            self.heard_at = self.rooms.clock.now()
        except HubError as error:
            await self.give_up(error)
            raise
        if self.gone:
            await self.give_up()

    async def take(self, chunk: bytes) -> None:
        """Give a piece of the body to the reception."""
        assert self.reception is not None
        await self.reception.write(chunk, self)

    async def conclude(self) -> Media:
        """The record of what was received, or nothing at all."""
        assert self.reception is not None
        self.concluding = True
        try:
            return await self.reception.conclude()
        finally:
            await self.reception.abandon()

    async def give_up(self, error: HubError | None = None) -> None:
        """The body did not come to its end, or is not wanted: leave nothing of it behind."""
        if self.reception is not None:
            await self.reception.abandon()

    def sent_away(self) -> None:
        """A newer request goes on with this upload: say so, and hang up."""
        self.rooms.runner.own(self.say_goodbye())
        asyncio.get_running_loop().call_later(FAREWELL_S, self.hang_up)

    async def say_goodbye(self) -> None:
        if not self.concluding:  # else it is just being answered, and learns of it there
            await self.refuse(gone_on())

    def hang_up(self) -> None:
        if not self._finished and not self.concluding:
            self.connection.close()

    def on_connection_close(self) -> None:
        """The client hung up: a file that is whole is kept all the same."""
        super().on_connection_close()
        self.gone = True
        self.on_finish()
        if not self.concluding:
            self.rooms.runner.own(self.give_up())

    def limit_time(self) -> None:
        """A large file may take long, a silent client may not."""
        self.heard_at = self.rooms.clock.now()
        self.hang_up_when_silent()

    def hang_up_when_silent(self) -> None:
        left_s = SILENCE_S - (self.rooms.clock.now() - self.heard_at)
        if left_s > 0:
            self.watch = asyncio.get_running_loop().call_later(min(left_s, SILENCE_S), self.hang_up_when_silent)
        elif not self.concluding:
            self.connection.close()

    def on_finish(self) -> None:
        if self.watch is not None:
            self.watch.cancel()

    def check_length(self, limit: int) -> None:
        """Refuse by the Content-Length.

        Raises:
            TooLarge: it says more than the limit.
        """
        if self.declared_length() > limit:
            raise TooLarge(f"at most {limit} bytes")

    async def begin(self, purpose: Purpose, limit: int, exact: bool, **fields: Any) -> None:
        """Reserve room for a file of at most `limit` bytes; `exact` if the body is the file and nothing else.

        Raises:
            RateLimited, TooLarge, DiskFull: see Receptions.begin.
        """
        length = self.declared_length()
        upload = Upload(
            new_id(), purpose=purpose, ceiling=min(limit, length or limit), created_at=self.rooms.clock.wall(),
            length=length if exact and length else None, **fields,
        )
        self.reception = await self.rooms.receptions.begin(upload, resumable=False)
        self.reception.visitor = self


class UserFiles(Receiving):
    """POST /api/videos and /api/backgrounds: a raw body or a multipart form, the file in one request."""

    purpose: ClassVar[Purpose]
    form_reader: FormReader | None = None

    async def admit(self) -> None:
        if self.request.method != "POST":
            return await super().admit()
        self.user = await self.rooms.identities.user(self.bearer())
        self.rooms.runner.check_ready()
        limit = self.rooms.settings.upload_file_size_limit
        content_type = self.request.headers.get("Content-Type", "")
        multipart = content_type.split(";")[0].strip().lower() == "multipart/form-data"
        if not multipart and not acceptable(content_type, self.purpose):
            raise Unsupported(f"send the {self.purpose} itself with its own content type, or multipart/form-data")
        self.check_length(limit + FORM_OVERHEAD if multipart else limit)
        if multipart:
            self.form_reader = FormReader(content_type, ("file", self.purpose.value))
        await self.begin(
            self.purpose, limit, not multipart, owner=self.user.id, name=self.get_query_argument("name", ""),
            content_type=content_type,
        )

    def is_file_itself(self) -> bool:
        return super().is_file_itself() and self.form_reader is None

    async def take(self, chunk: bytes) -> None:
        await super().take(chunk if self.form_reader is None else self.form_reader.feed(chunk))

    async def post(self) -> None:
        assert self.reception is not None
        if self.form_reader is not None:
            try:
                file = self.form_reader.close()
            except HubError:
                await self.give_up()
                raise
            name = self.form_reader.fields.get("name") or self.reception.upload.name or file.filename
            self.reception.call(name=name, content_type=file.content_type)
        record = await self.conclude()
        self.set_header("Location", f"{self.request.path}/{record.id}")
        self.answer(told(self.rooms, record), 201)


def told(rooms: Rooms, record: Media) -> dict[str, Any]:
    """A file's record, and for a video what each model would make of it."""
    shown = rooms.views.media(record, rooms.clock.wall())
    if record.purpose is not Purpose.VIDEO or record.facts is None:
        return shown
    return {**shown, "models": [views.verdict(each) for each in rooms.runner.core.verdicts(record.facts)]}


def acceptable(content_type: str, purpose: Purpose) -> bool:
    """Whether a raw body of this type can be such a file; the probe has the last word."""
    kind = content_type.split(";")[0].strip().lower()
    return kind == "application/octet-stream" or kind.startswith("video/" if purpose is Purpose.VIDEO else "image/")
