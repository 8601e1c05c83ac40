"""Records as MongoDB documents, and back: collections, indexes and field names are spelled only here.

A document has its record's fields under the same names, but for `_id` and the two that this module adds:
`_writer` (which hub wrote it) and `_purge_at` (when MongoDB may drop it). Never talks to a database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from hub.account import Revocation, User
from hub.interface import Interface, OfferedModel
from hub.media import Media
from hub.resuming import LiveEnd
from hub.seed import SeedJob
from hub.task import Task
from hub.upload import Upload

R = TypeVar("R")

WRITER, PURGE_AT = "_writer", "_purge_at"

# Which tasks an index is over. A limit may only compare: "processing" and "waiting" come after all states that end.
OPEN: dict[str, Any] = {"state": {"$gt": "p"}}
ENDED: dict[str, Any] = {"state": {"$lt": "p"}}


@dataclass(frozen=True, slots=True)
class Index:
    """One index: `fields` in order (1 ascending, -1 descending), `where` limits it to matching documents."""

    fields: tuple[tuple[str, int], ...]
    unique: bool = False
    where: dict[str, Any] | None = None
    expire: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """Where records of one class live, and what they are looked up by; `outdated` are indexes of earlier versions."""

    collection: str
    indexes: tuple[Index, ...] = ()
    purge_field: str | None = None
    outdated: tuple[str, ...] = ()


# In the order in which they are stored: what a record points at comes before it, and goes after it.
KINDS: dict[type[Any], Kind] = {
    User: Kind("users", (Index((("email", 1),), unique=True), Index((("role", 1), ("_id", -1))))),
    Revocation: Kind("revocations", (Index(((PURGE_AT, 1),), expire=True),), purge_field="expires_at"),
    Interface: Kind("interfaces", (
        Index((("token_hash", 1),), unique=True),
        Index((("address", 1),), unique=True, where={"address": {"$type": "string"}}),
    )),
    OfferedModel: Kind("models"),
    LiveEnd: Kind("live"),
    Media: Kind("media", (
        Index((("owner", 1), ("purpose", 1), ("_id", -1))),
        Index((("owner", 1), ("sha256", 1))),
        Index((("owner", 1), ("md5", 1))),
        Index((("sha256", 1), ("purpose", 1))),
        Index((("task_id", 1),), where={"task_id": {"$type": "string"}}),
    )),
    Task: Kind("tasks", (
        Index((("state", 1), ("_id", -1))),
        Index((("owner", 1), ("_id", -1))),
        Index((("owner", 1), ("state", 1), ("_id", -1))),
        Index((("owner", 1), ("request_key", 1)), unique=True, where={"request_key": {"$type": "string"}}),
        Index((("video.media_id", 1),), where=OPEN),
        Index((("background.media_id", 1),), where=OPEN),
        Index((("worker", 1), ("state", 1), ("_id", -1)), where=ENDED),
    ), outdated=("video.media_id_1_state_1", "background.media_id_1_state_1", "worker_1_state_1")),
    Upload: Kind("uploads", (
        Index((("state", 1), ("_id", -1))),
        Index(((PURGE_AT, 1),), expire=True),
    ), purge_field="purge_at"),
    SeedJob: Kind("seed_jobs", (Index((("worker", 1), ("_id", -1))),)),
}


def to_document(record: Any) -> dict[str, Any]:
    """The document of a record."""
    document: dict[str, Any] = msgspec.to_builtins(record)
    document["_id"] = document.pop("id")
    purge_field = KINDS[type(record)].purge_field
    if purge_field is not None and document[purge_field] is not None:
        document[PURGE_AT] = datetime.fromtimestamp(document[purge_field], UTC)
    return document


def to_record(kind: type[R], document: dict[str, Any]) -> R:
    """The record of a document.

    Raises:
        msgspec.ValidationError: the document is not one of this kind.
    """
    fields = {name: value for name, value in document.items() if name not in ("_id", WRITER, PURGE_AT)}
    return msgspec.convert({"id": document["_id"], **fields}, kind)


def to_filter(equal: dict[str, Any], before: str | None = None) -> dict[str, Any]:
    """A query: equal fields (`video__media_id` reaches into a field, a tuple means "one of"), ids below `before`."""
    query: dict[str, Any] = {}
    for name, value in equal.items():
        path = "_id" if name == "id" else name.replace("__", ".")
        query[path] = {"$in": [plain(item) for item in value]} if isinstance(value, tuple) else plain(value)
    if before is not None:
        query.setdefault("_id", {})["$lt"] = before
    return query


def plain(value: Any) -> Any:
    """A value as it stands in a document."""
    return msgspec.to_builtins(value)
