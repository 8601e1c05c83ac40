"""Shares: what runs counts whole, what was had fades, and whoever has least is served, whenever it is asked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub import fairness
from hub.fairness import HALF_LIFE_S, LITTLE_S, Shares, order
from hub.task import Task

from .queues import COST, a_queue, end, had, serve
from .world import FACTS, SOURCE, START, a_task, lines_run


def test_running_work_counts_before_it_has_ended_and_does_not_fade() -> None:
    shares = Shares()
    shares.began("ann", COST)
    for shares.now in (START, START + HALF_LIFE_S, START + 9 * HALF_LIFE_S):
        assert (had(shares, "ann"), had(shares, "bob")) == (pytest.approx(COST, abs=1e-3), 0.0)


def test_what_was_had_fades_by_half_in_each_half_life() -> None:
    shares = Shares()
    shares.now = START
    shares.began("ann", 5.0)
    shares.ended("ann", 5.0, 15 * LITTLE_S)
    told = []
    for half_lives in range(6):
        shares.now = START + half_lives * HALF_LIFE_S
        told.append((had(shares, "ann") + LITTLE_S) / LITTLE_S)
    assert told == pytest.approx([16.0, 8.0, 4.0, 2.0, 1.0, 1.0])


def test_who_had_the_workers_for_long_is_owed_no_more_than_what_has_not_faded() -> None:
    """Ann has had ten slots for days. Bob comes: he is ahead for about as long as that fades, not for days."""
    shares = Shares()
    shares.now = START
    for _ in range(100 * 10):
        shares.began("ann", 3600.0)
        shares.ended("ann", 3600.0, 3600.0)
        shares.now += 360.0
    assert had(shares, "ann") < 10 * HALF_LIFE_S * 1.6
    assert shares.had("ann") < shares.now + 10 * HALF_LIFE_S


def test_p14_shares_that_have_faded_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "KEPT", 10)
    shares = Shares()
    shares.prune_at = 10
    for number in range(1000):
        shares.now += COST
        shares.began(f"user-{number}", COST)
        shares.ended(f"user-{number}", COST, COST)
    fading = shares.later(0.0, COST) - shares.now
    assert len(shares.finish) <= 2 * fading / COST + 10
    assert (shares.running, shares.expected) == ({}, {})


def test_forgetting_shares_costs_little_however_many_have_not_faded() -> None:
    shares = Shares()
    for number in range(5000):
        shares.finish[f"user-{number}"] = 1e5

    def serve_many() -> None:
        for number in range(100):
            shares.began(f"new-{number}", COST)
            shares.ended(f"new-{number}", COST, COST)

    serve_many()
    assert lines_run(serve_many) < 3000


# --- the whole, against a model that is too simple to be wrong


class Naive:
    """Shares as one would write them down: remember everything that ever happened, and add it up each time."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.now = START
        self.waiting: list[Task] = []
        self.ended: list[tuple[str, float, float]] = []
        self.running: list[tuple[str, float]] = []

    def had(self, user: str) -> float:
        """Seconds, of which the ended ones fade; nobody has had less than LITTLE_S."""
        had, at = LITTLE_S, START
        for owner, seconds, ended_at in self.ended:
            if owner == user:
                had, at = max(LITTLE_S, had * 0.5 ** ((ended_at - at) / HALF_LIFE_S)) + seconds, ended_at
        had = max(LITTLE_S, had * 0.5 ** ((self.now - at) / HALF_LIFE_S))
        return had + sum(cost for owner, cost in self.running if owner == user)

    def allowed(self) -> set[str]:
        """Users who wait and may have one more."""
        owners = [owner for owner, _ in self.running]
        return {task.owner for task in self.waiting if not self.cap or owners.count(task.owner) < self.cap}


STEPS = st.lists(st.tuples(
    st.sampled_from(["add", "add", "add", "serve", "serve", "end"]), st.integers(0, 3), st.integers(1, 900),
))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2), STEPS)
def test_who_is_served_has_had_least_of_all_who_wait(cap: int, steps: list[tuple[str, int, int]]) -> None:
    queue, naive = a_queue(cap=cap), Naive(cap)
    queue.shares.now = START

    def cost(task: Task) -> float:
        return task.video.facts.frames

    for number, (step, user, size) in enumerate(steps):
        owner = f"user-{user}"
        if step == "add":
            task = a_task(f"task-{number}", owner=owner, video=replace(SOURCE, facts=replace(FACTS, frames=size)))
            queue.add(task)
            naive.waiting.append(task)
        elif step == "serve":
            allowed, served = naive.allowed(), serve(queue, cost)
            assert (served is None) == (not allowed)
            if served is not None:
                mine = [task for task in naive.waiting if task.owner == served.owner]
                assert served == min(mine, key=order)
                least = min(naive.had(user) for user in allowed)
                assert served.owner in allowed and naive.had(served.owner) <= least * 1.001
                naive.waiting.remove(served)
                naive.running.append((served.owner, cost(served)))
        else:
            own = [each for each in naive.running if each[0] == owner]
            if own:
                naive.running.remove(own[0])
                naive.ended.append((owner, size, naive.now))
                end(queue, owner, size, own[0][1])
        assert queue.entered.keys() == naive.allowed()
        for user in range(4):
            assert had(queue.shares, f"user-{user}") + LITTLE_S == pytest.approx(naive.had(f"user-{user}"))
        assert queue.size == len(naive.waiting)
        assert queue.work == pytest.approx(sum(0.2304 * cost(task) for task in naive.waiting))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 20_000), st.integers(1, 9000)), max_size=30))
def test_tags_put_users_in_the_order_of_what_they_have_had_whenever_it_is_asked(
    pieces: list[tuple[int, float, int]]
) -> None:
    shares, naive = Shares(), Naive(0)
    shares.now = START
    for user, pause, seconds in pieces:
        shares.began(f"user-{user}", COST)
        shares.now = naive.now = naive.now + pause
        shares.ended(f"user-{user}", COST, seconds)
        naive.ended.append((f"user-{user}", seconds, naive.now))
    tags = {user: shares.had(user) for user in ("user-0", "user-1", "user-2")}
    for _ in range(5):
        naive.now += 1800.0
        told = {user: LITTLE_S * 2.0 ** (max(0.0, tag - naive.now) / HALF_LIFE_S) for user, tag in tags.items()}
        assert told == pytest.approx({user: naive.had(user) for user in tags})
