"""A worker's session: numbers in both directions, what is kept until it is acknowledged, and free slots."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hub.messages import Assign, Cancel, LeaseLost, Message, Progress, Status, decode, to_worker
from hub.session import OUTBOX, Offered, Phase, WorkerSession

from .world import START, a_hello


def a_session(**changes: object) -> WorkerSession:
    return WorkerSession("s1", a_hello(**changes), START)


def read(data: bytes) -> Message:
    return decode(to_worker, data)


def an_assign(lease: str) -> Assign:
    return Assign(lease=lease, task="t", attempt=1, model="m", options={}, inputs=[], upload_url="/u")


def test_messages_are_numbered_from_one_and_carry_the_last_number_heard() -> None:
    session = a_session()
    session.accept(Status(n=7), START)
    first, second = read(session.post(Cancel(lease="a"))), read(session.post(Cancel(lease="b")))
    assert (first, second) == (Cancel(n=1, ack=7, lease="a"), Cancel(n=2, ack=7, lease="b"))


def test_a_repeated_number_is_not_accepted_again() -> None:
    session = a_session()
    answers = [session.accept(Status(n=n), START) for n in (2, 2, 3, 1, 3, 9, 4)]
    assert answers == [True, False, True, False, False, True, False]


def test_even_a_repeat_is_a_sign_of_life() -> None:
    session = a_session()
    session.accept(Status(n=2), START)
    session.accept(Status(n=2), START + 30)
    assert session.heard_at == START + 30


def test_what_is_not_acknowledged_is_told_again_in_order_with_its_old_number() -> None:
    session = a_session()
    posted = [session.post(Cancel(lease=lease)) for lease in "abc"]
    session.accept(Status(n=2, ack=1), START)
    assert [read(data) for data in session.missed(1)] == [replace(read(data), ack=2) for data in posted[1:]]


def test_what_a_returning_worker_has_seen_is_not_told_again() -> None:
    session = a_session()
    for lease in "abc":
        session.post(Cancel(lease=lease))
    assert [read(data).n for data in session.missed(2)] == [3]
    assert [read(data).n for data in session.missed(0)] == [3]


def test_an_acknowledgement_from_the_future_does_no_harm() -> None:
    session = a_session()
    session.post(Cancel(lease="a"))
    session.accept(Status(n=2, ack=10**9), START)
    assert read(session.post(Cancel(lease="b"))).n == 2
    assert len(session.outbox) == 1


def test_a_worker_that_never_acknowledges_does_not_fill_the_memory() -> None:
    session = a_session()
    for _ in range(OUTBOX + 10):
        session.post(LeaseLost(lease="a"))
    assert len(session.outbox) == OUTBOX
    assert session.outbox[0].n == 11


def test_an_assignment_is_untold_until_it_is_acknowledged() -> None:
    session = a_session()
    session.untold.add("lease-1")
    session.post(an_assign("lease-1"))
    session.accept(Status(n=2, ack=0), START)
    assert session.untold == {"lease-1"}
    session.accept(Progress(n=3, ack=1, lease="lease-1", phase="fetch", progress=0), START)
    assert session.untold == set()


def test_offers_and_leases_fill_slots() -> None:
    session = a_session(slots=3)
    assert session.free == 3
    session.offers["o"] = Offered("t", START)
    session.leases["l"] = "t2"
    assert session.free == 1


def test_more_leases_than_slots_leave_none_free() -> None:
    session = a_session(slots=1)
    session.leases = {"a": "t1", "b": "t2"}
    assert session.free == 0


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.GONE])
def test_only_a_ready_worker_has_free_slots(phase: Phase) -> None:
    session = a_session(slots=3)
    session.phase = phase
    assert session.free == 0


def test_a_worker_without_a_connection_has_no_free_slots() -> None:
    session = a_session(slots=3)
    session.attached = False
    assert session.free == 0


def test_a_second_hello_describes_the_worker_anew() -> None:
    session = a_session()
    session.describe(a_hello(models=("x", "y"), slots=4))
    assert (set(session.models), session.slots) == ({"x", "y"}, 4)
