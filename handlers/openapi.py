"""GET /openapi.json: the HTTP API as an OpenAPI 3.1 document, made of the routes and of handlers/operations.

Owns the form of the document, its words for parameters, headers and ways to prove who asks, and what follows for an
operation from its path, its method and who may come in. Knows no endpoint by name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from http import HTTPStatus
from typing import Any

import msgspec

from hub import VERSION
from hub.media import WORKER_PURPOSES
from hub.messages import SUBPROTOCOL
from hub.task import State

from . import shapes, tus_headers
from .answers import METHODS, Answering
from .base import Endpoint
from .bodies import Form
from .operations import OPERATIONS, SECTIONS, TEXT, WIRE, Operation, operation_of
from .problems import CONTENT_TYPE, WORDS

Route = tuple[Any, ...]  # a pattern, a handler, and perhaps arguments for it
Json = dict[str, Any]

GROUP = re.compile(r"\(((?:[^()]|\([^()]*\))*)\)")  # of a route's pattern, perhaps with one more in it
ALLOWED = Operation("What pages of other origins may do.", status=204, by="", tells="Allow")
TOLD_WITH = {401: "WWW-Authenticate", 416: "Content-Range", 429: "Retry-After", 503: "Retry-After", 507: "Retry-After"}
ABOUT = f"""Between people who have videos and people who have GPUs.

Times are RFC 3339 in UTC, durations seconds, sizes bytes, ids opaque text. Ignore fields that you do not know. HEAD is
answered wherever GET is. Every refusal is a problem (RFC 9457), and programs decide on its `code`. An operation lists
those that are its own; `default` stands for what can happen to any request: 400 `bad_request` and `bad_query`, 413
`too_large`, 415 for a compressed body, 421 `bad_host`, 431 `headers_too_large`, 500 `internal`, 503 `unavailable`.

