"""A worker's presence: joining, coming back, being replaced, leaving; and what it says twice or too late."""

from __future__ import annotations

import time

import pytest

from hub.effects import Close, Delete, Save, Send
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.interface import OfferedModel
from hub.messages import (
    RELEASED, Accept, Bye, Cancel, Drain, Failed, LeaseLost, Model, Offer, Problem, Progress, Renew, Status, Welcome,
    decode, to_worker,
)
from hub.presence import CLOSE_GONE, CLOSE_REPLACED
from hub.roster import MOST_BY_ONE, MOST_IN_ALL
from hub.session import Phase
from hub.task import State

from .world import RULES, START, World, a_hello, a_task, kinds, only, published, saved, saved_tasks, sent


@pytest.fixture
def world() -> World:
    return World()


def test_a_new_worker_is_welcomed_with_the_rules(world: World) -> None:
    [welcome, save] = world.join()
    assert welcome == Send(world.session().id, Welcome(
        session=world.session().id, heartbeat_s=RULES.heartbeat_s, renew_s=RULES.renew_s, lease_s=RULES.lease_s,
    ))
    assert save == Save(OfferedModel("m", "", "", by="w1"), 0)


def test_models_are_remembered_once_and_again_when_they_change(world: World) -> None:
    world.join("w1")
    assert saved(world.join("w2")) == []
    world.now += 1
    hello = a_hello("w2", instance="i2")
    hello.models = [Model(name="m", alias="Magic")]
    effects = world.take(world.core.join(hello, world.now))
    [save] = [effect for effect in effects if isinstance(effect, Save)]
    assert save == Save(OfferedModel("m", "Magic", "", 2, by="w1"), 1)


def test_models_outlive_their_worker(world: World) -> None:
    world.join()
    world.say(Bye())
    assert kinds(world.submit()) == ["Save", "Publish"]


def test_the_models_that_workers_make_up_are_bounded(world: World) -> None:
    for number in range(20):
        effects = world.join("w1", instance=f"i{number}", models=[f"made-up-{number}-{n}" for n in range(100)])
    assert len(world.core.models) == MOST_BY_ONE
    problem = only(effects, Problem)
    assert (problem.code, problem.detail.count("made-up")) == ("too_many_models", 100)
    for number in range(2, 9):
        world.join(f"w{number}", models=[f"model-{number}-{n}" for n in range(100)])
        world.join(f"w{number}", instance="i2", models=[f"another-{number}-{n}" for n in range(100)])
    assert len(world.core.models) == MOST_IN_ALL
    assert not any(isinstance(message, Problem) for message in sent(world.join("w9", models=["model-2-0"])))


def test_a_model_that_nobody_offers_is_forgotten_at_an_admins_word_and_may_come_again(world: World) -> None:
    world.join()
    with pytest.raises(Conflict):
        world.core.forget_model("m")
    world.say(Bye())
    world.submit()
    assert world.core.forget_model("m") == [Delete(OfferedModel, "m")]
    del world.ledger.stored[OfferedModel, "m"]
    with pytest.raises(NotFound):
        world.core.forget_model("m")
    with pytest.raises(Invalid):
        world.submit("task-2")
    assert only(world.join(), Offer).task == "task-1"


def test_the_same_instance_resumes_its_session(world: World) -> None:
    world.join()
    session = world.session()
    world.core.detach(session.id, world.now)
    assert session.free == 0
    welcome = only(world.join(), Welcome)
    assert (welcome.session, welcome.resumed) == (session.id, True)
    assert world.session() is session and session.free == 1


def test_a_resumed_session_is_told_what_it_missed_in_order(world: World) -> None:
    world.join()
    session = world.session()
    for message in sent([*world.submit("task-1")], session.id):
        session.post(message)
    world.core.detach(session.id, world.now)
    session.post(Cancel(lease="x"))
    missed = [decode(to_worker, data) for data in session.missed(0)]
    assert [type(message) for message in missed] == [Offer, Cancel]
    assert [message.n for message in missed] == [1, 2]


