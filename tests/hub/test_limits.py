"""Limits: a worker that takes no large videos is asked where there are none."""

from __future__ import annotations

from hub.dispatcher import LOOKED_AT, LOOKS, PARTS
from hub.messages import Model
from hub.session import WorkerSession

from .queues import LITTLE, a_worker, pairs, small, with_tasks
from .world import START, a_hello, a_task, lines_run


def test_what_is_too_large_for_a_worker_hides_nothing_behind_it() -> None:
    dispatcher = with_tasks(*(f"{number:03}" for number in range(LOOKED_AT + 1)))
    for number in range(LOOKED_AT + 1):
        dispatcher.add(a_task(f"large {number}", owner=f"u{number}"), START)
    dispatcher.add(a_task("little", video=LITTLE), START)
    dispatcher.add(a_task("his", owner="zoe", video=LITTLE), START)
    assert {task for task, _ in pairs(dispatcher, small())} == {"little", "his"}


def test_what_came_before_a_worker_with_limits_is_looked_at_by_and_by() -> None:
    dispatcher = with_tasks(*(f"{number:05}" for number in range(2 * LOOKS)))
    dispatcher.add(a_task("little", owner="zoe", video=LITTLE), START)
    assert pairs(dispatcher, small()) == []
    dispatcher.add(a_task("new", owner="bob", video=LITTLE), START)
    assert pairs(dispatcher, small(slots=1)) == [("new", "small")], "what comes later is known at once"
    assert pairs(dispatcher, small()) == [("little", "small")]


def test_nothing_scans_a_worker_for_which_all_is_too_large_looks_at_each_task_once() -> None:
    dispatcher = with_tasks(*(f"{number:05}" for number in range(LOOKS)))
    assert lines_run(lambda: pairs(dispatcher, small())) > LOOKS
    assert lines_run(lambda: pairs(dispatcher, small())) < 200


def test_one_owners_large_tasks_do_not_stand_before_anothers_little_ones() -> None:
    """Ann's turn comes first and nobody can use it."""
    dispatcher = with_tasks(*(f"large {number:05}" for number in range(3 * LOOKS)))
    for number in range(4):
        dispatcher.add(a_task(f"little {number}", owner="bob", video=LITTLE), START + number)
    served = [id for _ in range(4) for id, _ in pairs(dispatcher, small())]
    assert served == [f"little {number}" for number in range(4)]


def test_what_leaves_the_line_leaves_it_for_all_limits() -> None:
    dispatcher, little = with_tasks("large"), a_task("little", video=LITTLE)
    assert pairs(dispatcher, small()) == []
    dispatcher.add(little, START)
    dispatcher.remove(little)
    assert pairs(dispatcher, small(), a_worker("other")) == [("large", "other")]
    assert dispatcher.queues["m"].parts == {}, "nothing waits, nothing is kept"


def test_p14_limits_of_workers_that_are_gone_are_forgotten() -> None:
    dispatcher = with_tasks("a")
    for pixels in range(1, 100):
        assert pairs(dispatcher, WorkerSession("s", a_hello("w", [Model("m", max_pixels=pixels)]), START)) == []
    assert len(dispatcher.queues["m"].parts) <= PARTS + 1