Uploads that can be resumed speak tus {tus_headers.VERSION}, interface services {SUBPROTOCOL}.
"""
WAYS = {
    "user": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token from signing in."},
    "admin": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "The token of an admin."},
    "worker": {"type": "http", "scheme": "bearer", "description": "The token of an interface service."},
    "monitoring": {"type": "http", "scheme": "bearer", "description": "METRICS_TOKEN."},
    "link": {
        "type": "apiKey", "in": "query", "name": "signature",
        "description": "An address that the hub has handed out, with `expires` and `signature`: it opens one object.",
    },
    "job": {
        "type": "apiKey", "in": "query", "name": "job",
        "description": "A worker's token for one task, out of its assignment; it ends with the lease.",
    },
    "ticket": {
        "type": "apiKey", "in": "query", "name": "ticket",
        "description": "From POST /api/live/ticket: opens one live connection, once.",
    },
}

NUMBER = {"type": "integer", "minimum": 0}
PARAMETERS: dict[str, tuple[str, dict[str, Any], str]] = {  # name -> where, schema, what it is
    "limit": ("query", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "How many at most."),
    "cursor": ("query", TEXT, "The `next` of the page before; of live topics, where the client stands."),
    "state": ("query", {"enum": [state.value for state in State]}, "Those in this state alone."),
    "owner": ("query", TEXT, "The tasks of the user with this id alone."),
    "name": ("query", TEXT, "What people call the file."),
    "topics": ("query", TEXT, "`tasks`, `task:<id>` or `admin`, several separated by commas."),
    "after": ("query", TEXT, "The cursor that the client has."),
    "wait": ("query", {"type": "number", "minimum": 0, "default": 0}, "Seconds to wait for news, at most 60."),
    "download": ("query", {"enum": ["1"]}, "Save the file, do not show it."),
    "expires": ("query", NUMBER, "Of a signed link."),
    "purpose": ("query", {"enum": sorted(WORKER_PURPOSES), "default": "result"}, "What the file is."),
    "lease": ("query", TEXT, "Comes with the callbackUrl: which attempt this is about."),
    "Accept": ("header", TEXT, "With text/event-stream the events come as a stream."),
    "Last-Event-ID": ("header", TEXT, "The cursor, as browsers send it when they come back."),
    "Idempotency-Key": (
        "header", {"type": "string", "minLength": 1, "maxLength": 200}, "Makes sending the same order twice safe.",
    ),
    "Range": ("header", TEXT, "Up to 16 ranges of bytes."),
    "If-Range": ("header", TEXT, "The ETag or date for which the Range holds."),
    "If-None-Match": ("header", TEXT, "304 if the ETag is this one."),
    "If-Match": ("header", TEXT, "Only if the file has one of these ETags."),
    "If-Modified-Since": ("header", TEXT, "304 if it has not changed since."),
    "If-Unmodified-Since": ("header", TEXT, "412 if it has changed since."),
    "Tus-Resumable": ("header", {"const": tus_headers.VERSION}, "Needed with all methods but GET and OPTIONS."),
    "Upload-Length": ("header", {"type": "integer", "minimum": 1}, "The file's size."),
    "Upload-Defer-Length": ("header", {"const": "1"}, "Instead of Upload-Length: it is said later."),
    "Upload-Metadata": ("header", TEXT, "`purpose`, perhaps `filename` and `filetype`: each a name and base64."),
    "Upload-Concat": ("header", TEXT, "`partial`, or `final;` and the addresses of the parts."),
    "Upload-Checksum": ("header", TEXT, "An algorithm and the hash of this request's bytes in base64."),
    "Upload-Offset": ("header", NUMBER, "Where these bytes begin."),
    "Sec-WebSocket-Protocol": ("header", {"const": SUBPROTOCOL}, "The subprotocol that a worker must ask for."),
}
HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "Location": (TEXT, "Where the new thing is."),
    "ETag": (TEXT, "The version of the answer."),
    "Allow": (TEXT, "Methods."),
    "Retry-After": (NUMBER, "Seconds."),
    "WWW-Authenticate": (TEXT, "Bearer."),
    "Idempotency-Replayed": ({"const": "true"}, "The task was ordered before with this key."),
    "Content-Range": (TEXT, "Which part this is; with 416, how large the file is."),
    "Content-Disposition": (TEXT, "The file's name."),
    "Repr-Digest": (TEXT, "The file's SHA-256 (RFC 9530)."),
    "Last-Modified": (TEXT, "When the file was recorded."),
    "Upload-Offset": (NUMBER, "How much is on the hub's disk."),
    "Upload-Length": (NUMBER, "How much there will be."),
    "Upload-Defer-Length": ({"const": "1"}, "Nobody has said how much there will be."),
    "Upload-Expires": (TEXT, "When an upload that gets no more bytes is deleted."),
    "Upload-Metadata": (TEXT, "What was said at the beginning."),
    "Upload-Concat": (TEXT, "Whether this is a part, or made of parts."),
    "Tus-Resumable": ({"const": tus_headers.VERSION}, "The version of tus."),
    "Tus-Version": ({"const": tus_headers.VERSION}, "The versions of tus."),
    "Tus-Extension": (TEXT, "The extensions of tus."),
    "Tus-Checksum-Algorithm": (TEXT, "What Upload-Checksum may name."),
    "Tus-Max-Size": (NUMBER, "The largest file."),
}


class Document:
    """The description of these routes; made when it is asked for, once."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes

    @cached_property
    def data(self) -> bytes:
        """The document as JSON."""
        return msgspec.json.encode(describe(self.routes))


