"""What goes wrong between the hub and a real MongoDB, each fault by its number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from hub.effects import Outcome, Save
from hub.errors import Unavailable
from hub.ids import new_id
from hub.task import State, Task
from store.mongo import MongoStore, connect
from tests.chaos.proxy import Ends, Proxy
from tests.hub.stage import Stage
from tests.hub.world import a_task

from .servers import Servers, servers

pytestmark = pytest.mark.mongo


@pytest.fixture
async def store(mongo_uri: str) -> AsyncIterator[MongoStore]:
    client = connect(mongo_uri)
    made = MongoStore(client, f"faults_{new_id()}", "this-hub")
    await made.prepare()
    yield made
    await client.drop_database(made.database.name)
    client.close()


# --- done but told failed


async def test_fault_3_every_kind_of_write_is_done_and_told_failed(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Created, moved on and deleted: each time the answer is lost, and asking again changes nothing more."""
    write = store.write

    async def deceiving(kind: type[Any], changes: Any) -> list[Outcome]:
        await write(kind, changes)
        raise Unavailable("the answer is lost")

    moved = a_task(state=State.CANCELLED, version=2)
    for change in (Save(a_task(), 0), Save(moved, 1)):
        with monkeypatch.context() as lying:
            lying.setattr(store, "write", deceiving)
            with pytest.raises(Unavailable):
                await store.commit([change])
        assert await store.commit([change]) == [Outcome.DONE]
    assert await store.page(Task, 10) == [moved]


class OneWay(Proxy):
    """The line to the mongod at `path`; while `losing`, questions arrive and answers do not, not even later."""

    def __init__(self, path: str) -> None:
        super().__init__(0)
        self.path, self.losing, self.lost = path, False, 0

    async def reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: Ends) -> None:
        lost = 0
        while data := await reader.read(65536):
            if writer is ends.near and (self.losing or lost):
                lost += len(data)  # what comes after a gap in a stream cannot arrive either
                self.lost += len(data)
                continue
            writer.write(data)
            await writer.drain()


async def test_fault_14_a_commit_arrives_and_its_answer_is_lost_on_the_way(mongo_uri: str, store: MongoStore) -> None:
    """A line that loses one direction: Unavailable in time; with the line back the same commit is done, once."""
    line = OneWay(unquote(urlsplit(mongo_uri).netloc))
    await line.start()
    client = connect(f"mongodb://127.0.0.1:{line.port}/?directConnection=true")
    behind = MongoStore(client, store.database.name, "that-hub")
    first, second = a_task("first"), a_task("second")
    moved, ended = (a_task("first", state=State.CANCELLED, version=version) for version in (2, 3))
    assert await behind.commit([Save(first, 0)]) == [Outcome.DONE]
    for changes, there in (
        ([Save(second, 0), Save(moved, 1)], [moved]),  # what is new is sent last, and here after the other's answer
        ([Save(ended, 2)], [second, ended]),
    ):
        line.losing, line.lost = True, 0
        with pytest.raises(Unavailable):
            async with asyncio.timeout(20):
                await behind.commit(changes)
        assert line.lost and await store.page(Task, 10) == there, "what was sent was done all the same"
        line.losing = False
        assert await answered(lambda: behind.commit(changes)) == [Outcome.DONE] * len(changes)
        assert await behind.commit(changes) == [Outcome.DONE] * len(changes)
    assert await behind.page(Task, 10) == await store.page(Task, 10) == [second, ended]
    client.close()
    line.stop()


# --- failed before doing


@pytest.mark.chaos
@pytest.mark.parametrize("failure", [
    {"closeConnection": True}, {"errorCode": 91}, {"errorCode": 189}, {"errorCode": 11600}, {"errorCode": 64},
    {"blockConnection": True, "blockTimeMS": 6000},
], ids=str)
async def test_fault_4_a_call_that_fails_is_unavailable_and_the_next_one_is_clean(
    own: Servers, failure: dict[str, Any]
) -> None:
    async with own.node(own.ports[0]) as admin:
        client = connect(own.uri)
        store = MongoStore(client, f"faults_{new_id()}", "this-hub")
        await store.prepare()
        await store.commit([Save(a_task("first"), 0)])
        calls = {
            "insert": lambda: store.commit([Save(a_task("second"), 0)]),
            "update": lambda: store.commit([Save(a_task("first", state=State.CANCELLED, version=2), 1)]),
            "find": lambda: store.page(Task, 10),
        }
        commands = ["insert", "update", "find"] if "blockConnection" not in failure else ["insert"]
        for name in commands:
            data = {"failCommands": [name], **failure}
            await admin.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
            with pytest.raises(Unavailable):
                await calls[name]()
            await admin.admin.command("configureFailPoint", "failCommand", mode="off")
            answer = await answered(calls[name])
            assert answer == [Outcome.DONE] or name == "find"
        assert [task.id for task in await store.page(Task, 10)] == ["second", "first"]
        client.close()


async def test_fault_28_a_reading_that_is_lost_in_its_middle_is_said_and_the_next_one_is_whole(own: Servers) -> None:
    """The server forgets where a cursor was (286, as of a change stream); never does a part pass for the whole."""
    async with own.node(own.ports[0]) as admin:
        client = connect(own.uri)
        store = MongoStore(client, f"faults_{new_id()}", "this-hub")
        await store.prepare()
        await store.commit([Save(a_task(f"task-{number:03}"), 0) for number in range(300)])
        data = {"failCommands": ["getMore"], "errorCode": 286}
        await admin.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
        with pytest.raises(Unavailable):
            await store.page(Task, 1000)
        assert len(await store.page(Task, 1000)) == 300
        client.close()


async def answered(call: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until there is an answer: the driver looks for its primary anew, and takes some seconds."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.1)


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Servers]:
    """A server that can be told to fail."""
    async with servers(tmp_path) as made:
        yield made


# --- rotten state


@pytest.mark.parametrize("rotten", [
    {}, {"state": 5}, {"version": "two"}, {"video": None}, {"lease": {"id": 5}}, {"priority": 2 ** 70 * 1.0},
], ids=str)
async def test_fault_30_what_cannot_be_read_is_left_out_and_named_and_everything_else_starts(
    store: MongoStore, rotten: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await store.commit([Save(a_task("task-1"), 0), Save(a_task("task-2"), 0)])
    tasks = store.database["tasks"]
    if rotten:
        await tasks.update_one({"_id": "task-1"}, {"$set": rotten})
    else:
        await tasks.replace_one({"_id": "task-1"}, {"state": "waiting"})
    stage = Stage()
    stage.runner.store = store
    await stage.start()
    assert list(stage.core.tasks) == ["task-2"]
    assert await store.get(Task, "task-1") is None
    assert [task.id for task in await store.page(Task, 10)] == ["task-2"]
    assert await tasks.find_one({"_id": "task-1"}) is not None, "somebody may still mend it"
    named = [record.message for record in caplog.records if "unreadable_record" in record.message]
    assert named and all("task-1" in line for line in named)
    await stage.runner.stop()
    caplog.clear()
