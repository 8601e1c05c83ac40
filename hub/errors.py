"""Every way the hub says no.

    HubError
    ├── Invalid         the request itself is wrong; sending it again will not help
    ├── Unauthorized    who is asking is not known
    ├── Forbidden       who is asking is known, and may not
    ├── NotFound        absent, or somebody else's (the two look the same)
    ├── Conflict        the world has moved on: taken, lease_lost, not_ended ...
    ├── TooLarge        over a limit or a quota
    ├── DiskFull        no room for these bytes; what is there already goes on
    ├── Unsupported     a content type that is not taken here
    ├── RateLimited     come back later
    ├── MediaRefused    the file is not what it should be
    └── Unavailable     the hub cannot answer now; the same request may work soon

A `code` is for programs and never changes; `detail` is for people; `retry` is for machines.
This module owns the tree; which HTTP status a code becomes is decided in handlers/base.
"""

from __future__ import annotations

from msgspec import Struct


class FieldError(Struct, frozen=True):
    """One bad field: `pointer` is a JSON pointer (RFC 6901), `code` says what is wrong with it."""

    pointer: str
    code: str
    detail: str = ""


class HubError(Exception):
    """A refusal with its facts: `code` (stable), `detail` (for people), `retry_after` (seconds, or None: never)."""

    code = "internal"
    retry_after: float | None = None

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        fields: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail or code or self.code)
        self.detail = detail
        self.code = code or type(self).code
        self.fields = fields
        if retry_after is not None:
            self.retry_after = retry_after


class Invalid(HubError):
    code = "invalid"


class Unauthorized(HubError):
    code = "unauthorized"


class Forbidden(HubError):
    code = "forbidden"


class NotFound(HubError):
    code = "not_found"


class Conflict(HubError):
    code = "conflict"


class TooLarge(HubError):
    code = "too_large"


class DiskFull(HubError):
    code = "disk_full"
    retry_after = 60.0


class Unsupported(HubError):
    code = "unsupported_media_type"


class RateLimited(HubError):
    code = "rate_limited"
    retry_after = 30.0


class MediaRefused(HubError):
    code = "not_video"


class Unavailable(HubError):
    code = "unavailable"
    retry_after = 5.0