def test_a_session_that_is_carried_again_takes_offers_again(world: World) -> None:
    world.join()
    session = world.session()
    world.core.detach(session.id, world.now)
    world.submit()
    world.now += 5
    world.core.attach(session.id, world.now)
    assert (session.attached, session.heard_at) == (True, world.now)
    assert only(world.wait(1), Offer).task == "task-1"


def test_a_running_lease_survives_a_lost_connection(world: World) -> None:
    lease = world.running()
    world.core.detach(world.session().id, world.now)
    assert saved_tasks(world.wait(50)) == []
    assert saved_tasks(world.join(running=[lease])) == []
    assert published(world.progress(lease, 10)) == [("task-1", "progressed")]


def test_coming_back_gives_every_running_lease_a_full_heartbeat(world: World) -> None:
    lease = world.running()
    world.wait(RULES.lease_s - 1)
    world.join(running=[lease])
    world.wait(RULES.heartbeat_s - 1)
    assert world.task().state is State.PROCESSING


def test_a_new_instance_replaces_the_old_session(world: World) -> None:
    world.join()
    old = world.session()
    effects = world.join(instance="i2")
    assert effects[0] == Close(old.id, CLOSE_REPLACED, "another instance of this worker has joined")
    assert only(effects, Welcome).resumed is False
    assert (old.phase, world.session().instance, len(world.core.sessions)) == (Phase.GONE, "i2", 1)


def test_an_instance_that_was_replaced_is_refused_as_long_as_its_successor_is_here(world: World) -> None:
    for instance in ("i1", "i2", "i3"):
        world.join(instance=instance)
    for instance in ("i1", "i2"):
        with pytest.raises(Forbidden, match="another instance of this worker has joined"):
            world.join(instance=instance)
    assert world.session().instance == "i3" and only(world.join(instance="i3"), Welcome).resumed
    world.say(Bye())
    assert not only(world.join(instance="i1"), Welcome).resumed


def test_a_message_without_a_number_changes_nothing_and_is_told_so(world: World) -> None:
    world.join()
    lease = world.running("task-1")
    unnumbered = Failed(lease=lease, code="worker_error", ack=world.session().last_number)
    effects = world.core.receive(world.session().id, unnumbered, world.now)
    assert only(effects, Problem).code == "no_number" and len(effects) == 1
    assert world.task().state is State.PROCESSING


def test_a_new_instance_gives_up_the_leases_that_it_does_not_run(world: World) -> None:
    world.join(slots=2)
    kept, lost = world.running("task-1"), world.running("task-2")
    effects = world.join(instance="i2", slots=2, running=[kept])
    assert published(effects) == [("task-2", RELEASED)]
    assert world.session().leases == {kept: "task-1"}
    [attempt] = world.task("task-2").attempts
    assert (attempt.number, attempt.worker, attempt.code) == (1, "w1", "worker_lost")
    assert only(effects, Offer).task == "task-2", "it is offered again at once"
    assert sent(world.progress(lost, 10)) == [LeaseLost(lease=lost)]


def test_a_returning_worker_is_told_which_of_its_leases_are_over(world: World) -> None:
    world.join()
    effects = world.join(instance="i2", running=["old-b", "old-a"])
    assert [message for message in sent(effects) if isinstance(message, LeaseLost)] == [
        LeaseLost(lease="old-a"), LeaseLost(lease="old-b"),
    ]


def test_a_worker_cannot_claim_the_lease_of_another(world: World) -> None:
    lease = world.running(worker="w1")
    effects = world.join("w2", running=[lease])
    assert only(effects, LeaseLost).lease == lease
    assert world.task().worker == "w1"
    assert sent(world.progress(lease, 99, worker="w2")) == [LeaseLost(lease=lease)]
    assert world.task().progress == 0.0


def test_an_assignment_that_was_never_delivered_is_not_given_up_on_resume(world: World) -> None:
    """The connection breaks while the lease is on its way: it waits in the outbox, or is not even durable yet."""
    lease = world.running()
    world.core.detach(world.session().id, world.now)
    assert published(world.join(running=[])) == []
    assert world.task().lease is not None and world.task().lease.id == lease


