"""Whether a request still wants what it asks for, by what its client has already (RFC 9110 section 13).

`etag` is a strong entity tag with its quotes, `modified` the time of Last-Modified in whole seconds of the epoch.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from tornado.httputil import HTTPHeaders

TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def outcome(headers: HTTPHeaders, etag: str, modified: int) -> int | None:
    """The status that ends a GET or HEAD before its body: 412, 304, or None to go on (in section 13.2.2's order)."""
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if match is not None:
        if match.strip() != "*" and etag not in TAG.findall(match):
            return 412
    elif (limit := date(headers.get("If-Unmodified-Since"))) is not None and modified > limit:
        return 412
    if none_match is not None:
        known = [tag.removeprefix("W/") for tag in TAG.findall(none_match)]
        return 304 if none_match.strip() == "*" or etag in known else None
    since = date(headers.get("If-Modified-Since"))
    return 304 if since is not None and modified <= since else None


def range_holds(headers: HTTPHeaders, etag: str, modified: int) -> bool:
    """Whether the Range may be answered: If-Range is absent, or names exactly this version (section 13.1.5)."""
    condition = headers.get("If-Range")
    if condition is None:
        return True
    return condition.strip() == etag or date(condition) == modified


def date(text: str | None) -> int | None:
    """An HTTP date as seconds of the epoch; None for what is none, which counts as if it were not there."""
    try:
        parsed = parsedate_to_datetime(text or "")
        return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, TypeError):
        return None
