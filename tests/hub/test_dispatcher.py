"""The dispatcher: which task goes to which worker, in which order, and at what price."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hub.dispatcher import LEFT_OUT_S, Dispatcher
from hub.session import Offered, Phase, WorkerSession

from .world import START, a_hello, a_task


def a_worker(name: str = "w1", models: Sequence[str] = ("m",), slots: int = 1) -> WorkerSession:
    return WorkerSession(f"session-{name}", a_hello(name, models, slots=slots), START)


def with_tasks(*ids: str, **changes: object) -> Dispatcher:
    dispatcher = Dispatcher()
    for id in ids:
        dispatcher.add(a_task(id, **changes), START)
    return dispatcher


def pairs(dispatcher: Dispatcher, *workers: WorkerSession, now: float = START) -> list[tuple[str, str]]:
    return [(task_id, session.worker) for task_id, session in dispatcher.match(workers, now)]


def test_priority_comes_first_then_age_then_the_id() -> None:
    dispatcher = Dispatcher()
    for id, age, priority in [("d", 5, 0), ("c", 9, 0), ("b", 9, 0), ("a", 1, 5), ("e", 99, -1)]:
        dispatcher.add(a_task(id, created_at=START - age, priority=priority), START)
    assert [id for id, _ in pairs(dispatcher, a_worker(slots=5))] == ["a", "b", "c", "d", "e"]


def test_a_matched_task_is_not_matched_again() -> None:
    dispatcher = with_tasks("a")
    assert pairs(dispatcher, a_worker("w1"), a_worker("w2")) == [("a", "w1")]
    assert pairs(dispatcher, a_worker("w2")) == []


def test_a_worker_gets_no_more_than_its_free_slots() -> None:
    dispatcher = with_tasks("a", "b", "c")
    worker = a_worker(slots=3)
    worker.leases["l"] = "x"
    assert len(pairs(dispatcher, worker)) == 2


def test_the_freest_worker_is_asked_first() -> None:
    assert pairs(with_tasks("a"), a_worker("small", slots=1), a_worker("big", slots=4)) == [("a", "big")]


def test_a_task_goes_only_where_its_model_is() -> None:
    dispatcher = with_tasks("a", model="other")
    assert pairs(dispatcher, a_worker(models=("m",))) == []
    assert pairs(dispatcher, a_worker(models=("m", "other"))) == [("a", "w1")]


def test_the_best_of_all_models_of_a_worker_is_taken_and_the_others_keep_their_place() -> None:
    dispatcher = Dispatcher()
    for id, model, age in [("x1", "x", 1), ("y1", "y", 2), ("x2", "x", 3), ("z1", "z", 9)]:
        dispatcher.add(a_task(id, model=model, created_at=START - age), START)
    worker = a_worker(models=("x", "y"))
    order = []
    while found := pairs(dispatcher, worker):
        order += found
    assert order == [("x2", "w1"), ("y1", "w1"), ("x1", "w1")]


def test_a_removed_task_is_never_matched() -> None:
    dispatcher = with_tasks("a", "b")
    dispatcher.remove("a")
    assert pairs(dispatcher, a_worker(slots=2)) == [("b", "w1")]


def test_a_task_added_again_is_matched_once() -> None:
    dispatcher = with_tasks("a")
    dispatcher.remove("a")
    dispatcher.add(a_task("a"), START)
    assert pairs(dispatcher, a_worker(slots=2), a_worker("w2")) == [("a", "w1")]


def test_a_sleeping_task_added_again_wakes_once() -> None:
    dispatcher = Dispatcher()
    for _ in range(2):
        dispatcher.remove("a")
        dispatcher.add(a_task("a", not_before=START + 5), START)
    assert dispatcher.wake(START + 5)
    assert pairs(dispatcher, a_worker(slots=2), a_worker("w2")) == [("a", "w1")]


def test_a_task_sleeps_until_its_time() -> None:
    dispatcher = with_tasks("a", not_before=START + 5)
    assert not dispatcher.wake(START + 4.9)
    assert pairs(dispatcher, a_worker()) == []
    assert dispatcher.wake(START + 5)
    assert pairs(dispatcher, a_worker()) == [("a", "w1")]


def test_a_sleeper_that_was_removed_does_not_wake() -> None:
    dispatcher = with_tasks("a", not_before=START + 5)
    dispatcher.remove("a")
    assert not dispatcher.wake(START + 5)


def test_who_declined_is_left_out_for_a_while_and_others_are_not() -> None:
    dispatcher = with_tasks("a", "b")
    w1, w2 = a_worker("w1"), a_worker("w2")
    assert pairs(dispatcher, w1) == [("a", "w1")]
    dispatcher.put_back(a_task("a"), "w1", START)
    assert pairs(dispatcher, w1) == [("b", "w1")], "the next in line, not the one declined"
    assert pairs(dispatcher, w2) == [("a", "w2")]
    dispatcher.put_back(a_task("a"), "w2", START)
    assert pairs(dispatcher, w1, now=START + LEFT_OUT_S - 0.1) == []
    assert pairs(dispatcher, w1, now=START + LEFT_OUT_S) == [("a", "w1")]


def test_a_task_put_back_keeps_its_place() -> None:
    dispatcher = with_tasks("a", "b", "c")
    assert pairs(dispatcher, a_worker()) == [("a", "w1")]
    dispatcher.put_back(a_task("a"), None, START)
    assert [id for id, _ in pairs(dispatcher, a_worker(slots=3))] == ["a", "b", "c"]


def test_offers_that_come_to_nothing_do_not_pile_up_in_the_queue() -> None:
    dispatcher, now = with_tasks("a", "b"), START
    workers = [a_worker(f"w{number}") for number in range(3)]
    for _ in range(200):
        for task_id, session in dispatcher.match(workers, now):
            dispatcher.put_back(a_task(task_id), session.worker, now)
        now += 1.0
    assert len(dispatcher.queues["m"]) == 2


def test_nothing_scans_an_answer_costs_the_same_however_many_wait() -> None:
    """A worker that has declined the first task is answered as quickly among 50,000 as among 50."""

    def seconds(waiting: int) -> float:
        dispatcher = with_tasks(*(f"{number:06}" for number in range(waiting)))
        assert pairs(dispatcher, a_worker()) == [("000000", "w1")]
        dispatcher.put_back(a_task("000000"), "w1", START)
        best = 1.0
        for number in range(1, 21):
            began = time.perf_counter()
            found = pairs(dispatcher, a_worker())
            best = min(best, time.perf_counter() - began)
            assert found == [(f"{number:06}", "w1")]
        return best

    few, many = seconds(50), seconds(20_000)
    assert many < 10 * few + 0.0002


def test_p18_a_waiting_task_says_why_it_waits() -> None:
    dispatcher, task = with_tasks("a"), a_task("a")
    free, busy, away, draining, other = (a_worker(name) for name in ("free", "busy", "away", "draining", "other"))
    busy.offers["o"] = Offered("x", START)
    away.attached = False
    draining.phase = Phase.DRAINING
    other.models = {}
    assert dispatcher.blocked_by(task, []) == "no_worker_for_model"
    assert dispatcher.blocked_by(task, [away, draining, other]) == "no_worker_for_model"
    assert dispatcher.blocked_by(task, [busy, away, draining, other]) == "all_busy"
    assert dispatcher.blocked_by(task, [busy, free]) is None
