"""Pacing: how much of what a running task says is stored and shown, and what its silence means."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.effects import Publish, Save
from hub.messages import PROGRESSED
from hub.pacing import Pacing
from hub.task import Lease, State, Task

from .world import START, a_task

STORE_S, SHOW_S = 1.0, 0.25


def running(version: int = 2, progress: float = 0.0, phase: str = "fetch") -> Task:
    lease = Lease("lease-1", "w1", START + 120)
    return a_task(state=State.PROCESSING, version=version, progress=progress, phase=phase, attempt=1, lease=lease)


@pytest.fixture
def pacing() -> Pacing:
    """The paces of one task that has just begun."""
    pacing = Pacing(STORE_S, SHOW_S)
    pacing.begin(running(), 2, START, START)
    return pacing


def step(pacing: Pacing, before: Task, now: float, shown: bool = True, **changes: object) -> tuple[Task, list[str]]:
    """The task one version on, and the names of the effects of that."""
    after = replace(before, version=before.version + 1, **changes)  # type: ignore[arg-type]
    return after, [type(effect).__name__ for effect in pacing.step(before, after, now, shown)]


def test_what_has_just_begun_is_stored_and_shown_already(pacing: Pacing) -> None:
    assert pacing.due(running(), START + 100) == []


def test_progress_waits_for_its_time_then_is_shown_then_stored(pacing: Pacing) -> None:
    task, effects = step(pacing, running(), START + 0.1, progress=10.0)
    assert effects == []
    assert pacing.due(task, START + SHOW_S) == [Publish(task, PROGRESSED)]
    assert pacing.due(task, START + STORE_S) == [Save(task, 2)]
    assert pacing.due(task, START + 100) == []


def test_the_next_save_goes_on_from_the_last(pacing: Pacing) -> None:
    task, _ = step(pacing, running(), START + STORE_S, progress=10.0)
    assert pacing.stored_version(task) == 3
    later = replace(task, version=9, progress=20.0)
    assert Save(later, 3) in pacing.due(later, START + 2 * STORE_S)


def test_what_was_read_is_not_written_before_something_happens_to_it(pacing: Pacing) -> None:
    """Another hub may be at work with it; and what is shown here is newer than what the store has."""
    task = running(version=9)
    pacing.begin(task, 2, START, None)
    assert pacing.due(task, START + 100) == []
    after, effects = step(pacing, task, START + 100, progress=10.0)
    assert effects == ["Save", "Publish"]
    assert pacing.stored_version(after) == after.version


def test_what_viewers_cannot_see_is_stored_and_not_shown(pacing: Pacing) -> None:
    _, effects = step(pacing, running(), START + 5, shown=False)
    assert effects == ["Save"]


def test_what_viewers_cannot_see_does_not_swallow_what_they_have_yet_to_see(pacing: Pacing) -> None:
    task, _ = step(pacing, running(), START + 0.1, progress=10.0)
    _, effects = step(pacing, task, START + SHOW_S, shown=False)
    assert effects == ["Publish"]


def test_what_is_new_while_the_store_does_not_answer_is_stored_once_when_it_does(pacing: Pacing) -> None:
    pacing.storing, task = False, running()
    for second in range(1, 100):
        task, effects = step(pacing, task, START + second, progress=float(second))
        assert effects == ["Publish"]
    assert pacing.stored_version(task) == 2, "so whatever ends it now knows what it replaces"
    pacing.storing = True
    assert pacing.due(task, START + 100) == [Save(task, 2)]


def test_a_task_that_is_not_known_is_stored_as_it_is(pacing: Pacing) -> None:
    assert pacing.stored_version(a_task("other", version=7)) == 7
    assert pacing.seconds("other", START) is None


def test_an_ended_task_leaves_nothing_behind(pacing: Pacing) -> None:
    pacing.end("task-1")
    pacing.end("task-1")
    assert pacing.paces == {}


def test_how_long_a_task_runs_is_known_only_to_who_saw_it_begin(pacing: Pacing) -> None:
    assert pacing.seconds("task-1", START + 30) == 30.0
    pacing.begin(running(), 2, START, None)
    assert pacing.seconds("task-1", START + 30) is None


@pytest.mark.parametrize(("changes", "stalled"), [
    ({"progress": 0.1}, False), ({"phase": "segment"}, False), ({"message": "still here"}, True), ({}, True),
    ({"progress": 0.09}, True),
])
def test_only_getting_further_counts_as_progress(pacing: Pacing, changes: dict[str, object], stalled: bool) -> None:
    task, _ = step(pacing, running(), START + 5, **changes)  # type: ignore[arg-type]
    assert pacing.stalled(task.id, START + 11, 10.0) is stalled
    assert pacing.stalled(task.id, START + 15.1, 10.0)


def test_going_to_and_fro_between_phases_is_no_progress(pacing: Pacing) -> None:
    task, _ = step(pacing, running(), START + 5, phase="segment")
    for number in range(20):
        task, _ = step(pacing, task, START + 6 + number, phase=("fetch", "segment")[number % 2])
    assert pacing.stalled(task.id, START + 15.1, 10.0)


def test_what_an_attempt_had_reached_before_a_restart_is_no_progress_after_it(pacing: Pacing) -> None:
    half_way = running(progress=50.0, phase="segment")
    pacing.begin(half_way, 2, START, None)
    task, _ = step(pacing, half_way, START + 5, message="still here")
    assert pacing.stalled(task.id, START + 11, 10.0)


def test_a_task_whose_worker_is_judged_by_others_has_stalled_only_after_they_are_silent_too(pacing: Pacing) -> None:
    pacing.moved("task-1", START + 100)
    assert not pacing.stalled("task-1", START + 110, 10.0)
    assert pacing.stalled("task-1", START + 110.1, 10.0)
    pacing.end("task-1")
    pacing.moved("task-1", START + 200)
    assert pacing.paces == {}


def test_p8_a_hub_that_was_away_takes_nobody_for_stalled(pacing: Pacing) -> None:
    pacing.forgive(START + 3600)
    assert not pacing.stalled("task-1", START + 3610, 10.0)
    assert pacing.stalled("task-1", START + 3611, 10.0)
