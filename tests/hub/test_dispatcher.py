"""The dispatcher: which task goes to which worker, in which order, and at what price."""

from __future__ import annotations

import pytest

from hub.dispatcher import LEFT_OUT_S, LOOKED_AT, PREFER_S, Dispatcher
from hub.fairness import LITTLE_S
from hub.session import Phase, WorkerSession
from hub.task import Task

from .queues import LITTLE, a_dispatcher, a_worker, had, having, pairs, small, with_tasks
from .world import START, a_hello, a_task, lines_run


def test_priority_comes_first_then_age_then_the_id() -> None:
    dispatcher = a_dispatcher()
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


def test_tasks_that_come_at_once_are_spread_over_the_workers() -> None:
    tasks = [f"{number}" for number in range(5)]
    found = pairs(with_tasks(*tasks), a_worker("w1", slots=2), a_worker("w2", slots=3), a_worker("w3", slots=1))
    assert [worker for _, worker in found] == ["w2", "w1", "w2", "w1", "w2"]
    assert [task for task, _ in found] == tasks


def test_a_task_goes_only_where_its_model_is() -> None:
    dispatcher = with_tasks("a", model="other")
    assert pairs(dispatcher, a_worker(models=("m",))) == []
    assert pairs(dispatcher, a_worker(models=("m", "other"))) == [("a", "w1")]


def test_a_task_goes_only_where_its_video_fits() -> None:
    dispatcher = with_tasks("a", "b")
    dispatcher.add(a_task("c", video=LITTLE), START)
    assert pairs(dispatcher, a_worker("large"), small()) == [("c", "small"), ("a", "large")]
    assert pairs(dispatcher, small()) == []


def test_a_task_is_not_kept_for_a_worker_that_does_not_take_it() -> None:
    loaded = small()
    loaded.warm = "m"
    assert pairs(with_tasks("a"), loaded, a_worker("cold")) == [("a", "cold")]
    dispatcher = a_dispatcher()
    dispatcher.add(a_task("little", video=LITTLE), START)
    loaded.leases["l"] = loaded.leases["l2"] = "x"
    loaded.slots = 2
    assert pairs(dispatcher, loaded, a_worker("cold")) == []


def test_the_best_of_all_models_of_a_worker_is_taken_and_the_others_keep_their_place() -> None:
    dispatcher = a_dispatcher()
    for id, model, age in [("x1", "x", 1), ("y1", "y", 2), ("x2", "x", 3), ("z1", "z", 9)]:
        dispatcher.add(a_task(id, model=model, created_at=START - age), START)
    worker = a_worker(models=("x", "y"))
    order = []
    while found := pairs(dispatcher, worker):
        order += found
    assert order == [("x2", "w1"), ("y1", "w1"), ("x1", "w1")]


def test_a_removed_task_is_never_matched() -> None:
    dispatcher = with_tasks("a", "b")
    dispatcher.remove(a_task("a"))
    assert pairs(dispatcher, a_worker(slots=2)) == [("b", "w1")]


def test_a_task_added_again_is_matched_once() -> None:
    dispatcher = with_tasks("a")
    dispatcher.remove(a_task("a"))
    dispatcher.add(a_task("a"), START)
    assert pairs(dispatcher, a_worker(slots=2), a_worker("w2")) == [("a", "w1")]


def test_a_sleeping_task_added_again_wakes_once() -> None:
    dispatcher = a_dispatcher()
    for _ in range(2):
        dispatcher.remove(a_task("a"))
        dispatcher.add(a_task("a", not_before=START + 5), START)
    dispatcher.wake(START + 5)
    assert pairs(dispatcher, a_worker(slots=2), a_worker("w2")) == [("a", "w1")]


def test_a_task_sleeps_until_its_time() -> None:
    dispatcher = with_tasks("a", not_before=START + 5)
    dispatcher.wake(START + 4.9)
    assert pairs(dispatcher, a_worker()) == []
    dispatcher.wake(START + 5)
    assert pairs(dispatcher, a_worker()) == [("a", "w1")]


def test_a_sleeper_that_was_removed_does_not_wake() -> None:
    dispatcher = with_tasks("a", not_before=START + 5)
    dispatcher.remove(a_task("a"))
    dispatcher.wake(START + 5)
    assert pairs(dispatcher, a_worker()) == []


