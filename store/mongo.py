"""Records in MongoDB.

Owns the driver: every database call of the hub is made here, with a bounded number under way at once. Uses only what
Motor's and PyMongo's asynchronous clients have in common, so either can be given. Decides nothing: whether a
change may happen is in its guard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import pymongo
import structlog
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, DeleteOne, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.write_concern import WriteConcern

from hub.effects import Delete, Outcome, Save
from hub.errors import Unavailable

from .documents import KINDS, WRITER, to_document, to_filter, to_record

R = TypeVar("R")
T = TypeVar("T")
log = structlog.get_logger(__name__)

AT_ONCE = 16  # calls under way: the drivers' pools are not first come, first served, this queue is
ABREAST, PORTION = 3, 64  # portions of a commit that are written at the same time, and changes that make one
PATIENCE_S = 4.5  # seconds for one call, the wait for its turn included
BUILD_S = 600.0  # seconds for one index
DUPLICATE_KEY, INDEX_NOT_FOUND = 11000, 27
NEVER = {2, 15, 10334, 17419, 17420}  # what the server says of a document that is too large, or nested too deep
ORDER = list(KINDS)
CLIENT_OPTIONS: dict[str, Any] = {
    "maxPoolSize": 32, "timeoutMS": 4000, "serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 3000,
    "retryWrites": True, "retryReads": True, "uuidRepresentation": "standard", "tz_aware": True, "appname": "hub",
}


def connect(uri: str) -> Any:
    """A Motor client with the hub's time limits."""
    return AsyncIOMotorClient(uri, **CLIENT_OPTIONS)


def connect_for_commits(uri: str) -> AsyncMongoClient[dict[str, Any]]:
    """PyMongo's own asynchronous client with the same limits: no thread stands between the loop and the socket.

    The driver tries nothing again: a commit can be given again as it is, and of a write that the driver may repeat
    MongoDB keeps a record of its own. Nor does it measure the time, which the store does: it would need a task of the
    loop, and its turn, to send a message in time.
    """
    return AsyncMongoClient(uri, **{**CLIENT_OPTIONS, "retryWrites": False, "timeoutMS": None})


