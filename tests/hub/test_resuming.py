"""After an orderly restart topics go on where they ended; after any other a new epoch says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from hub import resuming
from hub.effects import Save
from hub.interface import OfferedModel
from hub.messages import Progress
from hub.task import Task
from hub.topics import Topic
from tests.hub.stage import Stage, assigned, submit


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    made = await started(Stage("first"))
    yield made
    await made.runner.stop()


def mine(stage: Stage) -> Topic:
    return stage.runner.topics.get("tasks", "ann")


async def restarted(before: Stage, life: str = "second") -> Stage:
    """The next life of the hub."""
    return await started(Stage(life, before))


async def started(stage: Stage) -> Stage:
    await stage.start()
    stage.core.models["m"] = OfferedModel("m", "", "")
    return stage


async def test_p10_p15_after_an_orderly_restart_nothing_is_missed(stage: Stage) -> None:
    await submit(stage)
    cursor = mine(stage).cursor
    await submit(stage, "task-2")
    await stage.runner.stop()
    after = await restarted(stage)
    missed = mine(after).since(cursor)
    assert missed is not None and [frame.offset for frame in missed] == [2]
    await submit(after, "task-3")
    assert mine(after).cursor == f"{cursor.rpartition(':')[0]}:3"
    assert after.runner.topic("task-1").since("x:1") is None
    await after.runner.stop()


async def test_p9_progress_that_was_held_back_is_stored_and_shown_before_the_end(stage: Stage) -> None:
    assign = await assigned(stage, await stage.join())
    for percent in (10, 20, 30):
        await stage.say(Progress(lease=assign.lease, phase="segment", progress=percent))
    cursor = mine(stage).cursor
    await stage.runner.stop()
    after = await restarted(stage)
    missed = mine(after).since(cursor)
    stored = await stage.store.get(Task, "task-1")
    assert missed is not None and stored is not None and stored.progress == 30
    assert b'"progress":30' in missed[-1].data
    await after.runner.stop()


async def test_p10_after_a_crash_old_cursors_are_declined(stage: Stage) -> None:
    await submit(stage)
    cursor = mine(stage).cursor
    after = await restarted(stage)
    assert mine(after).since(cursor) is None
    await after.runner.stop()


async def test_p10_a_record_is_good_for_one_start_alone(stage: Stage) -> None:
    await submit(stage)
    cursor = mine(stage).cursor
    await stage.runner.stop()
    second = await restarted(stage)
    assert mine(second).since(cursor) == []
    third = await restarted(stage, "third")
    assert mine(third).since(cursor) is None, "the second life did not end in order"
    await asyncio.gather(second.runner.stop(), third.runner.stop())


async def test_p10_what_another_hub_did_meanwhile_makes_topics_begin_anew(stage: Stage) -> None:
    await submit(stage)
    cursor = mine(stage).cursor
    await stage.runner.stop()
    task = await stage.store.get(Task, "task-1")
    assert task is not None
    await stage.store.elsewhere().commit([Save(replace(task, version=task.version + 1), task.version)])
    after = await restarted(stage)
    assert mine(after).since(cursor) is None
    await after.runner.stop()


async def test_p12_a_database_that_is_away_at_the_end_costs_the_cursors_alone(stage: Stage) -> None:
    await submit(stage)
    cursor = mine(stage).cursor
    stage.store.away = True
    await stage.runner.stop()
    stage.store.away = False
    after = await restarted(stage)
    assert mine(after).since(cursor) is None
    await after.runner.stop()


async def test_waiting_tasks_are_told_anew_after_a_restart(stage: Stage) -> None:
    """What viewers were told of their outlook in the last life is not known any more."""
    await submit(stage)
    await stage.runner.stop()
    after = await restarted(stage)
    watcher = after.watch()
    told = [task for task in after.runner.announcer.changed() if task is not None]
    assert [task.id for task in told] == ["task-1"]
    assert watcher.types == []
    await after.runner.stop()


def test_p14_what_is_taken_along_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    monkeypatch.setattr(resuming, "EVENTS", 3)
    monkeypatch.setattr(resuming, "TOPICS", 2)
    topics = stage.runner.topics
    for name in "abc":
        for _ in range(5):
            topics.get(name).publish("updated", {}, "now")
    end = resuming.ending(topics, "state", 1)
    assert [(each.name, each.offset, len(each.history)) for each in end.topics] == [("b", 5, 3), ("c", 5, 3)]
    monkeypatch.setattr(resuming, "BYTES", 10)
    assert [each.history for each in resuming.ending(topics, "state", 1).topics] == [(), ()]
