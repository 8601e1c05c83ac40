"""News of waiting tasks: who watches is told where they stand, soon, however many others watch, and nothing twice."""

from __future__ import annotations

import pytest

from hub import news as newsroom
from hub.effects import Publish
from hub.messages import CREATED, UPDATED
from hub.news import FIRST, LOOKED_AT, MOST, PAUSE

from .stage import Stage, assigned, submit
from .world import START, a_task


@pytest.fixture
async def stage(stage: Stage) -> Stage:
    """A runner whose only worker is busy, so that what comes waits."""
    await assigned(stage, await stage.join(), "running")
    return stage


def crowd(stage: Stage, users: int, tasks: int) -> None:
    """So many users who all look at so many waiting tasks of theirs each."""
    for user in range(users):
        for number in range(tasks):
            task = a_task(f"u{user:03}-{number:04}", owner=f"user-{user}", created_at=START + number)
            stage.core.work.wait(task, START)
            stage.runner.shown.show(task)
        stage.watch("tasks", f"user-{user}")


def tell(stage: Stage) -> list[str]:
    """One round: what it told of."""
    told = [task for task in stage.runner.announcer.changed() if task is not None]
    for task in told:
        stage.runner.publish(Publish(task, UPDATED))
    return [task.id for task in told]


def told_all(stage: Stage) -> int:
    """Rounds until there is no news."""
    rounds = 1
    while tell(stage):
        rounds += 1
    return rounds


async def move(stage: Stage) -> None:
    """Eve's second task comes to the first place."""
    await stage.runner.carry_out(stage.core.cancel(stage.core.tasks["eve-1"], stage.clock.now()))


@pytest.mark.parametrize(("name", "owner"), [("task:eve-2", ""), ("tasks", "eve")])
async def test_p18_who_watches_one_task_does_not_wait_for_those_who_watch_many(
    stage: Stage, name: str, owner: str
) -> None:
    crowd(stage, 30, 1000)
    await submit(stage, "eve-1", owner="eve")
    await submit(stage, "eve-2", owner="eve", created_at=START + 1)
    stage.watch(name, owner)
    tell(stage)
    await move(stage)
    assert "eve-2" in [*tell(stage), *tell(stage)]


async def test_p18_all_watched_tasks_are_told_of_in_turn(stage: Stage) -> None:
    crowd(stage, 4, 100)
    assert told_all(stage) <= 1 + 400 // MOST
    await submit(stage, "first", owner="eve", priority=9)
    assert told_all(stage) <= 2 + 400 // MOST


async def test_p18_what_was_told_and_is_not_remembered_any_more_is_told_anew(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newsroom, "TOLD", 10)
    crowd(stage, 1, 20)
    told = [*tell(stage), *tell(stage)]
    assert set(told) == {f"u000-{number:04}" for number in range(20)}


async def test_what_is_watched_and_stays_as_it_is_is_told_once_whatever_comes_and_goes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newsroom, "TOLD", 10)
    crowd(stage, 1, 5)
    assert len(tell(stage)) == 5
    for number in range(20):
        task = a_task(f"other-{number}", model="n")
        stage.core.work.wait(task, START)
        stage.runner.publish(Publish(task, CREATED))
        assert tell(stage) == []


async def test_p18_an_admin_sees_places_move(stage: Stage) -> None:
    watcher = stage.watch("admin", "")
    await submit(stage, "eve-1", owner="eve")
    await submit(stage, "bob-1", owner="bob")
    await move(stage)
    assert tell(stage) == ["bob-1"]
    watcher.types
    assert watcher.events[-1].data["position"] == 1


async def test_an_admin_who_watches_costs_no_more_than_so_many_looks(stage: Stage) -> None:
    for user in range(3 * FIRST):
        stage.core.work.wait(a_task(f"u{user:04}", owner=f"user-{user}"), START)
    for number in range(3 * FIRST):
        stage.core.work.wait(a_task(f"n{number:04}", model="n"), START)
    looks = list(stage.runner.announcer.news.tasks_of(stage.runner.topics.get("admin")))
    assert len(looks) == 2 * FIRST


async def test_a_round_gives_way_again_and_again_and_ends(stage: Stage) -> None:
    crowd(stage, 3, 1000)
    told_all(stage)
    steps = list(stage.runner.announcer.changed())
    assert steps == [None] * (LOOKED_AT // PAUSE)


async def test_who_looks_no_more_is_not_looked_for(stage: Stage) -> None:
    watcher = stage.watch("tasks", "eve")
    await submit(stage, "eve-1", owner="eve")
    await submit(stage, "eve-2", owner="eve", created_at=START + 1)
    tell(stage)
    watcher.subscriber.close()
    await move(stage)
    assert tell(stage) == []
    assert not stage.runner.announcer.news.left
