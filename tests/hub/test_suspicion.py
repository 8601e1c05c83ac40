"""Suspicion: which failures count against a worker, and when they are enough to pause it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.suspicion import KEPT, MILD, Suspicions
from hub.task import LOST, Attempt, Task

from .world import START, a_task

AFTER = 3


@pytest.fixture
def suspicions() -> Suspicions:
    return Suspicions(AFTER)


def failing(
    suspicions: Suspicions, tasks: int, worker: str = "w1", code: str = "oom", mild: bool = False
) -> list[bool]:
    """So many tasks of as many users fail one after the other; after which of them it was enough."""
    return [suspicions.failed(worker, of(f"user-{number}"), code, mild) for number in range(tasks)]


def of(owner: str, id: str | None = None, **changes: object) -> Task:
    return a_task(id or f"task-of-{owner}", owner=owner, **changes)


def after_failing(task: Task, *workers: str) -> Task:
    attempts = tuple(Attempt(1 + number, worker, "oom", "", START) for number, worker in enumerate(workers))
    return replace(task, attempts=attempts)


def test_a_worker_on_which_many_users_tasks_fail_is_suspected(suspicions: Suspicions) -> None:
    assert failing(suspicions, AFTER) == [False, False, True]


def test_the_same_task_again_and_again_is_the_tasks_fault(suspicions: Suspicions) -> None:
    assert not any(suspicions.failed("w1", of("ann"), "oom", False) for _ in range(10))


def test_one_users_videos_may_all_be_broken(suspicions: Suspicions) -> None:
    assert not any(suspicions.failed("w1", of("eve", f"poison-{number}"), "crash", False) for number in range(50))
    assert failing(suspicions, AFTER - 2) == [False]
    assert suspicions.failed("w1", of("bob"), "oom", False)


def test_a_success_clears_the_suspicion(suspicions: Suspicions) -> None:
    failing(suspicions, AFTER - 1)
    suspicions.completed("w1", of("ann"))
    assert failing(suspicions, AFTER - 1) == [False, False]


def test_others_are_not_blamed(suspicions: Suspicions) -> None:
    failing(suspicions, AFTER - 1, "w1")
    assert failing(suspicions, 1, "w2") == [False]


def test_a_task_that_another_worker_completes_counts_by_itself(suspicions: Suspicions) -> None:
    """So a worker is found out that fails whatever its only user orders."""
    found = []
    for number in range(AFTER):
        task = of("ann", f"task-{number}")
        found.append(suspicions.failed("w1", task, "oom", False))
        suspicions.completed("w2", after_failing(task, "w1"))
    assert found == [False, False, True]


def test_it_can_be_another_workers_success_that_is_enough(suspicions: Suspicions) -> None:
    tasks = [of("ann", f"task-{number}") for number in range(AFTER)]
    assert not any([suspicions.failed("w1", task, "oom", False) for task in tasks])
    guilty = [suspicions.completed("w2", after_failing(task, "w1")) for task in tasks[:AFTER - 1]]
    assert guilty == [{}, {"w1": "oom"}], "the last one counts for its owner"


def test_a_task_that_is_completed_says_nothing_of_what_was_forgiven(suspicions: Suspicions) -> None:
    task = of("ann")
    suspicions.failed("w1", task, "oom", False)
    suspicions.completed("w1", of("bob"))
    assert suspicions.completed("w2", after_failing(task, "w1")) == {}


def test_a_worker_that_fails_first_and_completes_then_is_above_suspicion(suspicions: Suspicions) -> None:
    suspicions.failed("w1", of("ann"), "oom", False)
    assert suspicions.completed("w1", after_failing(of("ann"), "w1")) == {}
    assert failing(suspicions, AFTER - 1) == [False, False]


def test_a_worker_that_blames_every_input_is_suspected_later(suspicions: Suspicions) -> None:
    found = failing(suspicions, MILD * AFTER, mild=True)
    assert (found.index(True), found.count(True)) == (MILD * AFTER - 1, 1)


def test_what_is_mild_counts_with_what_is_not(suspicions: Suspicions) -> None:
    failing(suspicions, MILD * AFTER - 1, mild=True)
    assert suspicions.failed("w1", of("ann"), "oom", False)


def test_what_is_lost_in_one_silence_counts_once(suspicions: Suspicions) -> None:
    """Its leases end one after the other, as they were renewed."""
    assert failing(suspicions, 8, code=LOST) == [False] * 8
    assert failing(suspicions, AFTER - 2) == [False]


def test_a_worker_that_is_lost_with_every_task_that_it_takes_is_suspected(suspicions: Suspicions) -> None:
    found = []
    for number in range(AFTER):
        suspicions.began("w1")
        found.append(suspicions.failed("w1", of(f"user-{number}"), LOST, False))
    assert found == [False, False, True]


def test_no_more_is_remembered_than_is_of_use(suspicions: Suspicions) -> None:
    for number in range(2 * KEPT):
        suspicions.failed("w1", of("eve", f"poison-{number}"), "oom", False)
    assert len(suspicions.records["w1"].failures) == KEPT


def test_it_can_be_switched_off() -> None:
    assert not any(failing(Suspicions(0), 100))
