"""A set of three real servers that loses its primary while the hub claims tasks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from pymongo.errors import PyMongoError

from hub.effects import Outcome, Save
from hub.errors import Unavailable
from hub.ids import new_id
from hub.task import Lease, State, Task
from store.mongo import MongoStore, connect
from tests.hub.world import START, a_task

from .servers import Servers, servers

pytestmark = [pytest.mark.mongo, pytest.mark.chaos]


class Claims:
    """One hub that claims waiting tasks, one after the other, and remembers what it was told is durable."""

    def __init__(self, store: MongoStore) -> None:
        self.store = store
        self.claimed: dict[str, str] = {}
        self.missed: list[str] = []

    async def claim_all(self, tasks: list[Task]) -> None:
        for task in tasks:
            lease = Lease(new_id(), self.store.writer, START)
            after = a_task(task.id, state=State.PROCESSING, lease=lease, worker=lease.worker, attempt=1, version=2)
            while True:
                with suppress(Unavailable):
                    [outcome] = await self.store.commit([Save(after, 1)])
                    break
                await asyncio.sleep(0.05)
            if outcome is Outcome.DONE:
                self.claimed[task.id] = lease.id
            else:
                self.missed.append(task.id)
            await asyncio.sleep(0.01)


async def lose_primaries(own: Servers) -> None:
    """The primary steps down; its successor is killed."""
    await asyncio.sleep(1)
    async with own.node(await own.primary()) as node:
        with suppress(PyMongoError):
            await node.admin.command("replSetStepDown", 10, force=True)
    await asyncio.sleep(1)
    port = await own.primary()
    own.processes[port].kill()
    own.processes[port].wait()
    await own.primary()


async def test_p5_p6_fault_7_a_failover_while_tasks_are_claimed(tmp_path: Path) -> None:
    """Two hubs claim the same tasks: each is claimed by exactly one, and what was told durable is there."""
    async with servers(tmp_path, 3) as own:
        clients = [connect(own.uri) for _ in range(2)]
        database = f"failover_{new_id()}"
        first, second = (MongoStore(client, database, f"hub-{place}") for place, client in enumerate(clients))
        await first.prepare()
        tasks = [a_task(f"task-{number:03}") for number in range(300)]
        assert set(await first.commit([Save(task, 0) for task in tasks])) == {Outcome.DONE}
        hubs = [Claims(first), Claims(second)]
        async with asyncio.timeout(120):
            await asyncio.gather(lose_primaries(own), *(hub.claim_all(tasks) for hub in hubs))
        stored = {task.id: task for task in await first.page(Task, 1000)}
        assert stored.keys() == {task.id for task in tasks}
        told = [*hubs[0].claimed.items(), *hubs[1].claimed.items()]
        assert len(told) == len(tasks) == len(dict(told)), "each was claimed once"
        for id, lease in told:
            assert (held := stored[id].lease) is not None and held.id == lease
        for client in clients:
            client.close()
