"""Bytes going out: videos, backgrounds, results and posters, to whoever holds a link, a lease or a token."""

from __future__ import annotations

import asyncio
import os
import secrets
from base64 import b64encode
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import quote

from tornado.iostream import StreamClosedError

from hub.errors import Invalid, NotFound
from hub.media import Media, Purpose
from hub.task import Output, Task

from . import preconditions, ranges, sendfile
from .base import Endpoint, Rooms, check_id

PIECE = 256 * 1024
IDLE_S = 60.0  # seconds for which a client may take nothing
POLICY = "default-src 'none'; sandbox"
INLINE = frozenset({"video/mp4", "video/webm", "image/jpeg", "image/png", "image/webp"})
TYPES = {"mp4": "video/mp4", "webm": "video/webm", "mjpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class Served:
    """A file to be sent: `etag` with its quotes, `modified` whole seconds of the epoch, `sha256` where it is known.

    `content_type` is what the hub found out itself; `name` is the owner's, and shown only.
    """

    path: Path
    etag: str
    content_type: str
    name: str
    modified: int
    sha256: str = ""


class Content(Endpoint):
    """Serves one stored file. Subclasses say which; a link, a job token or a Bearer token opens it."""

    access = "anyone"
    named: ClassVar[bool] = True  # the last part of the path is a name for people, and not signed
    opened_by_link = False
    task: Task | None = None  # whose current lease opened this

    def initialize(self) -> None:
        super().initialize()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def admit(self) -> None:
        """A valid link needs no more; without one, the lease or the user decides."""
        if "signature" in self.request.query_arguments:
            path = self.request.path.rpartition("/")[0] if self.named else self.request.path
            expires, signature = self.get_query_argument("expires", ""), self.get_query_argument("signature")
            self.rooms.links.verify(path, expires, signature, self.rooms.clock.wall())
            self.opened_by_link = True
        elif job := self.get_query_argument("job", ""):
            self.task = self.rooms.runner.core.lease_of(self.rooms.links.lease_of(job))
        else:
            self.user = await self.rooms.identities.user(self.bearer())

    def check_owner(self, owner: str) -> None:
        """Raises NotFound where neither a link nor a Bearer token opens a file of `owner`; a lease never does."""
        if self.opened_by_link:
            return
        if self.task is not None or self.user.id != owner and self.user.role != "admin":
            raise NotFound("there is no such file")

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if not self.gone.done():
            self.gone.set_result(None)

    async def serve(self, served: Served) -> None:
        """Send a file: whole, in the parts that were asked for, or not at all where the client has it.

        RFC 9110 sections 13 (conditions) and 14 (ranges; several become multipart/byteranges).

        Raises:
            NotFound: the file is gone.
            Invalid: code precondition_failed or unsatisfiable_range.
        """
        self.describe(served)
        ending = preconditions.outcome(self.request.headers, served.etag, served.modified)
        if ending == 412:
            raise Invalid("the file is another one than you have", code="precondition_failed")
        if ending == 304:
            self.set_status(304)
            return
        try:
            file = await asyncio.to_thread(served.path.open, "rb")
        except OSError:
            raise NotFound("the file is gone") from None
        with file:
            body = self.choose(served, os.fstat(file.fileno()).st_size)
            self.set_header("Content-Length", str(ranges.length(body)))
            if self.request.method != "HEAD":
                await self.send(file, body)

    def describe(self, served: Served) -> None:
        """Say what it is, and that nothing in it may run."""
        inline = served.content_type in INLINE and not self.get_query_argument("download", "")
        self.set_header("ETag", served.etag)
        self.set_header("Last-Modified", formatdate(served.modified, usegmt=True))
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Type", served.content_type)
        self.set_header("Content-Disposition", disposition(inline, served.name))
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cross-Origin-Resource-Policy", "same-site")
        self.set_header("Cache-Control", "private, max-age=3600")
        if served.sha256:
            self.set_header("Repr-Digest", f"sha-256=:{b64encode(bytes.fromhex(served.sha256)).decode()}:")

    def choose(self, served: Served, size: int) -> list[bytes | ranges.Span]:
        """What of a file of `size` bytes goes out, and the status and headers that say so.

        Raises:
            Invalid: code unsatisfiable_range.
        """
        asked = self.request.headers.get("Range", "") if self.request.method == "GET" else ""
        if not preconditions.range_holds(self.request.headers, served.etag, served.modified):
            asked = ""
        parts = ranges.spans(asked, size)
        if parts is None:
            return [(0, size)]
        if not parts:
            self.lasting_header("Content-Range", f"bytes */{size}")
            raise Invalid(f"the file has {size} bytes", code="unsatisfiable_range")
        self.set_status(206)
        if len(parts) == 1:
            self.set_header("Content-Range", ranges.content_range(parts[0], size))
            return [parts[0]]
        boundary = secrets.token_hex(16)
        self.set_header("Content-Type", f"multipart/byteranges; boundary={boundary}")
        return ranges.multipart(parts, size, served.content_type, boundary)

    async def send(self, file: BinaryIO, body: list[bytes | ranges.Span]) -> None:
        """Write a body as fast as the client takes it; one that takes nothing for `IDLE_S` is hung up on."""
        try:
            for piece in body:
                if isinstance(piece, bytes):
                    self.write(piece)
                    continue
                start, end = piece
                await self.flushed()
                way = self.connection, file.fileno(), start, end, self.gone, IDLE_S, self.rooms.turns
                start += await sendfile.send(*way)
                await self.send_plainly(file, start, end)
        except StreamClosedError:
            return
        except TimeoutError:
            self.connection.close()

    async def send_plainly(self, file: BinaryIO, start: int, end: int) -> None:
        """The bytes from `start` up to `end`, read off the loop and written with Tornado's own means."""
        while start < end:
            piece = await asyncio.to_thread(os.pread, file.fileno(), min(PIECE, end - start), start)
            if not piece:
                break
            self.write(piece)
            await self.flushed()
            start += len(piece)

    async def flushed(self) -> None:
        """Wait until the client has room for more.

        Raises:
            TimeoutError: it took nothing for too long.
        """
        flushing = self.flush()
        if not flushing.done():
            with self.connection.stream.socket.dup() as line:
                patience = sendfile.Patience(line, IDLE_S)
                while not flushing.done():
                    await asyncio.wait((flushing,), timeout=patience.left())
        flushing.result()


def disposition(inline: bool, name: str) -> str:
    """Content-Disposition with the name in UTF-8, and in ASCII for those who do not know better (RFC 6266)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


class Input(Content):
    """GET /videos/{id}/{name} and /backgrounds/{id}/{name}."""

    purpose: ClassVar[Purpose]

    async def get(self, id: str, name: str) -> None:
        record = await self.rooms.store.get(Media, check_id(id))
        if record is None or record.purpose is not self.purpose:
            raise NotFound("there is no such file")
        task = self.task
        if task is None:
            self.check_owner(record.owner)
        elif id not in (task.video.media_id, task.background.media_id if task.background else ""):
            raise NotFound("this task has no such input")
        await self.serve(content_of(self.rooms, record))


class VideoInput(Input):
    purpose = Purpose.VIDEO


class BackgroundInput(Input):
    purpose = Purpose.BACKGROUND


class Result(Content):
    """GET /output/{task}/{name}."""

    async def get(self, task_id: str, name: str) -> None:
        task = await self.rooms.store.get(Task, check_id(task_id))
        if task is None:
            raise NotFound("there is no such result")
        self.check_owner(task.owner)
        output: Output | None = next((output for output in task.outputs if output.name == name), None)
        record = await self.rooms.store.get(Media, output.media_id) if output is not None else None
        if record is None:
            raise NotFound("there is no such result")
        await self.serve(content_of(self.rooms, record))


class Poster(Content):
    """GET /posters/{id}: a small JPEG of a video, background or result."""

    named = False
    picture: ClassVar[str] = "poster"

    async def get(self, id: str) -> None:
        record = await self.rooms.store.get(Media, check_id(id))
        if record is None:
            raise NotFound("there is no such picture")
        self.check_owner(record.owner)
        tag, name = f'"{self.picture}-{record.sha256}"', f"{self.picture}.jpg"
        await self.serve(Served(self.place(id), tag, "image/jpeg", name, int(record.created_at)))

    def place(self, id: str) -> Path:
        return self.rooms.files.poster_path(id)


class Strip(Poster):
    """GET /posters/{id}/strip: eight pictures of a video, side by side."""

    picture = "strip"

    def place(self, id: str) -> Path:
        return self.rooms.files.strip_path(id)


def content_of(rooms: Rooms, record: Media) -> Served:
    """The bytes that a record points at; their hash is their version."""
    path, kind = rooms.files.path(record.purpose, record.sha256), type_of(record)
    shown = kind if kind in INLINE else "application/octet-stream"
    return Served(path, f'"{record.sha256}"', shown, record.name, int(record.created_at), record.sha256)


def type_of(record: Media) -> str:
    """The content type that the probe vouches for, whatever the uploader said."""
    if record.facts is None:
        return "application/octet-stream"
    return TYPES.get(record.facts.container) or TYPES.get(record.facts.codec, "application/octet-stream")


def routes(videos: str, backgrounds: str) -> list[tuple[str, type[Content]]]:
    """The routes under the configured paths."""
    return [
        (rf"/{videos}/([^/]+)/([^/]+)", VideoInput),
        (rf"/{backgrounds}/([^/]+)/([^/]+)", BackgroundInput),
        (r"/output/([^/]+)/([^/]+)", Result),
        (r"/posters/([^/]+)", Poster),
        (r"/posters/([^/]+)/strip", Strip),
    ]
