"""How every edge answers: the common headers, CORS, and one envelope for all that goes wrong.

Owns what an answer looks like; which answer it is comes from elsewhere. Never reads a body.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from hub.account import SignInLimiter
from hub.errors import HubError, Invalid, NotFound
from hub.ids import new_id
from hub.links import Links
from hub.ports import Clock, Files, Passwords, Probe, Store, Tokens
from hub.runner import Runner
from hub.settings import Settings
from hub.sweeper import Sweeper
from hub.views import Views

from .identity import Identities
from .locks import Locks, Turns
from .problems import CONTENT_TYPE, REASONS, problem, speaks_chinese, status_of
from .wire import Pulse

if TYPE_CHECKING:
    from .audience import Audience
    from .inputs import Inputs
    from .receptions import Receptions
    from .registry import Registry
    from .task_line import TaskLine

log = structlog.get_logger(__name__)

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
TUS_HEADERS = (
    "Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Checksum"
)
FILE_HEADERS = "Content-Range, Content-Disposition, Repr-Digest"
EXPOSED_HEADERS = (
    f"ETag, Location, Retry-After, Idempotency-Replayed, {FILE_HEADERS}, {TUS_HEADERS}, Upload-Expires, Tus-Version, "
    "Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm"
)


@dataclass(slots=True)
class Rooms:
    """What the edges are given to work with, made once at start.

    `contents` keeps apart those who record and those who remove the same bytes, `inputs` those who make tasks of files
    and those who delete them, `turns` those who move many bytes at a time; `creating` are the (user, Idempotency-Key)
    pairs whose request is under way, `kept` the connections that bring one order after the other; `pulse` pings the
    websockets; `registry` follows the records of interface services; `receptions` are the files on their way in;
    `sweeper` tidies up; `audience` is who looks.
    """

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
    inputs: Inputs
    contents: Locks = field(default_factory=Locks)
    turns: Turns = field(default_factory=Turns)
    creating: set[tuple[str, str]] = field(default_factory=set)
    kept: set[TaskLine] = field(default_factory=set)
    pulse: Pulse = field(default_factory=Pulse)
    registry: Registry = field(init=False)
    receptions: Receptions = field(init=False)
    sweeper: Sweeper = field(init=False)
    audience: Audience = field(init=False)


class Answering(RequestHandler):
    """A request that gets an id, the hub's headers and, where it fails, a problem."""

    @cached_property
    def rooms(self) -> Rooms:
        rooms: Rooms = self.settings["rooms"]
        return rooms

    @cached_property
    def request_id(self) -> str:
        return new_id()

    @cached_property
    def chinese(self) -> bool:
        """Whether the reader prefers Chinese to English."""
        return speaks_chinese(self.request.headers.get("Accept-Language", ""))

    @cached_property
    def lasting(self) -> dict[str, str]:
        """Headers that outlive a change of mind."""
        return {}

    @classmethod
    def serves(cls, method: str) -> bool:
        """Whether there is an answer to this method."""
        return getattr(cls, method.lower()) is not RequestHandler._unimplemented_method

    def lasting_header(self, name: str, value: str) -> None:
        """Set a header that an error answer carries too."""
        self.lasting[name] = value
        self.set_header(name, value)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Vary", "Origin")
        origin = self.request.headers.get("Origin", "")
        if origin and origin in self.rooms.settings.origins:
            self.set_header("Access-Control-Allow-Origin", origin)
            self.set_header("Access-Control-Expose-Headers", EXPOSED_HEADERS)
        for name, value in self.lasting.items():
            self.set_header(name, value)

    def compute_etag(self) -> str | None:
        """None: whoever knows what an answer is made of names its version; Tornado would hash every body."""
        return None

    def as_problem(self, error: HubError) -> bytes:
        """Turn this answer into a problem, but for its body, which is returned."""
        status = status_of(error)
        self.clear_header("ETag")
        self.set_status(status, REASONS.get(status))
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("Cache-Control", "no-store")
        if error.retry_after is not None:
            self.set_header("Retry-After", str(max(1, round(error.retry_after))))
        if status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        return msgspec.json.encode(problem(error, self.request.path[:300], self.request_id, self.chinese))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if not isinstance(error, HubError):
            error = {
                400: Invalid("the request cannot be read", code="bad_request"),
                403: NotFound(),
                404: NotFound(),
                405: Invalid("this method is not allowed here", code="method_not_allowed"),
            }.get(status_code, HubError())
        if status_of(error) == 405 and "Allow" not in self._headers:
            self.set_header("Allow", METHODS)
        self.finish(self.as_problem(error))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """A client's mistakes are no news; everything else is."""
        if not isinstance(value, HubError | HTTPError | StreamClosedError):
            log.error("request_failed", path=self.request.path, request_id=self.request_id, exc_info=(typ, value, tb))
