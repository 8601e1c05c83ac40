"""Files coming in: one request each, streamed to disk, looked into, recorded.

Three ways in (raw body, multipart form, tus creation-with-upload) feed one `Reception`. Users send videos and
backgrounds; workers send results, under the token of a lease that is current.
"""

from __future__ import annotations

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
        await self.incoming.seal(self.purpose)
        record = Media(
            self.id, self.owner, self.purpose, media.clean_name(self.name, self.purpose), self.content_type[:100],
            digest.size, digest.sha256, digest.md5, facts, self.rooms.clock.wall(), self.task_id,
        )
        if poster:
            await self.rooms.files.save_poster(record.id, poster)
        await self.rooms.runner.carry_out([Save(record, 0)])
        return record

    async def abandon(self) -> None:
        """Leave nothing behind."""
        await self.incoming.discard()


class Receiving(Endpoint):
    """An endpoint whose body is a file."""

    reception: Reception | None = None

    async def abandon(self) -> None:
        """Leave nothing of an unfinished reception behind."""
        if self.reception is not None:
            await self.reception.abandon()

    async def receive(self, chunk: bytes) -> None:
        assert self.reception is not None
        try:
            await self.reception.write(chunk)
        except HubError:
            await self.reception.abandon()
            raise

    async def conclude(self) -> Media:
        """The record of what was received, or nothing at all."""
        assert self.reception is not None
        try:
            return await self.reception.conclude()
        finally:
            await self.reception.abandon()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.rooms.runner.own(self.abandon())

    def declared_length(self, limit: int) -> None:
        """Refuse by the Content-Length.

        Raises:
            TooLarge: it says more than the limit.
        """
        if int(self.request.headers.get("Content-Length") or 0) > limit:
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
        self.declared_length(limit + FORM_OVERHEAD if multipart else limit)
        self.reception = Reception(self.rooms, self.user.id, self.purpose, limit)
        self.reception.name = self.get_query_argument("name", "")
        self.reception.content_type = content_type
        if multipart:
            self.form_reader = FormReader(content_type, ("file", self.purpose.value))
        elif not acceptable(content_type, self.purpose):
            raise Unsupported(f"send the {self.purpose} itself with its own content type, or multipart/form-data")

    async def receive(self, chunk: bytes) -> None:
        if self.form_reader is None:
            return await super().receive(chunk)
        try:
            for piece in self.form_reader.feed(chunk):
                await super().receive(piece)
        except HubError:
            await self.abandon()
            raise

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
        self.set_header("Tus-Resumable", TUS)
        if self.request.headers.get("Tus-Resumable") != TUS:
            self.set_header("Tus-Version", TUS)
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
        metadata = read_metadata(self.request.headers.get("Upload-Metadata", ""))
        purpose = metadata.get("purpose", "")
        if purpose not in allowed:
            raise Invalid(f"purpose is one of {', '.join(sorted(allowed))}", code="bad_metadata")
        length = self.request.headers.get("Upload-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 18):
            raise Invalid("Upload-Length is a number of bytes", code="bad_length")
        if int(length) > limit:
            raise TooLarge(f"a {purpose} has at most {limit} bytes")
        if self.request.headers.get("Content-Type", "").lower() != TUS_BODY:
            raise Unsupported(f"send the bytes as {TUS_BODY}")
        self.declared_length(int(length))
        self.reception = Reception(self.rooms, owner, Purpose(purpose), int(length), task_id)
        self.reception.name = metadata.get("filename", "")
        self.reception.content_type = metadata.get("filetype", "")

    async def post(self) -> None:
        assert self.reception is not None
        if self.reception.size != self.reception.limit:
            await self.abandon()
            raise Invalid(
                f"{self.reception.size} of {self.reception.limit} bytes arrived: send the whole file", code="bad_length"
            )
        record = await self.conclude()
        self.set_header("Location", f"/api/uploads/{record.id}")
        self.set_header("Upload-Offset", str(record.size))
        self.answer(upload_view(record), 201)


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
