"""What becomes of a task that has ended: its owner has it done after all, or has it forgotten."""

from __future__ import annotations

import pytest

from hub import workload
from hub.effects import Delete, Publish, Save
from hub.messages import COMPLETED, DELETED, UPDATED, Failed, Status
from hub.task import IllegalMove, State, Task

from .world import World, published


@pytest.fixture
def world() -> World:
    return World()


# --- retry


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_an_ended_task_can_be_retried(world: World, end: str) -> None:
    lease = world.running()
    if end == "failed":
        world.say(Failed(lease=lease, code="x", retryable=False))
    else:
        world.cancel()
        world.say(Status(slots_free=1))
    effects = world.retry()
    assert published(effects) == [("task-1", UPDATED)]
    assert world.stored().state is State.WAITING and world.stored().attempt == 0
    assert published(world.complete(world.accept(effects).lease)) == [("task-1", COMPLETED)]


def test_p7_a_completed_task_cannot_be_retried(world: World) -> None:
    world.complete(world.running())
    with pytest.raises(IllegalMove):
        world.retry()


def test_an_open_task_cannot_be_retried(world: World) -> None:
    world.running()
    with pytest.raises(IllegalMove) as refusal:
        world.retry()
    assert refusal.value.code == "task_processing"


def test_two_retries_at_once_are_one(world: World) -> None:
    world.running()
    world.cancel()
    as_stored = world.stored()
    world.retry()
    with pytest.raises(IllegalMove) as refusal:
        world.core.retry(as_stored, world.now)
    assert refusal.value.code == "task_waiting"


def test_a_retry_goes_on_from_the_newest_version_even_if_the_store_lags(world: World) -> None:
    world.running()
    as_stored = world.stored()
    world.cancel()
    [save, *_] = world.take(world.core.retry(as_stored, world.now))
    assert isinstance(save, Save) and save.previous == as_stored.version + 1


def test_every_end_leaves_nothing_behind(world: World) -> None:
    for number, end in enumerate(["complete", "cancel", "fail"]):
        lease = world.running(f"task-{number}")
        if end == "complete":
            world.complete(lease)
        elif end == "cancel":
            world.cancel(f"task-{number}")
            world.say(Status(slots_free=1))
        else:
            world.say(Failed(lease=lease, code="x", retryable=False))
    work, dispatcher = world.core.work, world.core.dispatcher
    assert not any((work.tasks, work.leases, work.pacing.paces, work.verifying, world.core.offers.of))
    assert not any((dispatcher.asleep, dispatcher.charged, dispatcher.left_out, dispatcher.kept, dispatcher.avoided))
    [queue] = dispatcher.queues.values()
    assert (queue.size, queue.work, queue.lines, queue.entered) == (0, 0, {}, {})
    assert world.session().free == 1


def test_p14_what_is_remembered_of_ended_work_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "FINISHED_KEPT", 3)
    monkeypatch.setattr(workload, "ENDED_KEPT", 2)
    for number in range(6):
        world.complete(world.running(f"task-{number}"))
    assert (len(world.core.work.finished), list(world.core.work.ended)) == (3, ["task-4", "task-5"])


# --- delete


def test_an_ended_task_is_forgotten_on_request(world: World) -> None:
    world.join()
    world.submit()
    world.cancel()
    ended = world.stored()
    assert world.core.delete(ended) == [Delete(Task, "task-1", ended.version), Publish(ended, DELETED)]


def test_p5_an_open_task_is_not_deleted_whatever_the_store_says(world: World) -> None:
    """It was read as ended; while its results were looked up, its owner has asked for it again."""
    world.join()
    world.submit()
    world.cancel()
    read = world.stored()
    world.retry()
    with pytest.raises(IllegalMove) as refusal:
        world.core.delete(read)
    assert refusal.value.code == "task_waiting"
    assert world.task().state is State.WAITING


def test_what_the_store_has_not_heard_of_yet_is_deleted_all_the_same(world: World) -> None:
    world.join()
    world.submit()
    read = world.stored()
    world.cancel()
    assert world.core.delete(read) == [Delete(Task, "task-1", 2), Publish(world.stored(), DELETED)]
