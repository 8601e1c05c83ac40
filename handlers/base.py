"""What all HTTP endpoints share: early refusals, strict bodies, list arguments, ETags.

Owns how a request is admitted. Never decides what the answer is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, ClassVar, TypeVar, cast

import msgspec
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from hub.account import User
from hub.errors import Forbidden, HubError, Invalid, NotFound, TooLarge, Unsupported

from . import bodies, door
from .answers import METHODS, TUS_HEADERS, Answering, Rooms

__all__ = ["Endpoint", "NoSuchPlace", "OBJECT_ID", "Rooms", "bearer_of", "check_id"]

T = TypeVar("T")

DRAINED = 1024 * 1024  # bytes of a refused body that are read, so that the client gets to see why
BODY_S = 30.0  # seconds that a client has to send a body that is collected in memory
UNLIMITED = 1 << 50  # Tornado would answer a longer body with a bare 400; our own limits say what is wrong
OBJECT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ALLOWED_HEADERS = f"Authorization, Content-Type, Idempotency-Key, If-None-Match, Accept-Language, Range, " \
    f"X-HTTP-Method-Override, {TUS_HEADERS}"


@stream_request_body
class Endpoint(Answering):
    """One HTTP endpoint. What can be refused by the headers is refused before the body, and told at once.

    `access` says who may come in: "anyone", "user" or "admin". `any_host` is for what must answer to every name.
    `cursor_form` is how the cursors of a list look.
    """

    access: ClassVar[str] = "user"
    any_host: ClassVar[bool] = False
    cursor_form: ClassVar[re.Pattern[str]] = OBJECT_ID
    max_body: ClassVar[int] = bodies.MAX_JSON
    user: User

    def initialize(self) -> None:
        self.received = bytearray()
        self.refusal: HubError | None = None
        self.drained = 0

    # --- coming in ----------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        self.connection.set_max_body_size(UNLIMITED)
        self.limit_time()
        try:
            if not self.any_host:
                door.check_host(self.request.host, self.rooms.settings)
            door.check_headers(self.request.headers)
            door.check_query(self.request)
            if self.request.method != "OPTIONS":
                self.check_method()
                if self.request.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise Unsupported("send the body as it is, not compressed")
                await self.admit()
        except HubError as error:
            await self.refuse(error)
            if self._headers_written and self.request.headers.get("Expect", "").lower() == "100-continue":
                self.finish()  # the client waits for a word before it sends, and this was it

    @property
    def connection(self) -> HTTP1Connection:
        return cast(HTTP1Connection, self.request.connection)

    def limit_time(self) -> None:
        """Say how long the body may take, unless it has come with the headers: to watch over nothing costs too."""
        ahead = getattr(self.connection.stream, "_read_buffer", b"")  # Tornado's own; without it all are watched over
        if "Transfer-Encoding" in self.request.headers or self.declared_length() > len(ahead):
            self.connection.set_body_timeout(BODY_S)

    def check_method(self) -> None:
        """Refuse a method that this endpoint does not have, before its body comes."""
        served = [name for name in METHODS.split(", ") if self.serves(name)]
        if self.request.method not in served:
            self.lasting_header("Allow", ", ".join(served))
            raise Invalid("this method is not allowed here", code="method_not_allowed")

    @classmethod
    def serves(cls, method: str) -> bool:
        """Whether there is an answer to this method; HEAD goes with GET."""
        return super().serves("GET" if method == "HEAD" and cls.head is Endpoint.head else method)

    async def admit(self) -> None:
        """Refuse by raising a HubError; nothing of the body has been read yet."""
        if self.access != "anyone":
            self.user = await self.rooms.identities.user(self.bearer())
            if self.access == "admin" and self.user.role != "admin":
                raise Forbidden("only admins may do this")
        if self.declared_length() > self.max_body:
            raise TooLarge(f"at most {self.max_body} bytes")

    def declared_length(self) -> int:
        """The Content-Length, 0 where there is none; what is no number is refused by the HTTP parser right after."""
        text = self.request.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0

    def bearer(self) -> str:
        """The token of the Authorization header, or nothing."""
        return bearer_of(self.request.headers.get("Authorization", ""))

    async def refuse(self, error: HubError) -> None:
        """Answer with `error` instead of doing what was asked.

        Where a body is on its way the answer goes out at once, for those who listen while they send, and the
        connection stays open while a bearable part of the body passes, for those who do not.
        """
        if self.refusal is not None:
            return
        self.refusal = error
        setattr(self, (self.request.method or "get").lower(), self.tell_refusal)
        if not self.declared_length() and "Transfer-Encoding" not in self.request.headers:
            return
        body = self.as_problem(error)
        self.set_header("Content-Length", str(len(body)))
        self.write(body)
        with suppress(StreamClosedError):
            await self.flush()

    def tell_refusal(self, *_: Any, **__: Any) -> None:
        assert self.refusal is not None
        if not self._headers_written:
            raise self.refusal

    async def data_received(self, chunk: bytes) -> None:
        if self.refusal is not None:
            self.drained += len(chunk)
            if self.drained > DRAINED and not self._finished:
                self.finish()
            return
        try:
            await self.receive(chunk)
        except HubError as error:
            await self.refuse(error)

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

    def page_arguments(self, *others: str) -> tuple[int, str | None]:
        """The list arguments `limit` (1..200, default 50) and `cursor`; what is neither they nor `others` is refused.

        Raises:
            Invalid: with code bad_query.
        """
        unknown = sorted(self.request.query_arguments.keys() - {"limit", "cursor", *others})
        if unknown:
            raise Invalid(f"a list takes no argument {unknown[0][:50]!r}", code="bad_query")
        text = self.get_query_argument("limit", "50")
        if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 3 and 1 <= int(text) <= 200):
            raise Invalid("limit is a number from 1 to 200", code="bad_query")
        cursor = self.get_query_argument("cursor", None)
        if cursor is not None and not self.cursor_form.fullmatch(cursor):
            raise Invalid("this cursor is none of ours", code="bad_query")
        return int(text), cursor

    # --- going out ----------------------------------------------------------------------------------------------

    async def head(self, *arguments: str) -> None:
        """What GET would answer, without its body (RFC 9110 section 9.3.2)."""
        answering = self.get(*arguments)
        if answering is not None:
            await answering

    async def options(self, *_: str) -> None:
        if "Access-Control-Allow-Origin" in self._headers:
            self.set_header("Access-Control-Allow-Methods", METHODS)
            self.set_header("Access-Control-Allow-Headers", ALLOWED_HEADERS)
            self.set_header("Access-Control-Max-Age", "600")
        self.set_header("Allow", METHODS)
        self.set_status(204)

    def answer(self, body: Any, status: int = 200) -> None:
        """A JSON answer; what is read gets an ETag, and 304 where the client has it already."""
        data = msgspec.json.encode(body)
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        if self.request.method in ("GET", "HEAD"):
            self.set_header("ETag", f'"{sha256(data).hexdigest()[:32]}"')
            self.set_header("Cache-Control", "private, no-cache")
            if self.check_etag_header():
                self.set_status(304)
                return
        self.write(data)

    def answer_list(self, items: list[Any], page: Sequence[Any], limit: int) -> None:
        """A list answer made of a `page` of at most `limit` records; `next` is null where that was the last one."""
        self.answer({"items": items, "next": page[-1].id if len(page) == limit else None})


class NoSuchPlace(Endpoint):
    """Every path that nothing else serves."""

    access = "anyone"

    def check_method(self) -> None:
        """Every method finds nothing here."""

    async def admit(self) -> None:
        raise NotFound("there is no such path")


def bearer_of(authorization: str) -> str:
    """The token in an Authorization header (RFC 6750 section 2.1), or nothing."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_id(id: str) -> str:
    """An id that could be one of ours.

    Raises:
        NotFound: it could not.
    """
    if not OBJECT_ID.fullmatch(id):
        raise NotFound("there is no such object")
    return id