def describe(routes: list[Route]) -> Json:
    """The document.

    Raises:
        LookupError: an endpoint serves a method of which handlers/operations does not know.
    """
    kinds = Kinds()
    paths: dict[str, Json] = {}
    for pattern, handler, *_ in routes:
        path, parameters = path_of(pattern, handler)
        item = paths[path] = {"parameters": parameters} if parameters else {}
        for method in METHODS.split(", "):
            if handler.serves(method):
                item[method.lower()] = operation(path, method, handler, kinds)
    sections = dict.fromkeys(section_of(handler) for _, handler, *_ in routes)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Video segmentation hub", "version": VERSION, "description": ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sections],
        "paths": paths,
        "components": {
            "schemas": kinds.components,
            "responses": {kind.__name__: {
                "description": "Refused for a reason for which any request may be.",
                "content": {CONTENT_TYPE: {"schema": kinds.schema(kind)}},
            } for kind in (shapes.Problem, shapes.OlderProblem)},
            "parameters": {name: parameter(name) for name in PARAMETERS},
            "headers": {name: {"description": text, "schema": form} for name, (form, text) in HEADERS.items()},
            "securitySchemes": WAYS,
        },
    }


# --- one operation ----------------------------------------------------------------------------------------------


def operation(path: str, method: str, handler: type[Answering], kinds: Kinds) -> Json:
    """One method of one path."""
    known = operation_of(handler, method)
    if known is None and method == "HEAD":
        known = operation_of(handler, "GET")
    if known is None and method == "OPTIONS":
        known = ALLOWED
    if known is None:
        raise LookupError(f"handlers/operations does not say what {method} {path} does")
    ways = ways_of(known, handler)
    fits = method in ("GET", "HEAD") and ("ETag" in known.tells or known.answers is not None and not known.fresh)
    takes = [*known.takes.split(), *(["If-None-Match"] if fits else [])]
    told: Json = {
        "operationId": re.sub(r"[^a-z0-9]+", "_", f"{method} {path}".lower()).strip("_"),
        "summary": known.does,
        "tags": [section_of(handler)],
        "security": [{way: []} for way in ways],
        "responses": {str(status): answer for status, answer in sorted({
            **good_answers(known, fits, kinds), **refusals(known, "{" in path, ways, kinds),
        }.items())},
    }
    told["responses"]["default"] = {"$ref": f"#/components/responses/{known.problem.__name__}"}
    if takes:
        told["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in takes]
    if body := body_of(known, kinds):
        told["requestBody"] = body
    if method == "HEAD":
        for answer in told["responses"].values():
            answer.pop("content", None)
    return told


def ways_of(known: Operation, handler: type[Answering]) -> list[str]:
    """The ways to prove who asks, any of which will do; none where anyone may."""
    if known.by is not None:
        return known.by.split()
    access = handler.access if issubclass(handler, Endpoint) else "anyone"
    return [] if access == "anyone" else [access]


def body_of(known: Operation, kinds: Kinds) -> Json | None:
    """What is to be sent."""
    if known.reads is not None:
        return {"required": True, "content": {"application/json": {"schema": kinds.schema(known.reads)}}}
    return {"content": {kind: {"schema": schema} for kind, schema in known.body.items()}} if known.body else None


def good_answers(known: Operation, fits: bool, kinds: Kinds) -> dict[int, Json]:
    """The answers where all is well; `fits`: 304 tells a client that it has the newest."""
    content = {"application/json": {"schema": kinds.schema(known.answers)}} if known.answers is not None else {}
    content |= {kind: {"schema": schema} for kind, schema in (known.gives or {}).items()}
    headers = headers_of([*known.tells.split(), *(["ETag"] if fits else [])])
    full = headers | ({"content": content} if content else {})
    answers = {known.status: {"description": f"{HTTPStatus(known.status).phrase}.", **full}}
    for status, text in known.also.items():
        answers[status] = {"description": text, **(full if status > 200 else {})}
    return answers | ({304: {"description": "The client has the newest.", **headers}} if fits else {})


def headers_of(names: list[str]) -> Json:
    """The part of an answer that tells its headers, if it has any of its own."""
    told = {name: {"$ref": f"#/components/headers/{name}"} for name in dict.fromkeys(names)}
    return {"headers": told} if told else {}


def refusals(known: Operation, named: bool, ways: list[str], kinds: Kinds) -> dict[int, Json]:
    """The problems, by status: those that are written down, and those that follow from how a request is admitted."""
    found: dict[int, list[str]] = {}
    for status, code in codes(known, named, ways):
        if code not in found.setdefault(status, []):
            found[status].append(code)
    return {status: problem(known, status, names, kinds) for status, names in found.items()}


def codes(known: Operation, named: bool, ways: list[str]) -> Iterator[tuple[int, str]]:
    """The status and code of each problem; `named`: the path holds an id."""
    told = [known.refuses]
    if set(ways) - {"link", "job", "ticket"}:
        told.append("401 unauthorized; 403 forbidden")
    if named:
        told.append("404 not_found")
    if "limit" in known.takes:
        told.append("400 bad_query")
    if known.reads is not None:
        told.append("400 bad_json; 413 too_large; 415 unsupported_media_type")
        told.append("422 invalid" if issubclass(known.reads, Form) else "")
    for part in filter(None, (part.strip() for text in told for part in text.split(";"))):
        status, *names = part.split()
        yield from ((int(status), name) for name in names)


def problem(known: Operation, status: int, names: list[str], kinds: Kinds) -> Json:
    """A refusal with one of these codes."""
    schema = {**kinds.schema(known.problem), "properties": {"code": {"enum": names}}}
    return {
        "description": " ".join(f"`{name}`: {WORDS[name][0]}." for name in names),
        **headers_of([TOLD_WITH[status]] if status in TOLD_WITH else []),
        "content": {CONTENT_TYPE: {"schema": schema}},
    }


# --- what paths and types are called ----------------------------------------------------------------------------


def path_of(pattern: str, handler: type[Answering]) -> tuple[str, list[Json]]:
    """A route's path with names in braces, and its parameters; they are called as the endpoint calls them."""
    arguments = max((arguments_of(getattr(handler, method.lower())) for method in METHODS.split(", ")), key=len)
    names = iter(arguments)
    parameters: list[Json] = []

    def fill(group: re.Match[str]) -> str:
        if not group[1]:
            return ""
        form = TEXT if group[1] == "[^/]+" else {**TEXT, "pattern": f"^(?:{group[1]})$"}
        parameters.append({"name": next(names), "in": "path", "required": True, "schema": form})
        return f"{{{parameters[-1]['name']}}}"

    return GROUP.sub(fill, pattern.removeprefix("(?i)").removesuffix("/?")).replace("\\.", "."), parameters


def arguments_of(method: Any) -> list[str]:
    """What a method calls the parts of its path."""
    known = inspect.signature(method).parameters.values()
    return [each.name for each in known if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"]


def parameter(name: str) -> Json:
    """One of PARAMETERS."""
    where, form, text = PARAMETERS[name]
    return {"name": name, "in": where, "description": text, "schema": form}


def section_of(handler: type[Answering]) -> str:
    """Under which heading an endpoint is told."""
    return next(section for module, section in SECTIONS.items() if module.__name__ == handler.__module__)


class Kinds:
    """The JSON schemas of all types that operations read or answer."""

    def __init__(self) -> None:
        operations = [each for methods in OPERATIONS.values() for each in methods.values()]
        used = [kind for each in operations for kind in (each.reads, each.answers) if kind is not None]
        used += [shapes.Problem, shapes.OlderProblem]
        self.known: list[tuple[Any, Json]] = []
        self.components: Json = {}
        for prefix, group in (("", [kind for kind in used if kind not in WIRE]), ("Wire.", list(WIRE))):
            told, components = shapes.schemas(group, prefix)
            self.known += zip(group, told, strict=True)
            self.components |= components

    def schema(self, kind: Any) -> Json:
        """The schema of one of them."""
        return next(schema for known, schema in self.known if known == kind)
