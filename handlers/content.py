"""Bytes going out: videos, backgrounds, results and posters, to whoever holds a link, a lease or a token."""

from __future__ import annotations

import asyncio
import os
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, ClassVar
from urllib.parse import quote

from tornado.iostream import StreamClosedError

from hub.errors import Invalid, NotFound
from hub.media import Media, Purpose
from hub.task import Output, Task

from .base import Endpoint, check_id

PIECE = 256 * 1024
INLINE = frozenset({"video/mp4", "video/webm", "image/jpeg", "image/png", "image/webp"})
TYPES = {"mp4": "video/mp4", "webm": "video/webm", "mjpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class Content(Endpoint):
    """Serves one stored file. Subclasses say which; a link, a job token or a Bearer token opens it."""

    access = "anyone"
    named: ClassVar[bool] = True  # the last part of the path is a name for people, and not signed
    opened_by_link = False
    task: Task | None = None  # whose current lease opened this

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

    async def serve(self, path: Path, etag: str, content_type: str, name: str, saved_at: float) -> None:
        """Send a file, whole or the one range that was asked for (RFC 9110 section 14).

        Raises:
            NotFound: the file is gone.
            Invalid: code unsatisfiable_range.
        """
        inline = content_type in INLINE and not self.get_query_argument("download", "")
        disposition = "inline" if inline else "attachment"
        tag = f'"{etag}"'
        self.set_header("ETag", tag)
        self.set_header("Last-Modified", formatdate(saved_at, usegmt=True))
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Type", content_type if content_type in INLINE else "application/octet-stream")
        self.set_header("Content-Disposition", f"{disposition}; filename*=UTF-8''{quote(name, safe='')}")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        self.set_header("Cross-Origin-Resource-Policy", "same-site")
        self.set_header("Cache-Control", "private, max-age=3600")
        if self.check_etag_header():
            self.set_status(304)
            return
        loop = asyncio.get_running_loop()
        try:
            file = await loop.run_in_executor(None, path.open, "rb")
        except OSError:
            raise NotFound("the file is gone") from None
        with file:
            size = os.fstat(file.fileno()).st_size
            asked = self.request.headers.get("Range", "")
            if self.request.headers.get("If-Range", tag) != tag:
                asked = ""
            start, end = 0, size
            if asked:
                found = byte_range(asked, size)
                if found is None:
                    self.lasting_header("Content-Range", f"bytes */{size}")
                    raise Invalid(f"the file has {size} bytes", code="unsatisfiable_range")
                start, end = found
                if (start, end) != (0, size) or asked.replace(" ", "") == "bytes=0-":
                    self.set_status(206)
                    self.set_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.set_header("Content-Length", str(end - start))
            if self.request.method != "HEAD":
                await self.send(file, start, end)

    async def send(self, file: BinaryIO, start: int, end: int) -> None:
        """The bytes from `start` up to `end`, read off the loop, as fast as the client takes them."""
        loop = asyncio.get_running_loop()
        at = start
        while at < end:
            piece = await loop.run_in_executor(None, os.pread, file.fileno(), min(PIECE, end - at), at)
            if not piece:
                break
            self.write(piece)
            try:
                await self.flush()
            except StreamClosedError:
                return
            at += len(piece)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header asks for; the whole file for anything but one bytes range.

    None where it cannot be satisfied.
    """
    unit, _, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    plain = all(not text or (text.isascii() and text.isdigit() and len(text) < 20) for text in (first, last))
    if unit.strip() != "bytes" or "," in spec or not dash or not plain or not (first or last):
        return 0, size
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None


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
        path = self.rooms.files.path(record.purpose, record.sha256)
        await self.serve(path, record.sha256, type_of(record), record.name, record.created_at)


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
        path = self.rooms.files.path(record.purpose, record.sha256)
        await self.serve(path, record.sha256, type_of(record), record.name, record.created_at)


class Poster(Content):
    """GET /posters/{id}: a small JPEG of a video, background or result."""

    named = False
    picture: ClassVar[str] = "poster"

    async def get(self, id: str) -> None:
        record = await self.rooms.store.get(Media, check_id(id))
        if record is None:
            raise NotFound("there is no such picture")
        self.check_owner(record.owner)
        tag, name = f"{self.picture}-{record.sha256}", f"{self.picture}.jpg"
        await self.serve(self.place(id), tag, "image/jpeg", name, record.created_at)

    def place(self, id: str) -> Path:
        return self.rooms.files.poster_path(id)


class Strip(Poster):
    """GET /posters/{id}/strip: eight pictures of a video, side by side."""

    picture = "strip"

    def place(self, id: str) -> Path:
        return self.rooms.files.strip_path(id)


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
