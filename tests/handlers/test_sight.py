"""What a snapshot of several tasks holds, beside the events that follow it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from handlers import sight
from hub.account import User
from hub.effects import Delete, Outcome, Save
from hub.interface import OfferedModel
from hub.messages import Accept, Offer
from hub.subscriber import Subscriber
from tests.hub.stage import SlowStore, Stage
from tests.hub.world import a_task

ANN = User("ann", "ann@x", "Ann", "user", "", 0.0)


class LateStore(SlowStore):
    """Stores at once, and says so as often as `answers` allow; `stored` is set when it has stored something."""

    def __init__(self) -> None:
        super().__init__()
        self.answers, self.stored = asyncio.Semaphore(100), asyncio.Event()

    async def commit(self, changes: Sequence[Save | Delete]) -> list[Outcome]:
        outcomes = await super().commit(changes)
        self.stored.set()
        await self.answers.acquire()
        return outcomes


async def test_p9_p10_a_snapshot_holds_nothing_of_which_the_event_is_still_to_come() -> None:
    """A task was created and assigned in one commit, which is stored and not answered yet."""
    stage = Stage()
    stage.store = stage.runner.store = store = LateStore()
    await stage.start()
    worker = await stage.join()
    store.answers, store.stored = asyncio.Semaphore(0), asyncio.Event()
    stage.runner.decide([Save(OfferedModel("other", "", ""), 0)])
    await store.stored.wait()
    stage.runner.decide(stage.core.submit(a_task(), stage.clock.now()))
    offer = next(message for message in worker.written if isinstance(message, Offer))
    stage.say(Accept(offer=offer.offer))
    store.stored.clear()
    store.answers.release()
    await store.stored.wait()
    rooms: Any = SimpleNamespace(runner=stage.runner, store=store)
    subscriber = Subscriber(lambda: None)
    joining = asyncio.create_task(sight.join(rooms, ANN, subscriber, "tasks", None))
    for _ in range(5):
        await asyncio.sleep(0)
    for _ in range(100):
        store.answers.release()
    reply = await joining
    await stage.runner.carry_out([])
    told: Any = json.loads(msgspec.json.encode(reply))
    assert [(item["id"], item["version"]) for item in told["snapshot"]["items"]] == [("task-1", 2)]
    assert subscriber.take() == []
    await stage.runner.stop()
