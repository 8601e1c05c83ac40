"""How attempts and tasks end: results, failures, cancels, lost leases; once each, whoever says it how often."""

from __future__ import annotations

import pytest
from msgspec.structs import replace as changed

from hub.effects import Publish, Save, Send, Verify
from hub.messages import (
    CANCELLED, COMPLETED, FAILED, RELEASED, Accept, Cancel, Failed, FailedAck, LeaseLost, Offer, Problem,
    Renew, Result, ResultAck, Status, Welcome,
)
from hub.task import IllegalMove, Output, State
from hub.task import Problem as Reason

from .world import ARTIFACT, NO_MATCH, RULES, World, a_result, kinds, only, published, sent


@pytest.fixture
def world() -> World:
    return World()


# --- results


def test_a_result_is_looked_into_before_it_counts(world: World) -> None:
    lease = world.running()
    assert world.result(lease) == [Verify(world.task(), lease, (ARTIFACT,))]
    assert world.task().state is State.PROCESSING


def test_a_good_result_is_stored_then_shown_then_acknowledged(world: World) -> None:
    lease = world.running()
    media = a_result()
    [verify] = world.result(lease)
    [save_media, save, publish, ack] = world.probed(verify, [media])
    assert save_media == Save(media, 1)
    assert isinstance(save, Save) and save.record.state is State.COMPLETED
    assert save.record.outputs == (Output("upload-1", "result", "r.mp4", 9, media.sha256, 72),)
    assert publish == Publish(save.record, COMPLETED)
    assert ack == Send(world.session().id, ResultAck(lease=lease))


def test_p6_a_result_sent_again_is_acknowledged_again_and_counts_once(world: World) -> None:
    lease = world.running()
    world.complete(lease)
    assert world.result(lease) == [Send(world.session().id, ResultAck(lease=lease))]
    assert world.ledger.completed == {"task-1": 1}


def test_p6_another_result_after_the_accepted_one_is_refused(world: World) -> None:
    lease = world.running()
    world.complete(lease)
    other = Result(lease=lease, artifacts=[changed(ARTIFACT, upload_id="upload-2")])
    assert world.say(other) == [Send(world.session().id, LeaseLost(lease=lease))]


def test_a_result_sent_again_while_it_is_looked_into_is_looked_into_once(world: World) -> None:
    lease = world.running()
    world.result(lease)
    assert world.result(lease) == []
    other = Result(lease=lease, artifacts=[changed(ARTIFACT, upload_id="upload-2")])
    assert only(world.say(other), Problem).code == "result_taken"


def test_a_bad_result_costs_an_attempt_and_says_why(world: World) -> None:
    lease = world.running()
    [verify] = world.result(lease)
    effects = world.probed(verify, NO_MATCH)
    assert published(effects) == [("task-1", RELEASED)]
    assert sent(effects) == [Problem(code=NO_MATCH.code, detail=NO_MATCH.detail), ResultAck(lease=lease)]
    assert world.task().attempts[0].code == "result_frames"
    assert world.result(lease) == [Send(world.session().id, ResultAck(lease=lease))], "no need to send it for ever"


def test_a_bad_result_at_the_last_attempt_fails_the_task(world: World) -> None:
    world.join()
    effects = world.submit()
    for attempt in range(RULES.max_attempts):
        [verify] = world.result(world.accept(effects).lease)
        effects = world.probed(verify, NO_MATCH)
        events = published(effects)
        effects = world.wait(RULES.backoff_s[attempt])
    assert events == [("task-1", FAILED)]
    assert world.stored().problem == Reason(NO_MATCH.code, NO_MATCH.detail)


def test_a_lease_does_not_end_while_its_result_is_looked_into(world: World) -> None:
    lease = world.running()
    [verify] = world.result(lease)
    assert published(world.wait(2 * RULES.lease_s)) == []
    assert published(world.probed(verify)) == [("task-1", COMPLETED)]


