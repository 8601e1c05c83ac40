"""Days on which one thing alone goes wrong: then nothing may happen that this does not explain."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from unittest.mock import patch

import pytest

from .plan import Plan, draw
from .world import World

DAYS, STEPS = 60, 400


def days_with(*faults: str) -> Counter[str]:
    """What is seen on some days with well-behaved workers and these faults only."""

    def gentle(random: Random) -> Plan:
        plan = draw(random)
        polls = "hub_crashes" not in faults  # who polls may miss the hub for longer than its leases have grace
        workers = tuple(replace(worker, manners=frozenset(), polls=polls and worker.polls) for worker in plan.workers)
        return replace(plan, workers=workers, faults=frozenset(faults))

    seen: Counter[str] = Counter()
    with patch("tests.simulation.world.draw", gentle):
        for seed in range(DAYS):
            world = World(seed)
            world.run(STEPS)
            seen += world.seen
    assert all(seen[fault] > 5 for fault in faults if not fault.startswith("commit"))
    return seen


def problems(seen: Counter[str]) -> set[str]:
    return {name for name in seen if name.startswith("problem: ")}


@pytest.mark.parametrize("fault", ["hub_crashes", "hub_restarts"])
def test_p5_p6_fault_2_a_hub_that_is_killed_anywhere_loses_no_attempt(fault: str) -> None:
    """At most the attempts whose assignment was stored and never sent, which nobody had begun."""
    seen = days_with(fault)
    assert problems(seen) <= {"problem: not_running"} and seen["event: completed"] > 50


def test_p8_fault_20_clocks_that_jump_end_no_lease() -> None:
    """By hours and by years, forwards and backwards, while leases are held and tasks rest."""
    seen = days_with("clock_jumps")
    assert problems(seen) == set() and seen["event: completed"] > 50


def test_p8_p10_fault_21_a_hub_that_stands_still_blames_nobody() -> None:
    seen = days_with("hub_pauses")
    assert problems(seen) == set() and seen["event: completed"] > 50


@pytest.mark.parametrize("faults", [("commit_failures",), ("store_crashes",), ("store_pauses",)])
def test_p12_faults_3_to_6_a_database_that_fails_costs_no_attempt(faults: tuple[str, ...]) -> None:
    seen = days_with(*faults)
    assert problems(seen) == set() and seen["event: completed"] > 50


def test_fault_8_workers_that_vanish_cost_attempts_and_nothing_else() -> None:
    """Every promise is looked at in each step; here it is seen that tasks go on elsewhere."""
    seen = days_with("worker_crashes")
    assert problems(seen) <= {"problem: worker_lost", "problem: quarantined"} and seen["event: released"] > 2


def test_fault_9_zombies_change_nothing() -> None:
    seen = days_with("worker_pauses")
    assert seen["to worker: LeaseLost"] > 10 and problems(seen) <= {"problem: worker_lost", "problem: quarantined"}
