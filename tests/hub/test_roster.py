"""The roster: who is here, what they offer, who is paused, and how they have done lately."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.effects import Effect, Save
from hub.interface import Interface, OfferedModel
from hub.messages import Model
from hub.roster import SUSPECT, Roster
from hub.session import Phase, WorkerSession

from .world import START, a_hello

AFTER = 3


def a_session(worker: str = "w1", *models: str, **changes: object) -> WorkerSession:
    return WorkerSession(f"session-{worker}", a_hello(worker, models or ("m",), **changes), START)


def registered(worker: str = "w1", **changes: object) -> Interface:
    return replace(Interface(worker, "hash", START), **changes)  # type: ignore[arg-type]


@pytest.fixture
def roster() -> Roster:
    """A roster that knows one registered worker, which is here."""
    roster = Roster(AFTER)
    roster.know(registered())
    roster.enter(a_session())
    return roster


# --- presence


def test_who_is_here_is_found_by_name_and_by_model(roster: Roster) -> None:
    session = roster.session_of("w1")
    assert session is not None and session.id == "session-w1"
    assert roster.able("m") == [session]
    assert (roster.session_of("w2"), roster.able("n")) == (None, [])


def test_who_has_left_is_not_found_any_more(roster: Roster) -> None:
    session = a_session()
    roster.enter(session)
    roster.leave(session)
    assert session.phase is Phase.GONE
    assert (roster.sessions, roster.by_worker, roster.having) == ({}, {}, {})


def test_an_older_session_that_leaves_takes_nothing_from_the_newer(roster: Roster) -> None:
    old = roster.session_of("w1")
    assert old is not None
    new = WorkerSession("session-new", a_hello("w1", instance="i2"), START)
    roster.enter(new)
    roster.leave(old)
    assert roster.session_of("w1") is new
    assert roster.able("m") == [new]


def test_a_worker_that_comes_back_with_other_models_is_found_under_these(roster: Roster) -> None:
    [session] = roster.able("m")
    roster.describe(session, a_hello("w1", models=("n", "o"), slots=3))
    assert (roster.able("m"), roster.able("n"), roster.able("o"), session.slots) == ([], [session], [session], 3)


@pytest.mark.parametrize("change", ["paused", "draining", "away"])
def test_who_takes_no_offers_is_not_able(roster: Roster, change: str) -> None:
    [session] = roster.able("m")
    session.paused, session.attached = change == "paused", change != "away"
    session.phase = Phase.DRAINING if change == "draining" else Phase.READY
    assert roster.able("m") == []


def test_models_are_remembered_when_they_are_new_or_different(roster: Roster) -> None:
    hello = a_hello("w1")
    assert roster.learn_models(hello) == [Save(OfferedModel("m", "", "", 1), 0)]
    assert roster.learn_models(hello) == []
    hello.models = [Model(name="m", alias="Magic")]
    assert roster.learn_models(hello) == [Save(OfferedModel("m", "Magic", "", 2), 1)]


def test_the_widest_limits_of_those_who_are_here_count(roster: Roster) -> None:
    """Who comes last does not narrow what the others take; who is alone does."""
    def limits(worker: str, pixels: int, frames: int) -> tuple[int, int]:
        hello = a_hello(worker)
        hello.models = [Model(name="m", max_pixels=pixels, max_frames=frames)]
        session = roster.session_of(worker)
        roster.describe(session, hello) if session is not None else roster.enter(WorkerSession(worker, hello, START))
        roster.learn_models(hello)
        return roster.models["m"].max_pixels, roster.models["m"].max_frames

    assert limits("w1", 1000, 50) == (1000, 50)
    assert limits("w2", 500, 0) == (1000, 0)
    assert limits("w2", 500, 70) == (1000, 70)
    assert limits("w1", 400, 60) == (500, 70)


# --- registrations


def test_a_paused_worker_is_paused_when_it_comes(roster: Roster) -> None:
    roster.know(registered("w2", paused=True))
    session = a_session("w2")
    roster.enter(session)
    assert session.paused and session not in roster.able("m")


def test_a_pause_and_its_end_reach_the_session(roster: Roster) -> None:
    session = roster.know(registered(paused=True, version=2))
    assert session is not None and session.paused
    roster.know(registered(version=3))
    assert not session.paused


def test_an_older_record_does_not_undo_a_newer(roster: Roster) -> None:
    session = roster.know(registered(paused=True, version=2))
    roster.know(registered(version=1))
    assert session is not None and session.paused


def test_a_name_that_was_registered_anew_begins_anew(roster: Roster) -> None:
    roster.know(registered(paused=True, version=7))
    session = roster.know(registered(created_at=START + 1, version=1))
    assert session is not None and not session.paused


def test_a_worker_that_is_not_registered_is_not_paused(roster: Roster) -> None:
    session = a_session("stranger")
    roster.enter(session)
    assert session.usable


# --- suspects


def failing(roster: Roster, tasks: int, worker: str = "w1", code: str = "oom") -> list[Effect]:
    """So many different tasks fail one after the other; the effects of all."""
    return [
        effect for number in range(tasks) for effect in roster.failed(worker, f"task-{number}", code, START + number)
    ]


def test_a_worker_on_which_many_different_tasks_fail_is_paused_with_a_note(roster: Roster) -> None:
    assert failing(roster, AFTER - 1) == []
    [save] = roster.failed("w1", "task-last", "oom", START + AFTER)
    note = f"{SUSPECT}: {AFTER} different tasks failed here in a row, the last with oom"
    assert save == Save(registered(paused=True, note=note, version=2), 1)
    assert roster.interfaces["w1"] == save.record
    assert roster.able("m") == []


def test_the_same_task_again_and_again_is_the_tasks_fault(roster: Roster) -> None:
    assert [roster.failed("w1", "task-1", "oom", START + number) for number in range(10)] == [[]] * 10


def test_a_success_clears_the_suspicion(roster: Roster) -> None:
    failing(roster, AFTER - 1)
    roster.succeeded("w1")
    assert failing(roster, AFTER - 1) == []


def test_what_fails_in_the_same_moment_has_one_cause(roster: Roster) -> None:
    """A worker with eight slots whose cable is pulled loses eight tasks, and is no worse for it."""
    assert [roster.failed("w1", f"task-{number}", "worker_lost", START) for number in range(8)] == [[]] * 8


def test_others_are_not_blamed(roster: Roster) -> None:
    roster.know(registered("w2"))
    failing(roster, AFTER - 1, "w1")
    assert failing(roster, 1, "w2") == []


def test_a_worker_that_is_paused_already_is_not_paused_again(roster: Roster) -> None:
    roster.know(registered(paused=True, version=2))
    assert failing(roster, 2 * AFTER) == []


def test_after_an_admin_has_lifted_the_pause_it_is_counted_from_zero(roster: Roster) -> None:
    failing(roster, AFTER)
    roster.know(replace(roster.interfaces["w1"], paused=False, version=3))
    assert len(roster.able("m")) == 1
    assert failing(roster, AFTER - 1) == []
    assert len(roster.failed("w1", "one-more", "oom", START + 99)) == 1


def test_the_admins_own_note_is_kept_beside_the_hubs(roster: Roster) -> None:
    roster.know(registered(note="the box in the cellar", version=2))
    failing(roster, AFTER)
    assert roster.interfaces["w1"].note.endswith("with oom | the box in the cellar")
    roster.know(replace(roster.interfaces["w1"], paused=False, version=4))
    failing(roster, AFTER, code="crash")
    assert roster.interfaces["w1"].note.endswith("with crash | the box in the cellar")
    assert roster.interfaces["w1"].note.count(SUSPECT) == 1


def test_a_worker_without_a_registration_cannot_be_paused_and_is_not_counted(roster: Roster) -> None:
    assert failing(roster, 50, "stranger") == []
    assert "stranger" not in roster.failures


def test_suspicion_can_be_switched_off() -> None:
    roster = Roster(0)
    roster.know(registered())
    assert failing(roster, 100) == []