class MongoStore:
    """Keeps hub.ports.Store's promises in one database; `writer` marks this hub's own writes.

    Commits go by `commits`, a client of their own, where one is given.
    """

    def __init__(self, client: Any, database: str, writer: str, commits: Any = None) -> None:
        self.client = client
        self.writer = writer
        self.database = client[database]
        self.collections = {kind: self.database[place.collection] for kind, place in KINDS.items()}
        self.durable = {
            kind: (commits or client)[database].get_collection(
                place.collection, write_concern=WriteConcern("majority", j=True),
            )
            for kind, place in KINDS.items()
        }
        self.queue = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def turn(self, patience: float) -> AsyncIterator[None]:
        """Wait for a turn, and speak of the driver's failures in the hub's words.

        The whole of it has one time limit: behind others that get no answer, waiting would take as long again.
        """
        try:
            async with asyncio.timeout(patience), self.queue:
                yield
        except BulkWriteError:
            raise
        except (PyMongoError, TimeoutError) as error:
            raise Unavailable(f"the database does not answer ({type(error).__name__})") from error

    async def ask(self, call: Callable[[], Awaitable[T]], patience: float = PATIENCE_S) -> T:
        async with self.turn(patience):
            return await call()

    async def prepare(self) -> None:
        """Make the indexes; those that exist are left alone, new ones over many documents may take minutes."""
        for kind, place in KINDS.items():
            for index in place.indexes:
                options: dict[str, Any] = {"unique": index.unique}
                if index.where is not None:
                    options["partialFilterExpression"] = index.where
                if index.expire:
                    options["expireAfterSeconds"] = 0
                with pymongo.timeout(BUILD_S):
                    await self.ask(lambda: self.collections[kind].create_index(list(index.fields), **options), BUILD_S)
            existing = await self.ask(self.collections[kind].index_information)
            for name in existing.keys() & set(place.outdated):
                await self.drop_index(kind, name)

    async def drop_index(self, kind: type[Any], name: str) -> None:
        """Drop an index; harmless where somebody else has just done so."""
        try:
            await self.ask(lambda: self.collections[kind].drop_index(name))
        except Unavailable as error:
            if getattr(error.__cause__, "code", None) != INDEX_NOT_FOUND:
                raise

    async def server_version(self) -> str:
        """The server's version, such as "6.0.5"."""
        answer: dict[str, Any] = await self.ask(lambda: self.client.admin.command("buildInfo"))
        return str(answer["version"])

    # --- writing ------------------------------------------------------------------------------------------------

    async def commit(self, changes: Sequence[Save | Delete]) -> list[Outcome]:
        outcomes = [Outcome.DONE] * len(changes)
        turns: dict[tuple[bool, int], list[int]] = {}
        for place, change in enumerate(changes):
            turns.setdefault(turn_of(change), []).append(place)
        for _, places in sorted(turns.items()):
            portions = portions_of(places, changes)
            kind = kind_of(changes[places[0]])
            first, *others = (self.write(kind, [changes[place] for place in part]) for part in portions)
            beside = asyncio.gather(*others, return_exceptions=True)
            try:
                found = [await first]  # without a task of its own: it is sent in this turn of the loop
            finally:
                await beside  # none is under way after this
            for each in beside.result():
                if isinstance(each, BaseException):
                    raise each
                found.append(each)
            for part, some in zip(portions, found, strict=True):
                for place, outcome in zip(part, some, strict=True):
                    outcomes[place] = outcome
        return outcomes

    async def write(self, kind: type[Any], changes: list[Save | Delete]) -> list[Outcome]:
        """One bulk write; where it did not hit everything, look which guards held."""
        operations = [self.operation(change) for change in changes]
        taken: set[int] = set()
        try:
            result = await self.ask(lambda: self.durable[kind].bulk_write(operations, ordered=False))
            hits = result.inserted_count + result.modified_count + result.deleted_count
            if hits == len(changes):
                return [Outcome.DONE] * len(changes)
        except BulkWriteError as error:
            details: Any = error.details or {}
            failures = details.get("writeErrors", [])
            codes = {failure["code"] for failure in failures}
            if codes & NEVER:
                raise ValueError(f"the database takes no such document (code {min(codes & NEVER)})") from None
            if codes != {DUPLICATE_KEY}:
                why = str(failures[0] if failures else details)[:500]
                raise Unavailable(f"the database refused a write: {why}") from error
            taken = {failure["index"] for failure in failures}
        return await self.look_again(kind, changes, taken)

    def operation(self, change: Save | Delete) -> Any:
        """The driver's words for a change.

        The guard of a change stands in the update and not in the filter: what is looked up by its id alone needs no
        plan, and of an update MongoDB's journal keeps only what differs. That is a quarter of its work for a change.
        """
        if isinstance(change, Delete):
            return DeleteOne({"_id": change.id, **({"version": change.previous} if change.previous else {})})
        document = {**to_document(change.record), WRITER: self.writer}
        if change.previous == 0:
            return InsertOne(document)
        holds = {"$eq": ["$version", change.previous]}
        replaced = {"$replaceWith": {"$cond": [holds, {"$literal": document}, "$$ROOT"]}}
        return UpdateOne({"_id": document["_id"]}, [replaced])

    async def look_again(self, kind: type[Any], changes: list[Save | Delete], taken: set[int]) -> list[Outcome]:
        """Tell apart what was written (perhaps by an earlier try whose answer was lost) from what was not."""
        ids = [change.record.id if isinstance(change, Save) else change.id for change in changes]

        async def read() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = await self.durable[kind].find({"_id": {"$in": ids}}).to_list(None)
            return found

        stored = {document["_id"]: document for document in await self.ask(read)}
        outcomes = []
        for place, change in enumerate(changes):
            if isinstance(change, Delete):
                outcomes.append(Outcome.MISSED if change.previous and change.id in stored else Outcome.DONE)
            elif self.wrote(stored.get(change.record.id), change.record):
                outcomes.append(Outcome.DONE)
            else:
                clash = place in taken and change.record.id not in stored
                outcomes.append(Outcome.TAKEN if clash else Outcome.MISSED)
        return outcomes

    def wrote(self, document: dict[str, Any] | None, record: Any) -> bool:
        """Whether this hub has stored exactly this: its version alone may be that of another change of its own."""
        return (
            document is not None and document.get(WRITER) == self.writer and document.get("version") == record.version
            and readable(type(record), [document]) == [record]
        )

    # --- reading ------------------------------------------------------------------------------------------------

    async def get(self, kind: type[R], id: str) -> R | None:
        return await self.find(kind, id=id)

    async def find(self, kind: type[R], **equal: Any) -> R | None:
        document: Any = await self.ask(lambda: self.collections[kind].find_one(query(kind, equal)))
        found = readable(kind, [] if document is None else [document])
        return found[0] if found else None

    async def page(self, kind: type[R], limit: int, before: str | None = None, **equal: Any) -> list[R]:
        async def read() -> list[dict[str, Any]]:
            cursor = self.collections[kind].find(query(kind, equal, before)).sort("_id", -1).limit(limit)
            found: list[dict[str, Any]] = await cursor.to_list(None)
            return found

        return readable(kind, await self.ask(read))

    async def versions(
        self, kind: type[Any], limit: int, before: str | None = None, **equal: Any
    ) -> list[tuple[str, int]]:
        async def read() -> list[dict[str, Any]]:
            wanted = query(kind, equal, before)
            cursor = self.collections[kind].find(wanted, {"version": 1}).sort("_id", -1).limit(limit)
            found: list[dict[str, Any]] = await cursor.to_list(None)
            return found

        return [(document["_id"], int(document.get("version", 0))) for document in await self.ask(read)]

    async def count(self, kind: type[Any], **equal: Any) -> int:
        return int(await self.ask(lambda: self.collections[kind].count_documents(query(kind, equal))))

    async def present(self, kind: type[Any], field: str, values: Sequence[Any], **equal: Any) -> set[Any]:
        query = to_filter({field: tuple(values), **equal})
        path = "_id" if field == "id" else field
        found: list[Any] = await self.ask(lambda: self.collections[kind].distinct(path, query))
        return set(found)

    async def total(self, kind: type[Any], field: str, **equal: Any) -> int:
        stages = [{"$match": to_filter(equal)}, {"$group": {"_id": None, "total": {"$sum": f"${field}"}}}]
        command = {"aggregate": KINDS[kind].collection, "pipeline": stages, "cursor": {}}  # the clients' own differ
        answer: dict[str, Any] = await self.ask(lambda: self.database.command(command))
        return sum(int(group["total"]) for group in answer["cursor"]["firstBatch"])

    async def ping(self) -> None:
        await self.ask(lambda: self.client.admin.command("ping"))