def test_a_verdict_on_a_lease_that_is_over_changes_nothing(world: World) -> None:
    lease = world.running()
    [verify] = world.result(lease)
    world.cancel()
    assert world.probed(verify) == []
    assert world.stored().state is State.CANCELLED


def test_a_verdict_on_an_older_lease_does_not_disturb_the_next_result(world: World) -> None:
    first = world.running()
    [old] = world.result(first)
    world.say(Failed(lease=first, code="crashed"))
    second = world.accept(world.wait(RULES.backoff_s[0]))
    [new] = world.result(second.lease)
    assert world.probed(old) == []
    assert published(world.probed(new)) == [("task-1", COMPLETED)]


# --- failures


def test_a_retryable_failure_waits_for_its_backoff(world: World) -> None:
    lease = world.running()
    effects = world.say(Failed(lease=lease, code="out_of_memory", detail="9 GB"))
    assert kinds(effects) == ["Save", "Publish", "FailedAck"]
    assert published(effects) == [("task-1", RELEASED)]
    assert world.task().not_before == world.now + RULES.backoff_s[0]
    assert sent(world.wait(RULES.backoff_s[0] - 1)) == []
    assert only(world.wait(1), Offer).task == "task-1"


def test_backoff_grows_with_the_attempts(world: World) -> None:
    world.join()
    offered, waits = world.submit(), []
    for _ in range(RULES.max_attempts - 1):
        world.say(Failed(lease=world.accept(offered).lease, code="crashed"))
        waits.append(world.task().not_before - world.now)
        offered = world.wait(waits[-1])
    assert waits == list(RULES.backoff_s[:2])


def test_a_worker_may_ask_for_a_longer_wait_but_not_for_a_shorter_one(world: World) -> None:
    lease = world.running()
    world.say(Failed(lease=lease, code="gpu_busy", retry_after=100.0))
    assert world.task().not_before == world.now + 100
    lease = world.accept(world.wait(100)).lease
    world.say(Failed(lease=lease, code="gpu_busy", retry_after=0.0))
    assert world.task().not_before == world.now + RULES.backoff_s[1]


def test_a_failure_that_makes_no_sense_to_repeat_is_final(world: World) -> None:
    lease = world.running()
    effects = world.say(Failed(lease=lease, code="no_person", retryable=False, detail="nobody in the picture"))
    assert published(effects) == [("task-1", FAILED)]
    assert world.stored().problem == Reason("no_person", "nobody in the picture")
    assert sent(effects) == [FailedAck(lease=lease)]


def test_p7_attempts_never_exceed_the_maximum(world: World) -> None:
    world.join()
    effects = world.submit()
    for attempt in range(1, RULES.max_attempts + 1):
        assign = world.accept(effects)
        assert assign.attempt == attempt
        ended = world.say(Failed(lease=assign.lease, code="crashed"))
        effects = world.wait(RULES.backoff_s[attempt - 1])
    assert published(ended) == [("task-1", FAILED)]
    assert sent(effects) == []
    assert [attempt.number for attempt in world.stored().attempts] == [1, 2, 3]


def test_p6_a_failure_sent_again_is_acknowledged_again(world: World) -> None:
    lease = world.running()
    world.say(Failed(lease=lease, code="crashed"))
    before = world.task()
    assert world.say(Failed(lease=lease, code="crashed")) == [Send(world.session().id, FailedAck(lease=lease))]
    assert world.task() == before


def test_p6_a_failure_under_a_lease_that_ended_otherwise_is_lease_lost(world: World) -> None:
    lease = world.running()
    world.cancel()
    effects = world.say(Failed(lease=lease, code="crashed"))
    assert effects == [Send(world.session().id, LeaseLost(lease=lease))]


def test_a_failure_frees_the_slot_for_the_next_task(world: World) -> None:
    lease = world.running()
    world.submit("task-2")
    assert only(world.say(Failed(lease=lease, code="crashed")), Offer).task == "task-2"


# --- lost leases


