"""What a snapshot holds beside the events that follow it, when the store is ahead of what was shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from handlers import sight
from hub.account import User
from hub.effects import Delete, Outcome, Publish, Save
from hub.errors import NotFound
from hub.ids import new_id
from hub.interface import OfferedModel
from hub.messages import DELETED, Accept, Joined, Offer
from hub.subscriber import Subscriber
from hub.task import State, Task
from tests.hub.stage import SlowStore, Stage
from tests.hub.world import a_task

ANN = User("ann", "ann@x", "Ann", "admin", "", 0.0)
ID = new_id()
TOPICS = ("tasks", "admin", f"task:{ID}")


class LateStore(SlowStore):
    """Stores at once, and says so as often as `answers` allow; `stored` and `read` tell when that was done."""

    def __init__(self) -> None:
        super().__init__()
        self.answers, self.stored, self.read = asyncio.Semaphore(100), asyncio.Event(), asyncio.Event()

    async def commit(self, changes: Sequence[Save | Delete]) -> list[Outcome]:
        outcomes = await super().commit(changes)
        self.stored.set()
        await self.answers.acquire()
        return outcomes

    async def page(self, kind: type[Any], limit: int, before: str | None = None, **equal: Any) -> list[Any]:
        found = await super().page(kind, limit, before, **equal)
        self.read.set()
        return found

    async def get(self, kind: type[Any], id: str) -> Any:
        found = await super().get(kind, id)
        self.read.set()
        return found


class Late:
    """A hub whose store does not answer, and somebody who subscribes."""

    def __init__(self) -> None:
        self.stage, self.store = Stage(), LateStore()
        self.stage.store = self.stage.runner.store = self.store
        self.subscriber = Subscriber(lambda: None)

    async def answer_no_more(self) -> None:
        """From here on what is stored is not answered."""
        self.store.answers, self.store.stored = asyncio.Semaphore(0), asyncio.Event()
        self.stage.runner.decide([Save(OfferedModel("other", "", ""), 0)])
        await self.store.stored.wait()

    async def answer_once(self) -> None:
        """One answer; what was decided meanwhile is stored as one commit."""
        self.store.stored.clear()
        self.store.answers.release()
        await self.store.stored.wait()

    async def join(self, topic: str) -> Joined:
        """Subscribe; the store answers once it has been read."""
        self.store.read.clear()
        rooms: Any = SimpleNamespace(runner=self.stage.runner, store=self.store)
        joining = asyncio.create_task(sight.join(rooms, ANN, self.subscriber, topic, None))
        await self.store.read.wait()
        for _ in range(100):
            self.store.answers.release()
        joined = await joining
        await self.stage.runner.carry_out([])
        return joined


@pytest_asyncio.fixture
async def late() -> AsyncIterator[Late]:
    late = Late()
    await late.stage.start()
    yield late
    await late.stage.runner.stop()


def items(joined: Joined) -> list[tuple[str, int]]:
    """The tasks in a snapshot, and their versions."""
    shown: Any = json.loads(msgspec.json.encode(joined.snapshot))
    return [(item["id"], item["version"]) for item in shown.get("items", [shown])]


@pytest.mark.parametrize("topic", TOPICS)
async def test_p9_p10_nothing_stands_in_a_snapshot_of_which_the_event_is_still_to_come(late: Late, topic: str) -> None:
    """A task is created and assigned in one commit."""
    worker = await late.stage.join()
    await late.answer_no_more()
    late.stage.runner.decide(late.stage.core.submit(a_task(ID), late.stage.clock.now()))
    offer = next(message for message in worker.written if isinstance(message, Offer))
    late.stage.say(Accept(offer=offer.offer))
    await late.answer_once()
    assert items(await late.join(topic)) == [(ID, 2)]
    assert late.subscriber.take() == []


@pytest.mark.parametrize("topic", TOPICS)
async def test_p10_a_task_whose_deletion_is_shown_meanwhile_is_not_in_a_snapshot(late: Late, topic: str) -> None:
    ended = a_task(ID, state=State.CANCELLED)
    await late.stage.runner.carry_out([Save(ended, 0)])
    await late.answer_no_more()
    late.stage.runner.decide([Save(OfferedModel("more", "", ""), 0)])
    late.stage.runner.decide([Delete(Task, ID), Publish(ended, DELETED)])
    if topic.startswith("task:"):
        with pytest.raises(NotFound):
            await late.join(topic)
    else:
        assert items(await late.join(topic)) == []
    assert late.subscriber.take() == []
