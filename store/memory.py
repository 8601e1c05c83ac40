"""The store's contract in a dict: for tests and simulation, forgotten with the process.

Records go through the same documents as in MongoDB, so that what cannot be stored there cannot be stored here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

import bson

from hub.effects import Delete, Outcome, Save
from hub.errors import Unavailable

from .documents import KINDS, WRITER, Index, to_document, to_filter, to_record

R = TypeVar("R")
LARGEST = 16 * 1024 * 1024  # bytes of a document in MongoDB


class MemoryStore:
    """Keeps hub.ports.Store's promises until the process ends; `away` makes it answer like a lost database."""

    def __init__(self, writer: str = "memory") -> None:
        self.writer = writer
        self.away = False
        self.collections: dict[type[Any], dict[str, dict[str, Any]]] = defaultdict(dict)

    async def commit(self, changes: Sequence[Save | Delete]) -> list[Outcome]:
        await self.ping()
        return [self.apply(change) for change in changes]

    def apply(self, change: Save | Delete) -> Outcome:
        if isinstance(change, Delete):
            documents = self.collections[change.kind]
            if change.previous and change.id in documents and documents[change.id]["version"] != change.previous:
                return Outcome.MISSED
            documents.pop(change.id, None)
            return Outcome.DONE
        kind = type(change.record)
        documents = self.collections[kind]
        document = {**to_document(change.record), WRITER: self.writer}
        if len(bson.encode(document)) > LARGEST:  # which raises what the driver does
            raise ValueError("a document has at most 16 MiB")
        stored = documents.get(document["_id"])
        version = stored["version"] if stored is not None else 0
        if version != change.previous:
            return Outcome.DONE if stored == document else Outcome.MISSED
        if any(self.clashes(kind, index, document) for index in KINDS[kind].indexes if index.unique):
            return Outcome.TAKEN
        documents[document["_id"]] = document
        return Outcome.DONE

    def clashes(self, kind: type[Any], index: Index, document: dict[str, Any]) -> bool:
        """Whether another document has the same values under a unique index."""
        values = [document.get(name) for name, _ in index.fields]
        if index.where is not None and any(value is None for value in values):
            return False
        return any(
            [other.get(name) for name, _ in index.fields] == values
            for other in self.collections[kind].values() if other["_id"] != document["_id"]
        )

    async def get(self, kind: type[R], id: str) -> R | None:
        await self.ping()
        document = self.collections[kind].get(id)
        return None if document is None else to_record(kind, document)

    async def find(self, kind: type[R], **equal: Any) -> R | None:
        found = await self.page(kind, 1, None, **equal)
        return found[0] if found else None

    async def page(self, kind: type[R], limit: int, before: str | None = None, **equal: Any) -> list[R]:
        await self.ping()
        query = to_filter(equal, before)
        documents = self.collections[kind]
        ids = sorted((id for id, document in documents.items() if matches(document, query)), reverse=True)
        return [to_record(kind, documents[id]) for id in ids[:limit]]

    async def versions(
        self, kind: type[Any], limit: int, before: str | None = None, **equal: Any
    ) -> list[tuple[str, int]]:
        return [(record.id, record.version) for record in await self.page(kind, limit, before, **equal)]

    async def count(self, kind: type[Any], **equal: Any) -> int:
        await self.ping()
        query = to_filter(equal)
        return sum(1 for document in self.collections[kind].values() if matches(document, query))

    async def present(self, kind: type[Any], field: str, values: Sequence[Any], **equal: Any) -> set[Any]:
        found = await self.page(kind, len(self.collections[kind]), None, **{field: tuple(values)}, **equal)
        return {getattr(record, field) for record in found}

    async def total(self, kind: type[Any], field: str, **equal: Any) -> int:
        await self.ping()
        query = to_filter(equal)
        return sum(document[field] for document in self.collections[kind].values() if matches(document, query))

    async def ping(self) -> None:
        if self.away:
            raise Unavailable("the store is away")


def matches(document: dict[str, Any], query: dict[str, Any]) -> bool:
    """The few query words that `to_filter` makes, as MongoDB understands them."""
    for path, wanted in query.items():
        value: Any = document
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(wanted, dict):
            if "$in" in wanted and value not in wanted["$in"] or "$lt" in wanted and not value < wanted["$lt"]:
                return False
        elif value != wanted:
            return False
    return True