@pytest.mark.parametrize("say", ["progress", "renew", "result", "failed"])
def test_p6_a_report_under_an_old_lease_changes_nothing_and_is_told_so(world: World, say: str) -> None:
    """A long task that was run twice by a timeout: the first holder is told, the second one's result counts."""
    old = world.running(worker="w1")
    world.wait(RULES.lease_s - 1)
    world.join("w2")
    effects = world.wait(2)
    assert published(effects) == [("task-1", RELEASED)]
    new = world.accept(effects, "w2")
    before, version = world.task(), world.stored().version
    reports = {
        "progress": lambda: world.progress(old, 99, worker="w1"), "renew": lambda: world.say(Renew(lease=old), "w1"),
        "result": lambda: world.result(old, "w1"), "failed": lambda: world.say(Failed(lease=old, code="x"), "w1"),
    }
    assert sent(reports[say]()) == [LeaseLost(lease=old)]
    assert (world.task(), world.stored().version) == (before, version)
    assert published(world.complete(new.lease, "w2")) == [("task-1", COMPLETED)]


def test_a_report_under_a_lease_that_never_was_is_lease_lost(world: World) -> None:
    world.join()
    assert sent(world.result("invented")) == [LeaseLost(lease="invented")]


def test_p7_a_lost_worker_costs_an_attempt_and_the_last_one_fails_the_task(world: World) -> None:
    world.join()
    effects = world.submit()
    for _ in range(RULES.max_attempts):
        world.accept(effects)
        effects = world.wait(RULES.lease_s) + world.say(Status(slots_free=1))
    assert published(effects)[-1] == ("task-1", FAILED)
    assert world.stored().problem == Reason("worker_lost", "w1 fell silent")


def test_a_worker_that_lost_its_lease_keeps_its_slot_until_it_says_that_it_has_stopped(world: World) -> None:
    world.running("task-1")
    world.submit("task-2", priority=1)
    effects = world.wait(RULES.lease_s)
    assert published(effects) == [("task-1", RELEASED)]
    assert not any(isinstance(message, Offer) for message in sent(effects)), "it may still be at the first one"
    assert only(world.say(Status(slots_free=1)), Offer).task == "task-2"


def test_a_worker_that_comes_with_a_lease_long_over_has_a_moment_to_stop(world: World) -> None:
    world.join()
    world.core.detach(world.session().id, world.now)
    world.submit()
    effects = world.join(running=["forgotten"])
    assert [type(message) for message in sent(effects)] == [Welcome, LeaseLost]
    assert only(world.wait(RULES.stop_s), Offer).task == "task-1"


def test_a_result_that_is_looked_into_does_not_hide_that_another_task_still_stops(world: World) -> None:
    world.join(slots=2)
    world.running("task-1")
    lease = world.running("task-2")
    world.submit("task-3")
    world.result(lease)
    world.cancel("task-1")
    assert sent(world.say(Status(slots_free=1))) == [], "the free slot is that of the result"


# --- cancel


def test_cancel_while_waiting(world: World) -> None:
    world.join()
    world.core.detach(world.session().id, world.now)
    world.submit()
    effects = world.cancel()
    assert kinds(effects) == ["Save", "Publish"]
    assert published(effects) == [("task-1", CANCELLED)]
    assert kinds(world.join("w2")) == ["Welcome"], "nobody is offered it any more"


def test_cancel_while_offered_makes_the_yes_come_too_late(world: World) -> None:
    world.join()
    offer = only(world.submit(), Offer).offer
    assert published(world.cancel()) == [("task-1", CANCELLED)]
    assert only(world.say(Accept(offer=offer)), Problem).code == "offer_gone"
    assert world.stored().state is State.CANCELLED


def test_p7_cancel_while_processing_tells_the_worker_and_no_result_is_accepted(world: World) -> None:
    lease = world.running()
    effects = world.cancel()
    assert published(effects) == [("task-1", CANCELLED)]
    assert sent(effects) == [Cancel(lease=lease, reason="cancelled")]
    assert sent(world.result(lease)) == [LeaseLost(lease=lease)]
    assert world.stored().state is State.CANCELLED