def test_who_declined_is_left_out_for_a_while_and_others_are_not() -> None:
    dispatcher = with_tasks("a", "b")
    w1, w2 = a_worker("w1"), a_worker("w2")
    assert pairs(dispatcher, w1) == [("a", "w1")]
    dispatcher.put_back(a_task("a"), a_worker("w1"), START)
    assert pairs(dispatcher, w1) == [("b", "w1")], "the next in line, not the one declined"
    assert pairs(dispatcher, w2) == [("a", "w2")]
    dispatcher.put_back(a_task("a"), a_worker("w2"), START)
    assert pairs(dispatcher, w1, now=START + LEFT_OUT_S - 0.1) == []
    assert pairs(dispatcher, w1, now=START + LEFT_OUT_S) == [("a", "w1")]


def test_who_lets_the_same_task_pass_again_is_left_out_for_twice_as_long() -> None:
    dispatcher, now, pauses = with_tasks("a"), START, list[float]()
    for _ in range(8):
        assert pairs(dispatcher, a_worker(), now=now) == [("a", "w1")]
        dispatcher.put_back(a_task("a"), a_worker("w1"), now)
        pauses.append(dispatcher.left_out["a"]["w1"].until - now)
        now += pauses[-1]
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 160.0, 160.0]


def test_a_worker_that_comes_with_another_session_begins_anew() -> None:
    dispatcher, again = with_tasks("a"), WorkerSession("another", a_hello("w1"), START)
    assert pairs(dispatcher, a_worker()) == [("a", "w1")]
    dispatcher.put_back(a_task("a"), a_worker(), START)
    assert pairs(dispatcher, again) == [("a", "w1")]
    dispatcher.put_back(a_task("a"), again, START)
    assert dispatcher.left_out["a"]["w1"].until == START + LEFT_OUT_S
    assert pairs(dispatcher, again) == []


def test_a_worker_that_rests_is_not_asked() -> None:
    dispatcher, worker = with_tasks("a"), a_worker()
    worker.rest(START)
    assert pairs(dispatcher, worker, now=worker.rests_until - 0.1) == []
    assert pairs(dispatcher, worker, now=worker.rests_until) == [("a", "w1")]


def test_a_task_put_back_keeps_its_place() -> None:
    dispatcher = with_tasks("a", "b", "c")
    assert pairs(dispatcher, a_worker()) == [("a", "w1")]
    dispatcher.put_back(a_task("a"), None, START)
    assert [id for id, _ in pairs(dispatcher, a_worker(slots=3))] == ["a", "b", "c"]


def test_offers_that_come_to_nothing_do_not_pile_up_in_the_queue() -> None:
    dispatcher, now = with_tasks("a", "b"), START
    workers = [a_worker(f"w{number}") for number in range(3)]
    for _ in range(200):
        for task, session in dispatcher.match(having(*workers), now):
            dispatcher.put_back(task, session, now)
        now += 1.0
    queue = dispatcher.queues["m"]
    assert (queue.size, len(queue.lines["ann"].tasks) - queue.lines["ann"].gone) == (2, 2)
    assert len(queue.turns) <= 100


@pytest.mark.parametrize("users", [1, 7])
def test_nothing_scans_an_answer_costs_the_same_however_many_wait(users: int) -> None:
    """A worker that has declined the first task is answered in as many steps among 100,000 as among 10."""

    def steps(waiting: int) -> int:
        dispatcher, worker = a_dispatcher(), a_worker()
        for number in range(waiting):
            dispatcher.add(a_task(f"{number:06}", owner=f"user-{number % users}"), START)
        assert pairs(dispatcher, worker) == [("000000", "w1")]
        dispatcher.put_back(a_task("000000", owner="user-0"), a_worker("w1"), START)
        found: list[tuple[str, str]] = []
        run = lines_run(lambda: found.extend(pairs(dispatcher, worker)))
        assert found == [(f"{users:06}", "w1")], "that owner's next one"
        return run

    few, many = steps(10), steps(100_000)
    assert many <= few + 60, "logarithms at most"


def test_declined_tasks_do_not_make_a_worker_look_for_ever() -> None:
    """A worker that has refused everything in sight is left idle for a moment rather than walk along the whole line."""
    tasks = [a_task(f"{number:04}") for number in range(3 * LOOKED_AT)]
    dispatcher, worker = with_tasks(*(task.id for task in tasks)), a_worker()
    for task in tasks:
        dispatcher.leave_out(task.id, "w1", START + LEFT_OUT_S)
    assert pairs(dispatcher, worker) == []
    assert pairs(dispatcher, a_worker("w2")) == [("0000", "w2")]
    assert pairs(dispatcher, worker, now=START + LEFT_OUT_S) == [("0001", "w1")]


