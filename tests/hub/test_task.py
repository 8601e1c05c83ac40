"""The task machine: which moves are legal, who may make them, and what each leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub import task as moves
from hub.task import TRANSITIONS, Attempt, IllegalMove, Lease, LeaseLost, Move, Output, Problem, State, Task

from .world import a_task

NOW = 2000.0
LEASE = Lease("lease-1", "w1", 2120.0)
OUTPUT = Output("m", "result", "r.mp4", 9, "c" * 64, 72)
PROBLEM = Problem("out_of_memory", "the model needs 9 GB")

MOVES: dict[Move, Callable[[Task], Task]] = {
    Move.ASSIGNED: lambda task: moves.assign(task, LEASE, NOW),
    Move.PROGRESSED: lambda task: moves.progress(task, LEASE.id, "segment", 10.0, "", NOW),
    Move.RENEWED: lambda task: moves.renew(task, LEASE.id, 2200.0, NOW),
    Move.RELEASED: lambda task: moves.release(task, LEASE.id, "worker_lost", "silent", NOW, NOW),
    Move.COMPLETED: lambda task: moves.complete(task, LEASE.id, (OUTPUT,), NOW),
    Move.FAILED: lambda task: moves.fail(task, PROBLEM, NOW),
    Move.CANCELLED: lambda task: moves.cancel(task, NOW),
    Move.RETRIED: lambda task: moves.retry(task, NOW),
}


def in_state(state: State) -> Task:
    """A task that got into a state by legal moves."""
    waiting = a_task()
    match state:
        case State.WAITING:
            return waiting
        case State.PROCESSING:
            return moves.assign(waiting, LEASE, 1900.0)
        case State.COMPLETED:
            return moves.complete(in_state(State.PROCESSING), LEASE.id, (OUTPUT,), 1950.0)
        case State.FAILED:
            return moves.fail(in_state(State.PROCESSING), PROBLEM, 1950.0)
        case State.CANCELLED:
            return moves.cancel(waiting, 1950.0)


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("state", State)
def test_p7_a_state_has_exactly_the_moves_of_the_table(state: State, move: Move) -> None:
    before = in_state(state)
    expected = TRANSITIONS[state].get(move)
    if expected is None:
        with pytest.raises((IllegalMove, LeaseLost)):
            MOVES[move](before)
    else:
        after = MOVES[move](before)
        assert (after.state, after.version, after.updated_at) == (expected, before.version + 1, NOW)


@pytest.mark.parametrize("move", [Move.PROGRESSED, Move.RENEWED, Move.RELEASED, Move.COMPLETED])
def test_p6_an_older_lease_moves_nothing(move: Move) -> None:
    again = replace(in_state(State.PROCESSING), lease=Lease("lease-2", "w1", 2120.0))
    with pytest.raises(LeaseLost) as refusal:
        MOVES[move](again)
    assert refusal.value.code == "lease_lost"


def test_an_illegal_move_says_which_state_is_in_the_way() -> None:
    with pytest.raises(IllegalMove) as refusal:
        moves.cancel(in_state(State.COMPLETED), NOW)
    assert refusal.value.code == "task_completed"


def test_ended_states_are_the_three_last_ones() -> None:
    assert [state for state in State if state.ended] == [State.COMPLETED, State.FAILED, State.CANCELLED]


def test_only_a_task_that_is_processed_has_a_lease() -> None:
    for state in State:
        assert (in_state(state).lease is not None) == (state is State.PROCESSING)


def test_an_assignment_starts_a_new_attempt_from_zero() -> None:
    first = moves.progress(in_state(State.PROCESSING), LEASE.id, "encode", 80.0, "nearly", 1910.0)
    waiting = moves.release(first, LEASE.id, "worker_lost", "silent", 1920.0, 1920.0)
    second = moves.assign(waiting, Lease("lease-2", "w2", 2120.0), NOW)
    assert (second.attempt, second.worker, second.phase, second.progress, second.message) == (2, "w2", "fetch", 0.0, "")
    assert second.started_at == 1900.0, "the task as a whole has started with its first attempt"


def test_an_assigned_task_has_no_time_to_wait_for_any_more() -> None:
    waiting = moves.release(in_state(State.PROCESSING), LEASE.id, "crashed", "", NOW + 5, NOW)
    assert moves.assign(waiting, Lease("lease-2", "w2", 2120.0), NOW).not_before == 0.0


def test_a_release_keeps_the_evidence_of_the_attempt() -> None:
    after = moves.release(in_state(State.PROCESSING), LEASE.id, "worker_lost", "silent", NOW + 5, NOW)
    assert after.attempts == (Attempt(1, "w1", "worker_lost", "silent", NOW),)
    assert (after.lease, after.worker, after.phase, after.not_before) == (None, None, None, NOW + 5)


def test_a_refusal_is_no_attempt_and_is_remembered() -> None:
    after = moves.refuse(in_state(State.PROCESSING), LEASE.id, "refused", "busy", NOW)
    assert (after.state, after.attempt, after.lease, after.started_at) == (State.WAITING, 0, None, None)
    assert after.attempts == (Attempt(1, "w1", "refused", "busy", NOW),)


def test_a_failure_keeps_its_reason_and_the_evidence() -> None:
    after = moves.fail(in_state(State.PROCESSING), PROBLEM, NOW)
    assert (after.problem, after.ended_at) == (PROBLEM, NOW)
    assert after.attempts == (Attempt(1, "w1", PROBLEM.code, PROBLEM.detail, NOW),)


def test_a_completed_task_is_whole() -> None:
    after = moves.complete(in_state(State.PROCESSING), LEASE.id, (OUTPUT,), NOW)
    assert (after.progress, after.outputs, after.ended_at) == (100.0, (OUTPUT,), NOW)
    assert (after.phase, after.worker) == (None, "w1")


def test_a_retry_counts_attempts_from_zero_and_forgets_the_problem() -> None:
    after = moves.retry(in_state(State.FAILED), NOW)
    assert (after.attempt, after.problem, after.progress) == (0, None, 0.0)
    assert (after.started_at, after.ended_at) == (None, None)
    assert after.attempts == (), "workers that went down with it before do not count against it now"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_p9_progress_never_goes_back_within_an_attempt(reports: list[float]) -> None:
    task, highest = in_state(State.PROCESSING), 0.0
    for percent in reports:
        task = moves.progress(task, LEASE.id, "segment", percent, "", NOW)
        highest = max(highest, percent)
        assert task.progress == highest


def test_an_unknown_phase_leaves_the_one_that_is_known() -> None:
    after = moves.progress(in_state(State.PROCESSING), LEASE.id, "daydream", 10.0, "", NOW)
    assert (after.phase, after.progress) == ("fetch", 10.0)


def test_a_renewal_never_shortens_a_lease() -> None:
    task = in_state(State.PROCESSING)
    for until, expected in [(2100.0, 2120.0), (2130.0, 2130.0), (5.0, 2130.0)]:
        task = moves.renew(task, LEASE.id, until, NOW)
        assert task.lease == Lease("lease-1", "w1", expected)