def test_cancel_of_a_silent_workers_task_is_immediate(world: World) -> None:
    world.running()
    world.core.detach(world.session().id, world.now)
    assert published(world.cancel()) == [("task-1", CANCELLED)]
    assert world.core.leases == {}


def test_cancel_while_the_result_is_looked_into(world: World) -> None:
    lease = world.running()
    [verify] = world.result(lease)
    assert sent(world.cancel()) == [Cancel(lease=lease, reason="cancelled")]
    assert world.probed(verify) == []


def test_cancelling_twice_is_harmless(world: World) -> None:
    world.running()
    world.cancel()
    assert world.cancel() == []


def test_p7_cancelling_twice_is_harmless_before_the_first_is_durable(world: World) -> None:
    """The store still shows the task as it was; the core knows better."""
    world.running()
    as_stored = world.stored()
    world.cancel()
    assert world.take(world.core.cancel(as_stored, world.now)) == []


def test_p7_a_cancel_decided_after_the_completion_is_refused_before_that_is_durable(world: World) -> None:
    lease = world.running()
    as_stored = world.stored()
    world.complete(lease)
    with pytest.raises(IllegalMove) as refusal:
        world.core.cancel(as_stored, world.now)
    assert refusal.value.code == "task_completed"


def test_a_completed_task_cannot_be_cancelled(world: World) -> None:
    world.complete(world.running())
    with pytest.raises(IllegalMove):
        world.cancel()


def test_a_cancelled_slot_serves_the_next_task_once_the_worker_has_stopped(world: World) -> None:
    world.running()
    world.submit("task-2")
    assert not any(isinstance(message, Offer) for message in sent(world.cancel())), "the GPU is not free yet"
    assert only(world.say(Status(slots_free=1)), Offer).task == "task-2"


def test_a_cancelled_slot_is_taken_back_by_force_where_the_worker_says_nothing(world: World) -> None:
    world.running()
    world.submit("task-2")
    world.cancel()
    assert sent(world.wait(RULES.stop_s - 1)) == []
    assert only(world.wait(1), Offer).task == "task-2"


@pytest.mark.parametrize("end", ["result", "failed"])
def test_a_worker_that_ends_cancelled_work_by_itself_is_free_at_once(world: World, end: str) -> None:
    lease = world.running()
    world.submit("task-2")
    world.cancel()
    report = world.result(lease) if end == "result" else world.say(Failed(lease=lease, code="x"))
    assert [type(message) for message in sent(report)] == [LeaseLost, Offer]


def test_of_two_slots_that_should_stop_each_is_free_when_it_has_stopped(world: World) -> None:
    world.join(slots=3)
    for number in range(3):
        world.running(f"task-{number}")
    world.heard()
    world.submit("task-3")
    world.submit("task-4")
    world.cancel("task-0")
    world.cancel("task-1")
    assert sent(world.say(Status(slots_free=0))) == [], "said before it has stopped anything"
    assert only(world.say(Status(slots_free=1)), Offer).task == "task-3"
    assert len(world.session().stopping) == 1
    assert world.session().free == 0


def test_a_slot_is_not_taken_for_free_because_the_worker_has_not_heard_of_its_next_work(world: World) -> None:
    """A worker with one of two slots at work says so while the assignment for the other is still on its way."""
    world.join(slots=2)
    world.running("task-1")
    world.running("task-2")
    world.heard()
    world.cancel("task-1")
    world.say(Status(slots_free=1))
    world.running("task-3")
    world.cancel("task-2")
    world.say(Status(slots_free=1))
    assert len(world.session().stopping) == 1, "task-2 is still at work; task-3 is the one it has not heard of"


def test_the_slot_of_a_result_that_is_looked_into_is_free_when_its_task_is_cancelled(world: World) -> None:
    lease = world.running()
    world.submit("task-2")
    world.result(lease)
    assert only(world.cancel(), Offer).task == "task-2"
