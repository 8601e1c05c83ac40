"""Files coming in: one request each, streamed to disk, looked into, recorded.

Three ways in (raw body, multipart form, tus creation-with-upload) feed one `Reception`. Users send videos and
backgrounds; workers send results, under the token of a lease that is current.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any, ClassVar

from hub import media
from hub.effects import Save
from hub.errors import HubError, Invalid, NotFound, TooLarge, Unsupported
from hub.ids import new_id
from hub.media import USER_PURPOSES, WORKER_PURPOSES, Media, Purpose

from .base import Endpoint, Rooms, check_id
from .multipart import FormReader

TUS = "1.0.0"
TUS_BODY = "application/offset+octet-stream"
FORM_OVERHEAD = 1024 * 1024  # bytes that a form may have around its file
SILENCE_S = 60.0  # seconds for which a client that sends a file may pause


class Reception:
    """One file from its first byte to its record; `limit` is bytes, `task_id` is set for what a worker sends."""

    def __init__(self, rooms: Rooms, owner: str, purpose: Purpose, limit: int, task_id: str | None = None) -> None:
        self.rooms = rooms
        self.owner = owner
        self.purpose = purpose
        self.limit = limit
        self.task_id = task_id
        self.id = new_id()
        self.name = ""
        self.content_type = ""
        self.size = 0
        self.incoming = rooms.files.receive(self.id)

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            TooLarge: more than the limit.
        """
        self.size += len(chunk)
        if self.size > self.limit:
            raise TooLarge(f"a {self.purpose} has at most {self.limit} bytes")
        await self.incoming.write(chunk)

    async def conclude(self) -> Media:
        """All bytes are here: hash, look inside (for users' files), keep and record.

        Raises:
            MediaRefused: it is not what it should be. Nothing is left behind.
        """
        digest = await self.incoming.finish()
        if digest.size == 0:
            raise Invalid("the file is empty", code="empty_file")
        facts = poster = None
        if self.purpose in USER_PURPOSES:
            facts, poster = await self.rooms.probe(self.incoming.path, self.purpose)
        record = Media(
            self.id, self.owner, self.purpose, media.clean_name(self.name, self.purpose), self.content_type[:100],
            digest.size, digest.sha256, digest.md5, facts, self.rooms.clock.wall(), self.task_id,
        )
        async with self.rooms.contents.of(digest.sha256):
            await self.keep(record, poster)
        return record

    async def keep(self, record: Media, poster: bytes | None) -> None:
        """Poster, content, record, in this order: what a record points at is there.

        Raises:
            Unavailable: the database does not answer; where that is known before, nothing is left behind.
        """
        self.rooms.runner.check_ready()
        if poster:
            await self.rooms.files.save_poster(record.id, poster)
        try:
            await self.incoming.seal(self.purpose)
        except HubError:
            await self.rooms.files.delete_poster(record.id)
            raise
        await self.rooms.runner.carry_out([Save(record, 0)])

    async def abandon(self) -> None:
        """Leave nothing behind."""
        await self.incoming.discard()


class Receiving(Endpoint):
    """An endpoint whose body is a file."""

    reception: Reception | None = None
    gone = False  # the client hung up
    concluding = False
    heard_at = 0.0
    watch: asyncio.TimerHandle | None = None

    async def receive(self, chunk: bytes) -> None:
        try:
            self.heard_at = float("inf")  # it is not the client's fault if the disk is slow
            await self.take(chunk)
            self.heard_at = self.rooms.clock.now()
        except HubError:
            await self.abandon()
            raise
        if self.gone:
            await self.abandon()

    async def take(self, chunk: bytes) -> None:
        """Give a piece of the body to the reception."""
        assert self.reception is not None
        await self.reception.write(chunk)

    async def conclude(self) -> Media:
        """The record of what was received, or nothing at all."""
        assert self.reception is not None
        self.concluding = True
        try:
            return await self.reception.conclude()
        finally:
            await self.reception.abandon()

    async def abandon(self) -> None:
        """Leave nothing of an unfinished reception behind."""
        if self.reception is not None:
            await self.reception.abandon()

    def on_connection_close(self) -> None:
        """The client hung up: a file that is whole is kept all the same, another is not."""
        super().on_connection_close()
        self.gone = True
        self.on_finish()
        if not self.concluding:
            self.rooms.runner.own(self.abandon())

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
        self.reception = Reception(self.rooms, self.user.id, self.purpose, limit)
        self.reception.name = self.get_query_argument("name", "")
        self.reception.content_type = content_type

    async def take(self, chunk: bytes) -> None:
        await super().take(chunk if self.form_reader is None else self.form_reader.feed(chunk))

    async def post(self) -> None:
        assert self.reception is not None
        if self.form_reader is not None:
            try:
                file = self.form_reader.close()
            except HubError:
                await self.abandon()
                raise
            self.reception.name = self.form_reader.fields.get("name") or self.reception.name or file.filename
            self.reception.content_type = file.content_type
        record = await self.conclude()
        self.set_header("Location", f"{self.request.path}/{record.id}")
        self.answer(self.rooms.views.media(record, self.rooms.clock.wall()), 201)


