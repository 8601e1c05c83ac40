"""Fairness: whose turn it is, lines that keep their order, and positions that come true."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.fairness import AGING_S, GONE, HALF_LIFE_S, LOOKED_AT, FairQueue, Line, Shares, order
from hub.task import Task

from .queues import COST, a_queue, end, serve, serve_all, tasks
from .world import START, a_task, lines_run

# --- between users


def test_p5_ten_tasks_behind_2900_of_somebody_else_are_served_within_twenty_turns() -> None:
    queue = a_queue(*tasks("ann", 2900))
    for _ in range(100):
        serve(queue)
    for task in tasks("bob", 10):
        queue.add(task)
    served = [serve(queue) for _ in range(20)]
    assert sum(task is not None and task.owner == "bob" for task in served) == 10


def test_equal_users_take_turns() -> None:
    queue = a_queue(*tasks("ann", 4), *tasks("bob", 4), *tasks("cyd", 4))
    assert [task.owner for task in serve_all(queue)] == ["ann", "bob", "cyd"] * 4


def test_users_share_seconds_not_tasks() -> None:
    """Ann's tasks take ten times as long as Bob's: while both wait, each gets half of the time."""
    queue = a_queue(*tasks("ann", 100), *tasks("bob", 1000))
    seconds = {"ann": 0.0, "bob": 0.0}

    def cost(task: Task) -> float:
        return 100.0 if task.owner == "ann" else 10.0

    for _ in range(550):
        task = serve(queue, cost)
        assert task is not None
        seconds[task.owner] += cost(task)
    assert seconds["ann"] == pytest.approx(seconds["bob"], rel=0.1)


def test_who_has_three_times_the_weight_gets_three_times_as_much() -> None:
    queue = a_queue(*tasks("ann", 30), *tasks("bob", 90, weight=3))
    owners = [task.owner for task in serve_all(queue)][:80]
    assert (owners.count("ann"), owners.count("bob")) == (20, 60)


def test_work_that_took_longer_than_expected_is_paid_for() -> None:
    queue = a_queue(*tasks("ann", 5), *tasks("bob", 5))
    assert serve(queue) is not None
    end(queue, "ann", 4 * COST)
    assert [task.owner for task in serve_all(queue)][:5] == ["bob", "bob", "bob", "bob", "ann"]


def test_work_that_took_less_than_expected_gives_the_turn_back() -> None:
    queue = a_queue(*tasks("ann", 2), *tasks("bob", 3))
    assert [serve(queue).owner for _ in range(2)] == ["ann", "bob"]  # type: ignore[union-attr]
    end(queue, "bob", 0.0)
    assert [task.owner for task in serve_all(queue)] == ["bob", "ann", "bob"]


def test_who_has_less_running_is_served_first() -> None:
    """Ann has all slots; Bob comes with nothing running, and has each that becomes free until both have as many."""
    queue = a_queue(*tasks("ann", 40))
    for _ in range(10):
        serve(queue)
    for task in tasks("bob", 20):
        queue.add(task)
    served = []
    for _ in range(7):
        end(queue, "ann", 0.0)
        task = serve(queue)
        assert task is not None
        served.append(task.owner)
    assert served == ["bob"] * 5 + ["ann", "ann"]


@pytest.mark.parametrize("coming", [1, 2, 5])
def test_nobody_starves_under_an_endless_stream_of_newcomers(coming: int) -> None:
    """Whoever comes has had nothing yet; the one who has had a task gets the next when that has faded."""
    queue, newcomers = a_queue(), count()
    queue.shares.now = START
    for task in tasks("ann", 5):
        queue.add(task)
    turns: list[float] = []
    passed_by = 0
    while len(turns) < 4 and queue.shares.now < START + 100 * HALF_LIFE_S:
        for _ in range(coming):
            if queue.size < 50 * coming:
                queue.add(a_task(owner=f"new-{next(newcomers)}"))
        task = serve(queue)
        assert task is not None
        queue.shares.now += COST
        end(queue, task.owner)
        if task.owner == "ann":
            turns.append(queue.shares.now)
        elif turns and queue.shares.now > queue.shares.had("ann") + 60 * coming * COST:
            passed_by += 1
    assert (len(turns), passed_by) == (4, 0)


def test_newcomers_do_not_starve_either_behind_a_crowd() -> None:
    users = 100
    queue = a_queue(*(task for number in range(users) for task in tasks(f"user-{number}", 50)))
    for _ in range(20 * users):
        serve(queue)
    queue.add(a_task(owner="new"))
    owners = [task.owner for task in serve_all(queue)]
    assert owners.index("new") <= 2 * users


def test_a_turn_keeps_its_tag_while_it_waits() -> None:
    queue = a_queue()
    queue.shares.now = START
    queue.add(a_task("first", owner="ann"))
    queue.shares.now += 5 * HALF_LIFE_S
    queue.add(a_task("second", owner="bob"))
    queue.add(a_task("third", owner="ann"))
    queue.enter("ann")
    assert [(user, tag) for (tag, _), user in queue.users()] == [("ann", START), ("bob", START + 5 * HALF_LIFE_S)]


def test_a_turn_is_given_back_as_long_as_its_owner_has_not_got_more_by_it() -> None:
    queue = a_queue(*tasks("ann", 3), *tasks("bob", 3))
    [first, second] = tasks("ann", 3)[:2]
    turn = queue.turn("ann")
    assert serve(queue) == first
    end(queue, "ann", 0.0)
    queue.add(first)
    queue.restore("ann", turn)
    assert queue.turn("ann") == turn
    assert serve(queue) == first
    end(queue, "ann", 60.0)
    queue.restore("ann", turn)
    assert queue.turn("ann") > turn
    assert [task.owner for task in serve_all(queue)][:3] == ["bob"] * 3


def test_a_cap_holds_a_user_back_until_something_of_theirs_ends() -> None:
    queue = a_queue(*tasks("ann", 3), *tasks("bob", 1), cap=1)
    assert [task.owner for task in serve_all(queue)] == ["ann", "bob"]
    end(queue, "bob")
    assert serve(queue) is None
    end(queue, "ann")
    assert [task.id for task in serve_all(queue)] == ["ann-00001"]


def test_nothing_scans_those_at_their_cap_are_not_looked_at() -> None:
    def steps(capped: int) -> int:
        queue = a_queue(*(task for number in range(capped) for task in tasks(f"user-{number}", 2)), cap=1)
        assert len(serve_all(queue)) == capped
        return lines_run(lambda: serve(queue))

    assert steps(1000) == steps(10)


def test_a_user_served_for_one_model_waits_longer_for_the_other() -> None:
    shares = Shares()
    one, other = FairQueue(shares), FairQueue(shares)
    for task in [*tasks("ann", 2), *tasks("bob", 1)]:
        other.add(task)
    one.add(a_task(owner="ann"))
    serve(one)
    other.enter("ann")
    assert [task.owner for task in serve_all(other)] == ["bob", "ann", "ann"]


def test_looking_at_the_turns_uses_none_of_them() -> None:
    queue = a_queue(*tasks("ann", 1), *tasks("bob", 1))
    for _ in range(3):
        assert [user for _, user in queue.users()] == ["ann", "bob"]
    assert len(queue.turns) == 2


# --- among one's own


def test_priority_goes_before_age_and_age_makes_up_for_priority() -> None:
    old, new = a_task("old"), a_task("new", created_at=START + 2 * AGING_S - 1, priority=2)
    late = a_task("late", created_at=START + 2 * AGING_S + 1, priority=2)
    assert sorted([late, old, new], key=order) == [new, old, late]


def test_no_priority_starves_what_waits() -> None:
    """Urgent tasks come for ever; an old one with the least priority is passed by a bounded number of them."""
    queue = a_queue(a_task("old", priority=-10))
    for number in count():
        queue.add(a_task(f"urgent-{number:05}", created_at=START + 60 * number, priority=10))
        task = serve(queue)
        if task is not None and task.id == "old":
            break
    assert 60 * number <= 21 * AGING_S


def test_my_priority_takes_nothing_from_others() -> None:
    queue = a_queue(*tasks("ann", 3, priority=10), *tasks("bob", 3, priority=-10))
    assert [task.owner for task in serve_all(queue)] == ["ann", "bob"] * 3


# --- lines


MOVES = st.lists(st.tuples(st.sampled_from(["add", "add", "first", "any"]), st.integers(0, 40), st.integers(-2, 2)))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(MOVES)
def test_a_line_is_what_a_sorted_list_would_be(moves: list[tuple[str, int, int]]) -> None:
    line, model = Line(), list[Task]()
    for number, (move, value, priority) in enumerate(moves):
        if move == "add":
            task = a_task(f"task-{number}", created_at=START + value, priority=priority)
            line.add(task)
            model.append(task)
        elif model:
            task = min(model, key=order) if move == "first" else model[value % len(model)]
            assert line.discard(task)
            assert not line.discard(task)
            model.remove(task)
        model.sort(key=order)
        assert list(line) == model and len(line) == len(model)
        assert [line.rank(task) for task in model] == list(range(len(model)))
        assert all(task in line for task in model)


def test_a_line_that_is_served_moves_up_and_lets_go() -> None:
    line = Line()
    waiting = tasks("ann", 4 * GONE)
    for task in waiting:
        line.add(task)
    for task in waiting[: 3 * GONE + 5]:
        line.discard(task)
    assert (line.gone, len(line), line.rank(waiting[-1])) == (5, GONE - 5, GONE - 6)
    line.add(waiting[3 * GONE + 4])
    assert (line.gone, next(iter(line))) == (4, waiting[3 * GONE + 4])


# --- positions


USERS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 12), min_size=1)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(USERS, st.integers(0, 30))
def test_p18_positions_come_true_when_all_tasks_are_alike(users: dict[str, int], served: int) -> None:
    queue = a_queue(*(task for owner, number in users.items() for task in tasks(owner, number)))
    for _ in range(served):
        serve(queue)
    waiting = [task for line in queue.lines.values() for task in line]
    told = {task.id: queue.position(task, COST) for task in waiting}
    assert told == {task.id: at for at, task in enumerate(serve_all(queue))}


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(USERS, st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 4)), st.integers(0, 30))
def test_p18_positions_come_about_true_when_weights_differ(
    users: dict[str, int], weights: dict[str, int], served: int
) -> None:
    queue = a_queue(*(
        task for owner, number in users.items() for task in tasks(owner, number, weight=weights.get(owner, 1))
    ))
    for _ in range(served):
        serve(queue)
    waiting = [task for line in queue.lines.values() for task in line]
    told = {task.id: queue.position(task, COST) for task in waiting}
    assert all(abs(told[task.id] - at) <= len(users) for at, task in enumerate(serve_all(queue)))


def test_p18_positions_are_about_right_when_tasks_differ() -> None:
    queue = a_queue(*tasks("ann", 30), *tasks("bob", 30), *tasks("cyd", 5))
    serve(queue, lambda task: 5 * COST)
    last = tasks("bob", 30)[-1]
    told = queue.position(last, COST)
    assert abs(told - [task.id for task in serve_all(queue)].index(last.id)) <= 3


def test_nothing_scans_a_position_looks_at_a_bounded_number_of_users() -> None:
    def told(users: int) -> tuple[int, int]:
        queue = a_queue(*(a_task(owner=f"user-{number}") for number in range(users)))
        last, position = a_task(owner=f"user-{users - 1}"), list[int]()
        return lines_run(lambda: position.append(queue.position(last, COST))), position[0]

    some, position = told(LOOKED_AT)
    assert position == LOOKED_AT - 1
    many, position = told(20 * LOOKED_AT)
    assert position == 20 * LOOKED_AT - 1, "the others are taken to be like those"
    assert many <= some + 50


# --- what is remembered


def test_p14_users_who_come_and_go_leave_no_turns_behind() -> None:
    queue = a_queue()
    queue.shares.finish["ann"] = 1e5
    for number in range(1000):
        task = a_task(f"task-{number}", owner=f"user-{number}")
        queue.shares.finish[task.owner] = 1e4 + number
        queue.add(task)
        queue.discard(task)
    assert len(queue.turns) <= 70
    assert (queue.lines, queue.entered, queue.size) == ({}, {}, 0)