def test_who_refused_is_remembered_over_the_refusals_of_others() -> None:
    dispatcher, task = with_tasks("a"), a_task("a")
    for name in ("w1", "w2"):
        assert pairs(dispatcher, a_worker(name)) == [("a", name)]
        dispatcher.put_back(task, a_worker(name), START)
    assert pairs(dispatcher, a_worker("w1")) == []
    assert pairs(dispatcher, a_worker("w3")) == [("a", "w3")]


# --- the model that is loaded


def warm(name: str, model: str = "m", busy: bool = False, slots: int = 1) -> WorkerSession:
    """A worker that has run that model before, and perhaps runs something now."""
    worker = a_worker(name, models=("m", "n"), slots=slots)
    worker.warm = model
    if busy:
        worker.leases = {f"lease-{number}": "x" for number in range(slots)}
    return worker


def test_a_worker_with_the_model_loaded_goes_before_a_freer_one() -> None:
    assert pairs(with_tasks("a"), a_worker("cold", slots=4), warm("warm")) == [("a", "warm")]


def test_a_task_is_kept_for_a_busy_worker_with_the_model_loaded_for_a_bounded_time() -> None:
    dispatcher, cold, loaded = with_tasks("a"), a_worker("cold"), warm("warm", busy=True)
    assert pairs(dispatcher, cold, loaded) == []
    assert pairs(dispatcher, cold, loaded, now=START + PREFER_S - 0.1) == []
    assert pairs(dispatcher, cold, loaded, now=START + PREFER_S) == [("a", "cold")]


def test_a_kept_task_goes_to_the_loaded_worker_as_soon_as_that_is_free() -> None:
    dispatcher, cold, loaded = with_tasks("a"), a_worker("cold"), warm("warm", busy=True)
    assert pairs(dispatcher, cold, loaded) == []
    loaded.leases.clear()
    assert pairs(dispatcher, cold, loaded, now=START + 1) == [("a", "warm")]
    assert dispatcher.kept == {}


def test_no_more_tasks_are_kept_than_there_are_slots_with_the_model_loaded() -> None:
    dispatcher = with_tasks("a", "b", "c", "d")
    found = pairs(dispatcher, a_worker("cold", slots=4), warm("warm", busy=True))
    assert found == [("a", "cold"), ("b", "cold"), ("c", "cold")], "the first in line are not overtaken"


def test_a_task_that_was_refused_is_kept_for_nobody() -> None:
    dispatcher, task = with_tasks("a"), a_task("a")
    assert pairs(dispatcher, warm("warm")) == [("a", "warm")]
    dispatcher.put_back(task, a_worker("warm"), START)
    assert pairs(dispatcher, warm("warm"), a_worker("cold")) == [("a", "cold")]


@pytest.mark.parametrize("change", ["paused", "draining", "away"])
def test_a_task_is_not_kept_for_a_loaded_worker_that_takes_no_offers(change: str) -> None:
    loaded = warm("warm")
    loaded.paused, loaded.attached = change == "paused", change != "away"
    loaded.phase = Phase.DRAINING if change == "draining" else Phase.READY
    assert pairs(with_tasks("a"), a_worker("cold"), loaded) == [("a", "cold")]


def test_another_loaded_model_is_no_reason_to_keep_a_task() -> None:
    assert pairs(with_tasks("a"), a_worker("cold"), warm("other", model="n", busy=True)) == [("a", "cold")]


def test_p13_tasks_that_are_kept_for_loaded_workers_do_not_hold_the_loop() -> None:
    """All who have the model loaded are busy, many others idle: one of these is asked for all that are like it."""

    def asked(cold: int, loaded: int, waiting: int) -> int:
        dispatcher = a_dispatcher()
        for number in range(waiting):
            dispatcher.add(a_task(f"{number:03}", owner=f"user-{number % 10}"), START)
        workers = [warm(f"warm-{number}", busy=True) for number in range(loaded)]
        workers += [a_worker(f"cold-{number}") for number in range(cold)]
        found = having(*workers)
        return lines_run(lambda: dispatcher.match(found, START))

    assert asked(200, 300, 290) < 200 * 30 + 300 * 30 + 290 * 30, "a few steps for each of them, not for each pair"


