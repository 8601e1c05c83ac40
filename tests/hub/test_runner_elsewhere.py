"""What another process has done to the database, or the one before this: the store is believed, and never too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import pytest
from msgspec.structs import replace

from hub import elsewhere, runner as running
from hub.effects import Delete, Save
from hub.messages import CANCELLED, CREATED, DELETED, UPDATED, Offer
from hub.task import State, Task

from .stage import Stage, decided, submit
from .world import a_task

R = TypeVar("R")


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A runner that is not started and looks again soon; time passes only when the test says so."""
    monkeypatch.setattr(running, "TICK_S", 3600)
    monkeypatch.setattr(elsewhere, "LOOK_AGAIN_S", 0.05)
    stage = Stage()
    yield stage
    stage.store.open.set()
    await stage.runner.stop()


async def looked(stage: Stage) -> None:
    """Wait until the runner has looked again, and has believed what it saw."""
    async with asyncio.timeout(5):
        while any("look_again" in repr(duty) or "read_again" in repr(duty) for duty in stage.runner.duties):
            await asyncio.sleep(0.01)


# --- writes of the process before, which arrive when this one has read already


async def test_p5_a_task_that_is_written_only_after_the_start_is_found(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.runner.start()
    transport, watcher = await stage.join(), stage.watch()
    await stage.store.elsewhere().commit([Save(a_task(), 0)])
    await watcher.see(UPDATED)
    assert [message.task for message in transport.written if isinstance(message, Offer)] == ["task-1"]
    assert "task_moved_elsewhere" in caplog.text
    caplog.clear()


async def test_p10_an_end_that_is_written_only_after_the_start_is_shown(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.store.commit([Save(a_task(), 0), Save(a_task("task-2"), 0)])
    await stage.runner.start()
    watcher = stage.watch()
    cancelled = a_task(state=State.CANCELLED, version=2)
    await stage.store.elsewhere().commit([Save(cancelled, 1), Delete(Task, "task-2")])
    await looked(stage)
    assert sorted(watcher.types) == sorted([UPDATED, DELETED])
    assert (stage.core.tasks, stage.runner.view(a_task())["state"]) == ({}, "cancelled")
    caplog.clear()


async def test_what_this_process_does_while_it_looks_is_its_own_business(stage: Stage) -> None:
    await stage.store.commit([Save(a_task(), 0), Save(a_task("task-2"), 0)])
    await stage.runner.start()
    await stage.join(slots=1)
    watcher = stage.watch()
    await stage.runner.decide(stage.core.cancel(a_task(), stage.clock.now()))
    stage.store.hold()
    decisions = [decided(stage, "task-3"), stage.runner.decide(stage.core.cancel(a_task("task-2"), stage.clock.now()))]
    await stage.store.entered.wait()
    await looked(stage)
    stage.store.open.set()
    await asyncio.gather(*decisions)
    assert watcher.types == [CANCELLED, CREATED, CANCELLED]
    assert list(stage.core.tasks) == ["task-3"]


# --- readings that come late


async def test_p9_what_became_durable_while_the_store_was_read_is_not_undone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.start()
    await stage.join()
    await submit(stage)
    watcher, readings = stage.watch(), [asyncio.Event(), asyncio.Event()]
    get, begun, waiting = stage.store.get, asyncio.Event(), iter(readings)

    async def slow_get(kind: type[R], id: str) -> R | None:
        found = await get(kind, id)
        begun.set()
        await next(waiting).wait()
        return found

    monkeypatch.setattr(stage.store, "get", slow_get)
    stage.runner.elsewhere.adopt("task-1")
    await begun.wait()
    await stage.runner.decide(stage.core.cancel(a_task(), stage.clock.now()))
    for reading in readings:
        reading.set()
    await stage.settled()
    assert [event.data["state"] for event in await watcher.see(CANCELLED, UPDATED)] == ["cancelled", "cancelled"]
    assert stage.core.tasks == {}


async def test_p9_what_is_not_durable_yet_is_waited_for_before_the_store_is_read(stage: Stage) -> None:
    await stage.start()
    await stage.join()
    await submit(stage)
    watcher = stage.watch()
    stage.store.hold()
    done = stage.runner.decide(stage.core.cancel(a_task(), stage.clock.now()))
    await stage.store.entered.wait()
    stage.runner.elsewhere.adopt("task-1")
    stage.store.open.set()
    await done
    await stage.settled()
    assert [event.data["state"] for event in await watcher.see(CANCELLED, UPDATED)] == ["cancelled", "cancelled"]


async def test_a_task_is_adopted_once_however_often_it_was_found_moved(stage: Stage) -> None:
    await stage.start()
    await submit_elsewhere(stage)
    watcher = stage.watch()
    stage.runner.elsewhere.adopt("task-1")
    stage.runner.elsewhere.adopt("task-1")
    await stage.settled()
    await watcher.see(UPDATED)


async def submit_elsewhere(stage: Stage) -> None:
    await stage.store.elsewhere().commit([Save(replace(a_task(), version=3), 0)])
