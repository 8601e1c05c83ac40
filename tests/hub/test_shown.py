"""What viewers were shown last: nothing that was read before an event may undo it."""

from __future__ import annotations

import pytest

from hub import shown as showing
from hub.shown import Shown
from hub.task import State

from .world import a_task

READ = a_task(state=State.PROCESSING, version=2)
ENDED = a_task(state=State.CANCELLED, version=3)


@pytest.fixture
def shown() -> Shown:
    shown = Shown()
    shown.show(READ)
    return shown


def test_an_open_task_is_as_it_was_shown_whatever_the_store_has_heard(shown: Shown) -> None:
    assert shown.latest(a_task(version=1)) is READ
    assert shown.latest(a_task(version=9)) is READ


def test_p10_a_task_that_ended_after_it_was_read_has_ended(shown: Shown) -> None:
    shown.show(ENDED)
    assert shown.latest(READ) is ENDED
    assert shown.snapshot([READ], "ann", 50) == [ENDED]
    again = a_task(version=4)
    assert shown.latest(again) is again, "the store knows of a retry first"


def test_p10_a_task_that_was_deleted_after_it_was_read_is_gone(shown: Shown) -> None:
    shown.show(ENDED)
    shown.remove("task-1")
    assert shown.snapshot([READ], "ann", 50) == []


def test_p10_a_task_that_came_after_the_reading_is_there_in_its_place(shown: Shown) -> None:
    """Ids need not become durable in their order, so that one may be missing between two that were read."""
    shown.show(a_task("task-2", state=State.COMPLETED, version=7))
    shown.show(a_task("task-4", owner="bob"))
    found = shown.snapshot([a_task("task-3"), READ], "ann", 50)
    assert [task.id for task in found] == ["task-3", "task-2", "task-1"]


def test_a_snapshot_has_the_newest(shown: Shown) -> None:
    found = [a_task(f"task-{number}") for number in range(5, 1, -1)]
    assert [task.id for task in shown.snapshot(found, "ann", 2)] == ["task-5", "task-4"]


def test_what_went_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "KEPT", 3)
    shown = Shown()
    for number in range(5):
        shown.show(a_task(f"task-{number}", state=State.FAILED))
    assert list(shown.lately) == ["task-2", "task-3", "task-4"]
