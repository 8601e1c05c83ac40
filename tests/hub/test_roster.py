"""The roster: who is here, what they offer, and who is paused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.effects import Save
from hub.interface import Interface, OfferedModel
from hub.messages import Model
from hub.roster import SUSPECT, Roster
from hub.session import Phase, WorkerSession

from .world import START, a_hello


def a_session(worker: str = "w1", *models: str, **changes: object) -> WorkerSession:
    return WorkerSession(f"session-{worker}", a_hello(worker, models or ("m",), **changes), START)


def registered(worker: str = "w1", **changes: object) -> Interface:
    return replace(Interface(worker, "hash", START), **changes)  # type: ignore[arg-type]


@pytest.fixture
def roster() -> Roster:
    """A roster that knows one registered worker, which is here."""
    roster = Roster()
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
    assert roster.learn_models(hello) == [Save(OfferedModel("m", "", "", 1, by="w1"), 0)]
    assert roster.learn_models(hello) == []
    hello.models = [Model(name="m", alias="Magic")]
    assert roster.learn_models(hello) == [Save(OfferedModel("m", "Magic", "", 2, by="w1"), 1)]


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


# --- pauses


def test_a_worker_is_paused_with_a_note(roster: Roster) -> None:
    [save] = roster.pause("w1", "the fan is off")
    assert save == Save(registered(paused=True, note=f"{SUSPECT}: the fan is off", version=2), 1)
    assert roster.interfaces["w1"] == save.record
    assert roster.able("m") == []


def test_the_admins_own_note_is_kept_beside_the_hubs(roster: Roster) -> None:
    roster.know(registered(note="the box in the cellar", version=2))
    roster.pause("w1", "once")
    assert roster.interfaces["w1"].note.endswith("once | the box in the cellar")
    roster.know(replace(roster.interfaces["w1"], paused=False, version=4))
    roster.pause("w1", "twice")
    assert roster.interfaces["w1"].note == f"{SUSPECT}: twice | the box in the cellar"