def test_an_assignment_that_was_acknowledged_and_is_not_run_is_given_up_on_resume(world: World) -> None:
    world.join()
    session = world.session()
    for message in sent(world.submit(), session.id):
        session.post(message)
    [offer] = session.outbox
    for message in sent(world.say(Accept(offer=offer.offer)), session.id):
        session.post(message)
    world.say(Status(ack=session.last_number))
    assert published(world.join(running=[], last_seen=session.last_number)) == [("task-1", RELEASED)]


def test_a_repeated_message_changes_nothing(world: World) -> None:
    lease = world.running()
    session = world.session()
    message = Progress(n=50, lease=lease, phase="segment", progress=50)
    world.now += 2
    assert kinds(world.take(world.core.receive(session.id, message, world.now))) == ["Save", "Publish"]
    before = world.task()
    assert world.core.receive(session.id, message, world.now + 5) == []
    assert world.task() == before


def test_a_session_that_is_gone_is_told_to_say_hello(world: World) -> None:
    with pytest.raises(NotFound) as refusal:
        world.core.receive("nobody", Status(n=2), world.now)
    assert refusal.value.code == "session_gone"


def test_a_second_hello_inside_a_session_is_a_problem_and_no_more(world: World) -> None:
    world.join()
    assert only(world.say(a_hello()), Problem).code == "unexpected"


def test_bye_frees_everything_at_once(world: World) -> None:
    world.join(slots=3)
    world.running("task-1")
    world.submit("task-2")
    world.join("w2", slots=2)
    session = world.session("w1").id
    effects = world.say(Bye(), "w1")
    assert published(effects) == [("task-1", RELEASED)]
    assert Close(session, CLOSE_GONE, "goodbye") in effects
    offers = [message.task for message in sent(effects, world.session("w2").id) if isinstance(message, Offer)]
    assert sorted(offers) == ["task-1", "task-2"]
    assert world.core.session_of("w1") is None


def test_bye_does_not_throw_away_a_result_under_inspection(world: World) -> None:
    lease = world.running()
    [verify] = world.result(lease)
    assert published(world.say(Bye())) == []
    assert published(world.probed(verify)) == [("task-1", "completed")]


def test_a_worker_long_silent_is_gone_and_what_it_says_then_comes_too_late(world: World) -> None:
    world.join()
    session = world.session()
    assert world.wait(3 * RULES.heartbeat_s) == []
    assert world.wait(1) == [Close(session.id, CLOSE_GONE, "silent for too long")]
    with pytest.raises(NotFound):
        world.core.receive(session.id, Status(n=2), world.now)


def test_heartbeats_keep_a_session(world: World) -> None:
    world.join()
    for _ in range(20):
        world.wait(RULES.heartbeat_s)
        world.say(Status())
    assert world.session().heard_at == START + 20 * RULES.heartbeat_s


def test_a_drained_worker_that_comes_back_is_still_draining(world: World) -> None:
    world.join()
    world.say(Drain())
    world.join()
    assert kinds(world.submit()) == ["Save", "Publish"]


def test_p6_a_renewal_by_the_old_instance_is_refused(world: World) -> None:
    """The baton is with one session: a renewal over a replaced one is not heard at all."""
    lease = world.running()
    old = world.session().id
    world.join(instance="i2", running=[lease])
    with pytest.raises(NotFound):
        world.core.receive(old, Renew(n=9, lease=lease), world.now)
    assert sent(world.say(Renew(lease=lease))) == []


def test_detaching_a_session_that_is_gone_is_harmless(world: World) -> None:
    assert world.core.detach("nobody", world.now) == []


def test_p15_a_herd_of_workers_is_welcomed_at_the_price_of_what_runs_not_of_what_waits(world: World) -> None:
    def seconds(name: str) -> float:
        began = time.perf_counter()
        for number in range(200):
            world.core.join(a_hello(f"{name}-{number}", models=("n",)), world.now)
        return time.perf_counter() - began

    few = seconds("early")
    world.core.boot([a_task(f"task-{number}") for number in range(50_000)], [], world.now)
    assert seconds("late") < 4 * few + 0.1
