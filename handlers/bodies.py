"""JSON bodies, read strictly: what is not exactly what was asked for is refused with a pointer to it."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from hub.errors import FieldError, Invalid, Unsupported

T = TypeVar("T")

MAX_JSON = 256 * 1024  # bytes; more would hold the event loop while it is parsed
WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)


class Form(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all request bodies: unknown fields are refused."""


def read(form: type[T], content_type: str, body: bytes) -> T:
    """Decode a JSON body.

    Raises:
        Unsupported: the content type is not JSON.
        Invalid: not JSON, with code bad_json; or fields missing, unknown or of the wrong type, each with a pointer.
    """
    if content_type.split(";")[0].strip().lower() not in ("application/json", "application/merge-patch+json"):
        raise Unsupported("send application/json")
    try:
        plain = STRICT.decode(body.decode("utf-8"))
        msgspec.json.decode(body)  # refuses lone surrogates and numbers out of range, which json takes
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise Invalid(f"not valid JSON: {short(error)}", code="bad_json") from None
    try:
        return msgspec.convert(plain, form)
    except (msgspec.ValidationError, OverflowError) as error:
        match = WHERE.match(str(error))
        what, path = (match["what"], match["path"] or "") if match else (str(error), "")
        pointer = path.replace("[...]", "").replace(".", "/").replace("[", "/").replace("]", "")
        field = FieldError(pointer, "invalid", what[:300])
        raise Invalid(f"{what[:300]} at {pointer or 'the top'}", fields=(field,)) from None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different (RFC 8259 section 4 leaves repeats undefined)."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return made


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


STRICT = json.JSONDecoder(object_pairs_hook=unique, parse_constant=refuse_constant)


def short(error: Exception) -> str:
    """An error's text, no longer than a line."""
    return (str(error) or type(error).__name__)[:200]