@pytest.mark.parametrize("passed", [0, 250])
def test_offers_that_come_to_nothing_do_not_wipe_out_what_was_had(passed: int) -> None:
    """Ann has just had an hour. Bob, who had nothing, is served until he is even, however many offers were let pass."""
    dispatcher = a_dispatcher(600.0)
    for number in range(6):
        dispatcher.add(a_task(f"old-{number}"), START)
    for task, _ in dispatcher.match(having(a_worker(slots=6)), START):
        dispatcher.forget(task, 600.0)
    for owner in ("ann", "bob"):
        for number in range(6):
            dispatcher.add(a_task(f"{owner}-{number}", owner=owner), START)
    now = START
    for _ in range(passed):
        [(task, _)] = dispatcher.match(having(a_worker("mute")), now)
        now += 5.0
        dispatcher.put_back(task, None, now)
    order = [dispatcher.match(having(a_worker("good")), now)[0][0].owner for _ in range(6)]
    assert order[:5] == ["bob"] * 5 and (passed or order[5] == "bob")


# --- whose it is


def test_what_is_charged_and_what_was_had_are_divided_by_the_weight() -> None:
    dispatcher = with_tasks("task-1", weight=4)
    assert pairs(dispatcher, a_worker()) == [("task-1", "w1")]
    assert had(dispatcher.shares, a_task().owner) == pytest.approx(10 / 4)
    dispatcher.ended("task-1", 100.0)
    assert had(dispatcher.shares, a_task().owner) == pytest.approx(100 / 4)


def test_a_matched_task_is_charged_and_one_put_back_is_not() -> None:
    dispatcher, task = with_tasks("a"), a_task("a")
    pairs(dispatcher, a_worker())
    assert (dispatcher.shares.running, dispatcher.shares.expected) == ({"ann": 1}, {"ann": 10.0})
    dispatcher.put_back(task, None, START)
    assert (dispatcher.shares.running, dispatcher.shares.expected, dispatcher.shares.finish) == ({}, {}, {})


def test_an_owner_pays_for_what_the_work_really_took() -> None:
    dispatcher, task = with_tasks("a"), a_task("a")
    pairs(dispatcher, a_worker())
    dispatcher.forget(task, 25.0)
    assert dispatcher.shares.seconds(dispatcher.shares.had("ann")) == pytest.approx(LITTLE_S + 25.0)


def test_the_first_tasks_of_an_owner_can_be_told() -> None:
    dispatcher = a_dispatcher()
    for id, owner, model in [("a", "ann", "m"), ("b", "ann", "m"), ("c", "ann", "n"), ("d", "bob", "m")]:
        dispatcher.add(a_task(id, owner=owner, model=model), START)
    assert [task.id for task in dispatcher.of("ann", 1)] == ["a", "c"]
    assert [task.id for task in dispatcher.of("ann", 9)] == ["a", "b", "c"]
    assert list(dispatcher.of("eve", 9)) == []


def test_a_task_is_in_line_only_while_it_can_be_offered() -> None:
    dispatcher = a_dispatcher()
    late, task = a_task("late", not_before=START + 5), a_task("a")
    dispatcher.add(late, START)
    assert not dispatcher.in_line(late) and not dispatcher.in_line(task)
    dispatcher.add(task, START)
    assert dispatcher.in_line(task)
    pairs(dispatcher, a_worker())
    assert not dispatcher.in_line(task)


def test_a_task_of_one_model_is_not_in_line_for_another() -> None:
    dispatcher, task = with_tasks("a"), a_task("a", model="n")
    assert not dispatcher.in_line(task)
    dispatcher.remove(task)
    assert dispatcher.in_line(a_task("a"))


def everything(dispatcher: Dispatcher, worker: WorkerSession) -> list[Task]:
    """All tasks in the order in which they go, one after another."""
    order: list[Task] = []
    while found := dispatcher.match(having(worker), START):
        order += [task for task, _ in found]
    return order


def test_two_models_on_one_worker_share_it_by_owner() -> None:
    """Ann waits for both models, Bob for one: he gets half of the worker, not a third."""
    dispatcher = a_dispatcher()
    for number in range(12):
        dispatcher.add(a_task(f"m{number:02}", owner="ann", model="m"), START)
        dispatcher.add(a_task(f"n{number:02}", owner="ann", model="n"), START)
        dispatcher.add(a_task(f"b{number:02}", owner="bob", model="m"), START)
    owners = [task.owner for task in everything(dispatcher, a_worker(models=("m", "n")))][:24]
    assert owners.count("bob") == 12
