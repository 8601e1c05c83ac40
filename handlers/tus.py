"""Uploads that can be resumed: tus 1.0.0 with all its extensions (tus.io/protocols/resumable-upload, 1.0.x).

Users send videos and backgrounds; workers send results, under the token of a lease that is current. An offset that a
client is told is on the disk. A file is looked into once all its bytes are here: tus speaks of bytes alone, so the last
of them are answered with 204 also where the file is refused then; GET says what became of it.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from functools import cached_property
from typing import Any

from hub.errors import HubError, Invalid, TooLarge, Unsupported
from hub.ids import new_id
from hub.media import USER_PURPOSES, WORKER_PURPOSES, Media, Purpose
from hub.upload import State, Upload, put_together

from . import tus_headers as said
from .base import Endpoint, check_id
from .problems import detail
from .reception import Reception
from .uploads import Receiving

CHECK_S = 10.0  # how long an answer to the last bytes waits for what became of the file
OVERRIDES = ("PATCH", "DELETE", "HEAD")


class TusEndpoint(Receiving):
    """What creating an upload and going on with it have in common."""

    access = "anyone"  # who may is decided by the job token or the Bearer token
    checksum: tuple[str, bytes] | None = None

    def check_method(self) -> None:
        meant = self.request.headers.get("X-HTTP-Method-Override", "").upper()
        if self.request.method == "POST" and meant in OVERRIDES:
            self.request.method = meant
        super().check_method()

    async def admit(self) -> None:
        """Know the version, and who asks."""
        self.lasting_header("Tus-Resumable", said.VERSION)
        headers, settings = self.request.headers, self.rooms.settings
        if self.request.method != "GET" and headers.get("Tus-Resumable") != said.VERSION:
            self.lasting_header("Tus-Version", said.VERSION)
            raise Invalid(f"this hub speaks tus {said.VERSION}", code="tus_version")
        self.job = self.get_query_argument("job", "")
        self.lease: str | None = None
        self.task_id: str | None = None
        if self.job:
            self.lease = self.rooms.links.lease_of(self.job)
            task = self.rooms.runner.core.lease_of(self.lease)
            self.owner, self.task_id = task.owner, task.id
            self.allowed, self.limit = WORKER_PURPOSES, settings.result_file_size_limit
        else:
            self.user = await self.rooms.identities.user(self.bearer())
            self.owner, self.allowed, self.limit = self.user.id, USER_PURPOSES, settings.upload_file_size_limit
        if "Upload-Checksum" in headers and self.has_body:
            self.checksum = said.read_checksum(headers["Upload-Checksum"])

    @cached_property
    def has_body(self) -> bool:
        """Whether the request came with a body; how much of it is left is in the headers."""
        return self.declared_length() > 0 or "Transfer-Encoding" in self.request.headers

    @property
    def algorithm(self) -> str | None:
        return self.checksum[0] if self.checksum else None

    def check_content_type(self) -> None:
        if self.request.headers.get("Content-Type", "").lower() != said.BODY:
            raise Unsupported(f"send the bytes as {said.BODY}")

    async def options(self, *arguments: str) -> None:
        await super().options(*arguments)
        self.set_header("Tus-Resumable", said.VERSION)
        self.set_header("Tus-Version", said.VERSION)
        self.set_header("Tus-Extension", ",".join(said.EXTENSIONS))
        self.set_header("Tus-Checksum-Algorithm", ",".join(said.CHECKSUMS))
        self.set_header("Tus-Max-Size", str(self.rooms.settings.upload_file_size_limit))

    async def end_body(self, reception: Reception) -> None:
        """The body has come: its bytes are durable now; a file that is whole is looked into, for a while."""
        self.concluding = True
        try:
            if self.lease is not None:
                self.rooms.runner.core.lease_of(self.lease)
            await reception.end_chunk(self, self.checksum[1] if self.checksum else None)
        except HubError as error:
            await self.give_up(error)
            raise
        if reception.complete:
            await asyncio.wait([reception.check()], timeout=CHECK_S)

    def tell_offset(self, reception: Reception) -> None:
        self.set_header("Upload-Offset", str(reception.incoming.durable))
        self.tell_expiry(reception)

    def tell_expiry(self, reception: Reception) -> None:
        """Upload-Expires (expiration), for what is not finished."""
        book, clock = self.rooms.receptions.book, self.rooms.clock
        if reception.upload.id in book.underway and reception.upload.state is State.RECEIVING:
            left = book.expires_in(reception.upload.id, clock.now())
            self.set_header("Upload-Expires", formatdate(clock.wall() + left, usegmt=True))

    async def look(self, id: str) -> Reception | Upload | Media:
        """What the asking user or worker has under this id: bytes that come, a record, or how an upload ended.

        Raises:
            NotFound: nothing; code upload_gone where there was something.
        """
        check_id(id)
        receptions, store = self.rooms.receptions, self.rooms.store
        reception = receptions.open.get(id)
        if reception is not None and reception.belongs_to(self.owner, self.lease):
            if reception.upload.state is State.CHECKING:
                return reception
        elif reception is None:
            record = await store.get(Media, id)
            if record is not None and (record.owner, record.task_id) == (self.owner, self.task_id):
                return record
            upload = await store.get(Upload, id)
            mine = upload is not None and (upload.owner, upload.lease) == (self.owner, self.lease)
            if upload is not None and mine and upload.state is State.REJECTED:
                return upload
        return await receptions.find(id, self.owner, self.lease)


class Uploads(TusEndpoint):
    """POST /api/uploads: begin an upload, perhaps with its first bytes, or put finished parts together."""

    async def admit(self) -> None:
        await super().admit()
        self.rooms.runner.check_ready()
        headers = self.request.headers
        partial, parts = said.read_concat(headers.get("Upload-Concat", ""))
        metadata = said.read_metadata(headers.get("Upload-Metadata", ""))
        purpose = metadata.get("purpose", "")
        if purpose not in self.allowed and not (partial and not purpose):
            raise Invalid(f"purpose is one of {', '.join(sorted(self.allowed))}", code="bad_metadata")
        length = self.read_length(bool(parts))
        if length is not None and length > self.limit:
            raise TooLarge(f"at most {self.limit} bytes")
        if self.has_body:
            self.check_content_type()
            self.check_length(0 if parts else self.limit if length is None else length)
        upload = Upload(
            new_id(), self.owner, Purpose(purpose) if purpose else None, self.limit, self.rooms.clock.wall(),
            metadata.get("filename", ""), metadata.get("filetype", ""), headers.get("Upload-Metadata", ""), length,
            partial, lease=self.lease, task_id=self.task_id,
        )
        if parts:
            upload = await self.with_parts(upload, parts)
        self.reception = await self.rooms.receptions.begin(upload, resumable=True, instead=parts)
        if self.has_body:
            try:
                await self.reception.enter(self, 0, self.declared_length(), self.algorithm)
            except HubError as error:
                await self.give_up(error)
                raise

    def read_length(self, put_together: bool) -> int | None:
        """Upload-Length, or None where it is left open.

        Raises:
            Invalid: code bad_length or empty_file.
        """
        headers = self.request.headers
        later = headers.get("Upload-Defer-Length")
        if put_together:
            if "Upload-Length" in headers or later is not None:
                raise Invalid("the length of an upload out of parts is theirs", code="bad_length")
            return None
        if later is None:
            return said.read_length(headers.get("Upload-Length", ""))
        if later != "1" or "Upload-Length" in headers:
            raise Invalid("say Upload-Length, or Upload-Defer-Length: 1", code="bad_length")
        return None

    async def with_parts(self, upload: Upload, ids: tuple[str, ...]) -> Upload:
        """An upload out of parts, all of the same user or worker.

        Raises:
            NotFound, Conflict, Invalid, TooLarge: see Receptions.find and hub.upload.put_together.
        """
        receptions = self.rooms.receptions
        parts = [await receptions.find(check_id(id), self.owner, self.lease) for id in ids]
        sizes = [await part.interrupt() for part in parts]
        for part, size in zip(parts, sizes, strict=True):
            part.heard(size)
        return put_together(upload, [part.upload for part in parts], sizes)

    async def give_up(self, error: HubError | None = None) -> None:
        """Nobody knows the address of this upload yet, so nobody could go on with it."""
        if self.reception is not None and self.reception.upload.state is State.RECEIVING:
            await self.rooms.receptions.end(self.reception)

    async def post(self) -> None:
        reception = self.reception
        assert reception is not None
        if self.has_body:
            await self.end_body(reception)
        elif reception.upload.parts:
            self.concluding = True
            await asyncio.wait([reception.check()], timeout=CHECK_S)
        id = reception.upload.id
        self.set_header("Location", f"/api/uploads/{id}" + (f"?job={self.job}" if self.job else ""))
        self.tell_offset(reception)
        self.answer(upload_view(await self.look(id), self.chinese), 201)


class OneUpload(TusEndpoint):
    """HEAD, PATCH, DELETE /api/uploads/{id} (tus), and GET: what became of it."""

    async def admit(self) -> None:
        await super().admit()
        if self.request.method == "PATCH":
            await self.admit_bytes()

    async def admit_bytes(self) -> None:
        """Refuse bytes that do not go on where the last ones ended."""
        headers = self.request.headers
        self.check_content_type()
        offset = said.read_size(headers.get("Upload-Offset", ""), "Upload-Offset", "bad_offset")
        reception = await self.rooms.receptions.find(check_id(self.path_args[0]), self.owner, self.lease)
        if "Upload-Length" in headers:
            await reception.say_length(said.read_length(headers["Upload-Length"]))
        await reception.enter(self, offset, self.declared_length(), self.algorithm)
        self.reception = reception

    async def give_up(self, error: HubError | None = None) -> None:
        """What has come is kept, unless it is too much."""
        if self.reception is not None:
            if isinstance(error, TooLarge):
                await self.reception.drop_chunk(self)
            else:
                await self.reception.leave(self)

    async def patch(self, id: str) -> None:
        assert self.reception is not None
        await self.end_body(self.reception)
        self.tell_offset(self.reception)
        self.set_status(204)

    async def head(self, *arguments: str) -> None:
        found = await self.look(arguments[0])
        length: int | None
        if isinstance(found, Media):
            offset, length, metadata = found.size, found.size, said.metadata_of(found)
        else:
            upload = found if isinstance(found, Upload) else found.upload
            offset, length, metadata = upload.length or 0, upload.length, upload.metadata
            if isinstance(found, Reception):
                self.tell_expiry(found)
                if upload.state is State.RECEIVING:
                    offset = await found.interrupt()
            if upload.partial:
                self.set_header("Upload-Concat", "partial")
            elif upload.parts:
                self.set_header("Upload-Concat", "final;" + " ".join(f"/api/uploads/{part}" for part in upload.parts))
        self.set_header("Upload-Offset", str(offset))
        if length is None:
            self.set_header("Upload-Defer-Length", "1")
        else:
            self.set_header("Upload-Length", str(length))
        if metadata:
            self.set_header("Upload-Metadata", metadata)

    async def delete(self, id: str) -> None:
        self.rooms.runner.check_ready()
        reception = await self.rooms.receptions.find(check_id(id), self.owner, self.lease)
        await self.rooms.receptions.end(reception)
        self.set_status(204)

    async def get(self, id: str) -> None:
        found = await self.look(id)
        if isinstance(found, Reception):
            await found.learn()
        self.answer(upload_view(found, self.chinese))


class UploadLimits(Endpoint):
    """GET /api/uploads/limits: what a user may still upload."""

    async def get(self) -> None:
        receptions, settings = self.rooms.receptions, self.rooms.settings
        limits, open_now = receptions.book.limits, receptions.book.reserved(self.user.id)
        stored = await receptions.stored(self.user.id)
        self.answer({
            "file_size": settings.upload_file_size_limit,
            "size": {"limit": limits.size, "used": stored.size, "reserved": open_now.size},
            "files": {"limit": limits.files, "used": stored.files},
            "uploads": {"limit": limits.uploads, "used": open_now.files},
            "expires_in": limits.life_s,
        })


def upload_view(found: Reception | Upload | Media, chinese: bool) -> dict[str, Any]:
    """An upload; its id is the media's id. What is wrong with it is said in the reader's language."""
    if isinstance(found, Media):
        return {
            "id": found.id, "purpose": found.purpose, "offset": found.size, "length": found.size,
            "sha256": found.sha256, "state": State.READY if found.facts else State.CHECKING,
        }
    upload = found if isinstance(found, Upload) else found.upload
    offset, state = upload.length, upload.state
    if isinstance(found, Reception) and state is State.RECEIVING:
        offset = found.incoming.durable
        if found.complete:
            state = State.CHECKING  # in a moment: the hub has just started
    view: dict[str, Any] = {
        "id": upload.id, "purpose": upload.purpose, "offset": offset, "length": upload.length, "state": state,
    }
    if upload.problem is not None:
        code = upload.problem.code
        view["problem"] = {"code": code, "detail": detail(code, upload.problem.detail, chinese)}
    return view


ROUTES = [
    (r"/api/uploads", Uploads),
    (r"/api/uploads/limits", UploadLimits),
    (r"/api/uploads/([^/]+)", OneUpload),
]