def readable(kind: type[R], documents: Sequence[dict[str, Any]]) -> list[R]:
    """The records of these documents; one that makes no sense is left where it is, in nobody's way, and named."""
    records: list[R] = []
    for document in documents:
        try:
            records.append(to_record(kind, document))
        except msgspec.ValidationError as error:
            collection = KINDS[kind].collection
            log.error("unreadable_record", collection=collection, id=str(document["_id"]), detail=str(error))
    return records


def kind_of(change: Save | Delete) -> type[Any]:
    return type(change.record) if isinstance(change, Save) else change.kind


def turn_of(change: Save | Delete) -> tuple[bool, int]:
    """When a change is written within its batch, which a crash may cut short between two kinds."""
    place = ORDER.index(kind_of(change))
    return (True, -place) if isinstance(change, Delete) else (False, place)


def portions_of(places: Sequence[int], changes: Sequence[Save | Delete]) -> list[list[int]]:
    """Places of changes that are written at the same time: many in a few portions, and last and apart the new records.

    MongoDB takes one command after the other on a connection, and waits for the disk after each.
    """
    new: list[int] = []
    others: list[int] = []
    for place in places:
        change = changes[place]
        (new if isinstance(change, Save) and change.previous == 0 else others).append(place)
    number = max(1, min(ABREAST, len(others) // PORTION))
    return [part for part in (*(others[start::number] for start in range(number)), new) if part]


def query(kind: type[Any], equal: dict[str, Any], before: str | None = None) -> dict[str, Any]:
    """The filter for records of a kind.

    For what an index over some of the documents serves it says that it wants one of those: MongoDB does not conclude
    that a text is a string, and would walk through all the others.
    """
    wanted = to_filter(equal, before)
    for index in KINDS[kind].indexes:
        for path, limit in (index.where or {}).items():
            if isinstance(wanted.get(path), str) and "$type" in limit:
                wanted[path] = {"$eq": wanted[path], **limit}
    return wanted
