"""What all HTTP endpoints share: early refusals, problems, CORS, host check, strict bodies, ETags.

Owns how a request is admitted and how an answer is written. Never decides what the answer is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast
from urllib.parse import urlsplit

import msgspec
import structlog
from tornado.http1connection import HTTP1Connection
from tornado.web import HTTPError, RequestHandler, stream_request_body

from hub.account import SignInLimiter, User
from hub.errors import Forbidden, HubError, Invalid, NotFound, TooLarge
from hub.ids import new_id
from hub.links import Links
from hub.ports import Clock, Files, Passwords, Probe, Store, Tokens
from hub.runner import Runner
from hub.settings import Settings
from hub.views import Views

from . import bodies
from .identity import Identities
from .problems import CONTENT_TYPE, problem, speaks_chinese, status_of

T = TypeVar("T")
log = structlog.get_logger(__name__)

DRAINED = 1024 * 1024  # bytes of a refused body that are read, so that the client gets to see why
OBJECT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
TUS_HEADERS = "Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata"
ALLOWED_HEADERS = f"Authorization, Content-Type, Idempotency-Key, If-None-Match, Accept-Language, {TUS_HEADERS}"
EXPOSED_HEADERS = f"ETag, Location, Retry-After, Idempotency-Replayed, {TUS_HEADERS}"


@dataclass(slots=True)
class Rooms:
    """What the edges are given to work with, made once at start."""

    settings: Settings
    clock: Clock
    store: Store
    runner: Runner
    files: Files
    probe: Probe
    passwords: Passwords
    tokens: Tokens
    links: Links
    views: Views
    limiter: SignInLimiter
    identities: Identities


@stream_request_body
class Endpoint(RequestHandler):
    """One HTTP endpoint. A refusal is raised before the body is read, and told once a bearable part of it has passed.

    `access` says who may come in: "anyone", "user" or "admin".
    """

    access: ClassVar[str] = "user"
    max_body: ClassVar[int] = bodies.MAX_JSON
    user: User

    def initialize(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.request_id = new_id()
        self.received = bytearray()
        self.refusal: HubError | None = None
        self.drained = 0

    # --- coming in ----------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        # Tornado would answer a longer body with a bare 400; our own limits say what is wrong.
        cast(HTTP1Connection, self.request.connection).set_max_body_size(1 << 50)
        try:
            check_host(self.request.host, self.rooms.settings)
            if self.request.method != "OPTIONS":
                await self.admit()
        except HubError as error:
            self.refuse(error)

    async def admit(self) -> None:
        """Refuse by raising a HubError; nothing of the body has been read yet."""
        if self.access != "anyone":
            self.user = await self.rooms.identities.user(self.bearer())
            if self.access == "admin" and self.user.role != "admin":
                raise Forbidden("only admins may do this")
        if int(self.request.headers.get("Content-Length") or 0) > self.max_body:
            raise TooLarge(f"at most {self.max_body} bytes")

    def bearer(self) -> str:
        """The token of the Authorization header, or nothing."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def refuse(self, error: HubError) -> None:
        """Answer with `error` instead of doing what was asked, once the body has passed."""
        self.refusal = error
        setattr(self, (self.request.method or "get").lower(), self.tell_refusal)

    def tell_refusal(self, *_: Any, **__: Any) -> None:
        assert self.refusal is not None
        raise self.refusal

    async def data_received(self, chunk: bytes) -> None:
        if self.refusal is not None:
            self.drained += len(chunk)
            if self.drained > DRAINED and not self._finished:
                self.answer_error(self.refusal)
            return
        try:
            await self.receive(chunk)
        except HubError as error:
            self.refuse(error)

    async def receive(self, chunk: bytes) -> None:
        """Take a piece of the body; collected here, streamed to disk by those who override this."""
        self.received += chunk
        if len(self.received) > self.max_body:
            self.received.clear()
            raise TooLarge(f"at most {self.max_body} bytes")

    def form(self, kind: type[T]) -> T:
        """The JSON body as `kind`.

        Raises:
            Invalid, Unsupported: with the field and the reason.
        """
        return bodies.read(kind, self.request.headers.get("Content-Type", ""), bytes(self.received))

    def page_arguments(self) -> tuple[int, str | None]:
        """The list arguments `limit` (1..200, default 50) and `cursor`."""
        text = self.get_query_argument("limit", "50")
        if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 3 and 1 <= int(text) <= 200):
            raise Invalid("limit is a number from 1 to 200", code="bad_query")
        cursor = self.get_query_argument("cursor", None)
        if cursor is not None and not OBJECT_ID.fullmatch(cursor):
            raise Invalid("this cursor is none of ours", code="bad_query")
        return int(text), cursor

    # --- going out ----------------------------------------------------------------------------------------------

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        origin = self.request.headers.get("Origin", "")
        rooms: Rooms | None = getattr(self, "rooms", None)
        if rooms is None:  # Tornado calls this once before initialize
            rooms = self.settings["rooms"]
        if origin and origin in rooms.settings.origins:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Vary", "Origin")
            self.set_header("Access-Control-Expose-Headers", EXPOSED_HEADERS)

    async def options(self, *_: str) -> None:
        if "Access-Control-Allow-Origin" in self._headers:
            self.set_header("Access-Control-Allow-Methods", METHODS)
            self.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
            self.set_header("Access-Control-Max-Age", "600")
        self.set_header("Allow", METHODS)
        self.set_status(204)

    def answer(self, body: Any, status: int = 200) -> None:
        """A JSON answer; an object with a version gets an ETag, and 304 where the client has it already."""
        data = msgspec.json.encode(body)
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        if self.request.method in ("GET", "HEAD"):
            tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            self.set_header("ETag", tag)
            self.set_header("Cache-Control", "private, no-cache")
            if tag in self.request.headers.get("If-None-Match", ""):
                self.set_status(304)
                return
        self.write(data)

    def answer_list(self, items: list[Any], limit: int, last_id: str | None) -> None:
        """A list answer: `next` is null where this was the last page."""
        self.answer({"items": items, "next": last_id if len(items) == limit else None})

    def answer_error(self, error: HubError) -> None:
        """A problem answer, finished."""
        self.clear_header("ETag")
        self.set_status(status_of(error))
        self.set_header("Content-Type", CONTENT_TYPE)
        if error.retry_after is not None:
            self.set_header("Retry-After", str(max(1, round(error.retry_after))))
        if status_of(error) == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        chinese = speaks_chinese(self.request.headers.get("Accept-Language", ""))
        path = self.request.path[:300]
        self.finish(msgspec.json.encode(problem(error, path, getattr(self, "request_id", ""), chinese)))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        exception = kwargs.get("exc_info", (None, None, None))[1]
        if not isinstance(exception, HubError):
            exception = {
                400: Invalid("the request cannot be read", code="bad_query"),
                404: NotFound(),
                405: Invalid("this method is not allowed here", code="method_not_allowed"),
            }.get(status_code, HubError())
        self.answer_error(exception)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, HubError | HTTPError):
            log.error("request_failed", path=self.request.path, request_id=self.request_id, exc_info=(typ, value, tb))


class NoSuchPlace(Endpoint):
    """Every path that nothing else serves."""

    access = "anyone"

    async def admit(self) -> None:
        raise NotFound("there is no such path")


def check_host(host: str, settings: Settings) -> None:
    """Refuse requests that were meant for another name: the guard against DNS rebinding.

    Raises:
        Invalid: with code bad_host.
    """
    name = urlsplit(f"//{host}").hostname or ""
    if name not in known_hosts(settings):
        raise Invalid("this hub does not answer to that host name", code="bad_host")


def known_hosts(settings: Settings) -> set[str]:
    """The names this hub answers to: its own address, the front-end's, and loopback."""
    names = {urlsplit(url).hostname or "" for url in (settings.api_base_url, settings.frontend_url)}
    return names | {"localhost", "127.0.0.1", "::1", settings.bind}


def may_call(origin: str, host: str, settings: Settings) -> bool:
    """Whether a page of `origin` may use the API and live sockets: ours, the configured ones, no other."""
    return origin in settings.origins or urlsplit(origin).netloc == host


def check_id(id: str) -> str:
    """An id that could be one of ours.

    Raises:
        NotFound: it could not.
    """
    if not OBJECT_ID.fullmatch(id):
        raise NotFound("there is no such object")
    return id