class Uploads(Receiving):
    """POST /api/uploads: tus 1.0.0 creation-with-upload, the whole file in the creating request."""

    access = "anyone"  # who may is decided by the job token or the Bearer token

    async def admit(self) -> None:
        self.lasting_header("Tus-Resumable", TUS)
        headers = self.request.headers
        if headers.get("Tus-Resumable") != TUS:
            self.lasting_header("Tus-Version", TUS)
            raise Invalid(f"this hub speaks tus {TUS}", code="tus_version")
        settings, job = self.rooms.settings, self.get_query_argument("job", "")
        task_id = None
        if job:
            task = self.rooms.runner.core.lease_of(self.rooms.links.lease_of(job))
            owner, task_id, allowed, limit = task.owner, task.id, WORKER_PURPOSES, settings.result_file_size_limit
        else:
            self.user = await self.rooms.identities.user(self.bearer())
            owner, allowed, limit = self.user.id, USER_PURPOSES, settings.upload_file_size_limit
        self.rooms.runner.check_ready()
        metadata = read_metadata(headers.get("Upload-Metadata", ""))
        purpose = metadata.get("purpose", "")
        if purpose not in allowed:
            raise Invalid(f"purpose is one of {', '.join(sorted(allowed))}", code="bad_metadata")
        length = read_length(headers.get("Upload-Length", ""))
        if "Upload-Defer-Length" in headers:
            raise Invalid("say the length now, and once", code="bad_length")
        if length > limit:
            raise TooLarge(f"a {purpose} has at most {limit} bytes")
        if headers.get("Content-Type", "").lower() != TUS_BODY:
            raise Unsupported(f"send the bytes as {TUS_BODY}")
        self.check_length(length)
        self.reception = Reception(self.rooms, owner, Purpose(purpose), length, task_id)
        self.reception.name = metadata.get("filename", "")
        self.reception.content_type = metadata.get("filetype", "")

    async def post(self) -> None:
        assert self.reception is not None
        try:
            self.check_complete(self.reception)
        except HubError:
            await self.abandon()
            raise
        record = await self.conclude()
        self.set_header("Location", f"/api/uploads/{record.id}")
        self.set_header("Upload-Offset", str(record.size))
        self.answer(upload_view(record), 201)

    def check_complete(self, reception: Reception) -> None:
        """Refuse what is not all of the file, and what comes from a worker whose lease has ended meanwhile.

        Raises:
            Invalid: code bad_length.
            Conflict: code lease_lost.
        """
        if reception.size != reception.limit:
            detail = f"{reception.size} of {reception.limit} bytes arrived: send the whole file"
            raise Invalid(detail, code="bad_length")
        if reception.task_id is not None:
            self.rooms.runner.core.lease_of(self.rooms.links.lease_of(self.get_query_argument("job")))


class Upload(Endpoint):
    """GET /api/uploads/{id}: how far an upload is."""

    async def get(self, id: str) -> None:
        record = await self.rooms.store.get(Media, check_id(id))
        if record is None or record.owner != self.user.id:
            raise NotFound("there is no such upload")
        self.answer(upload_view(record))


def upload_view(record: Media) -> dict[str, Any]:
    """An upload; its id is the media's id."""
    return {
        "id": record.id, "purpose": record.purpose.value, "offset": record.size, "length": record.size,
        "sha256": record.sha256, "state": "ready" if record.facts else "checking",
    }


def acceptable(content_type: str, purpose: Purpose) -> bool:
    """Whether a raw body of this type can be such a file; the probe has the last word."""
    kind = content_type.split(";")[0].strip().lower()
    return kind == "application/octet-stream" or kind.startswith("video/" if purpose is Purpose.VIDEO else "image/")


def read_length(header: str) -> int:
    """Upload-Length (tus 1.0.0, creation), in bytes.

    Raises:
        Invalid: code bad_length.
    """
    if not (header.isascii() and header.isdigit() and len(header) < 18):
        raise Invalid("Upload-Length is a number of bytes", code="bad_length")
    return int(header)


def read_metadata(header: str) -> dict[str, str]:
    """Upload-Metadata (tus 1.0.0, creation): comma-separated names, each with a base64 value.

    Raises:
        Invalid: code bad_metadata.
    """
    metadata: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        name, _, value = pair.partition(" ")
        try:
            text = base64.b64decode(value.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise Invalid(f"the value of {name[:50]!r} is not base64 of UTF-8 text", code="bad_metadata") from None
        if name in metadata:
            raise Invalid(f"{name[:50]!r} occurs twice", code="bad_metadata")
        metadata[name] = text
    return metadata


ROUTES = [
    (r"/api/uploads", Uploads),
    (r"/api/uploads/([^/]+)", Upload),
]
