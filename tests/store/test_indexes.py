"""Each question that the hub asks has its index: MongoDB looks at what it answers with, and at nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hub.effects import Save
from hub.ids import new_id
from hub.interface import Interface
from hub.media import Media, Purpose
from hub.task import Source, State, Task
from store import documents
from store.documents import KINDS
from store.mongo import MongoStore, connect, query
from tests.store.test_contract import FACTS

pytestmark = pytest.mark.mongo
OPEN = (State.WAITING, State.PROCESSING)
MANY = 60
TASKS: dict[State, Callable[[int], dict[str, Any]]] = {
    State.WAITING: lambda number: {"request_key": f"key-{number}"},
    State.COMPLETED: lambda number: {"worker": f"worker-{number}"},
}


@pytest.fixture
async def store(mongo_uri: str) -> AsyncIterator[MongoStore]:
    """One owner with an open task and an ended one for each of many videos; many results, many registrations."""
    client = connect(mongo_uri)
    database = f"indexes_{new_id()}"
    store = MongoStore(client, database, "this-hub")
    await store.prepare()
    sources = [Source(f"video-{number}", "v.mp4", 1, "a" * 64, "video/mp4", FACTS) for number in range(MANY)]
    records: list[Any] = [
        Task(f"{state}-{number}", "ann", "m", source, source, 1.0, state=state, **more(number))
        for number, source in enumerate(sources) for state, more in TASKS.items()
    ]
    records += [
        Media(
            f"media-{number}", "ann", Purpose.RESULT, "r.mp4", "video/mp4", 1, f"{number:064}", f"{number:032}",
            FACTS, 1.0, f"task-{number}",
        )
        for number in range(MANY)
    ]
    records += [
        Interface(f"worker-{number}", f"hash-{number}", 1.0, address=f"http://10.0.0.{number}")
        for number in range(MANY)
    ]
    await store.commit([Save(record, 0) for record in records])
    yield store
    await client.drop_database(database)
    client.close()


@pytest.mark.parametrize(("kind", "equal"), [
    (Task, {"owner": "ann", "request_key": "key-7"}),
    (Task, {"video__media_id": "video-7", "state": OPEN}),
    (Task, {"background__media_id": "video-7", "state": OPEN}),
    (Task, {"worker": "worker-7", "state": State.COMPLETED}),
    (Task, {"owner": "ann", "state": State.FAILED}),
    (Media, {"task_id": "task-7"}),
    (Media, {"owner": "ann", "sha256": f"{7:064}"}),
    (Media, {"owner": "ann", "md5": f"{7:032}"}),
    (Interface, {"token_hash": "hash-7"}),
    (Interface, {"address": "http://10.0.0.7"}),
], ids=lambda each: each.__name__ if isinstance(each, type) else "+".join(each))
async def test_only_the_answer_is_looked_at(store: MongoStore, kind: type[Any], equal: dict[str, Any]) -> None:
    find = {"find": KINDS[kind].collection, "filter": query(kind, equal), "sort": {"_id": -1}}
    told = await store.database.command({"explain": find, "verbosity": "executionStats"})
    stats = told["executionStats"]
    assert stats["totalDocsExamined"] == stats["nReturned"] == len(await store.page(kind, MANY, **equal))
    assert stats["nReturned"] == (0 if equal.get("state") is State.FAILED else 1)


async def test_the_limits_of_indexes_tell_open_tasks_from_ended_ones(store: MongoStore) -> None:
    tasks = store.database[KINDS[Task].collection]
    await tasks.delete_many({})
    await tasks.insert_many({"state": state.value} for state in State)
    for limit, ended in ((documents.OPEN, False), (documents.ENDED, True)):
        found = [document["state"] for document in await tasks.find(limit).to_list(None)]
        assert sorted(found) == sorted(state for state in State if state.ended is ended)


async def test_an_index_of_an_earlier_version_is_dropped_and_one_of_the_operators_stays(store: MongoStore) -> None:
    tasks = store.database[KINDS[Task].collection]
    await tasks.create_index([("worker", 1), ("state", 1)])
    await tasks.create_index("message")
    await store.prepare()
    names = set(await tasks.index_information())
    assert "worker_1_state_1" not in names
    assert {"message_1", "worker_1_state_1__id_-1"} <= names
    await store.drop_index(Task, "worker_1_state_1")  # as when two hubs begin at once
