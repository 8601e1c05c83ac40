"""From a task to a worker: offers, acceptance, the lease that is stored first, and slots that are never oversold."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hub.dispatcher import LEFT_OUT_S
from hub.effects import Publish, Save, Send
from hub.errors import Conflict, Invalid
from hub.messages import (
    ASSIGNED, COMPLETED, CREATED, Accept, Assign, Decline, Drain, Failed, Input, Offer, Problem, Status,
)
from hub.task import State

from .world import FACTS, RULES, SHA, START, World, a_task, kinds, only, published, saved_tasks, sent


@pytest.fixture
def world() -> World:
    return World()


def test_an_unknown_model_is_refused_and_leaves_nothing_behind(world: World) -> None:
    world.join(models=["m", "n"])
    with pytest.raises(Invalid) as refusal:
        world.submit(model="telepathy")
    assert refusal.value.code == "unknown_model"
    assert "m, n" in refusal.value.detail
    assert world.core.tasks == {}


def test_a_task_is_stored_then_shown_then_offered(world: World) -> None:
    world.join()
    task, session = a_task(), world.session()
    offer = Offer(
        offer="id-2", task=task.id, model="m", deadline_s=RULES.offer_s,
        video={"width": 640, "height": 360, "fps": "30000/1001", "frames": 72, "duration": 2.4, "size": 1000},
    )
    assert world.submit() == [Save(task, 0), Publish(task, CREATED), Send(session.id, offer)]


def test_p5_the_lease_is_stored_before_the_worker_hears_of_it(world: World) -> None:
    world.join()
    offered = world.submit(options={"color": "#fff"})
    effects = world.say(Accept(offer=only(offered, Offer).offer))
    [save, send, publish] = effects
    assert isinstance(save, Save) and isinstance(send, Send) and isinstance(publish, Publish)
    assert (save.previous, save.record.version, save.record.state) == (1, 2, State.PROCESSING)
    assert (save.record.lease.worker, save.record.lease.expires_at) == ("w1", START + RULES.lease_s)
    lease = save.record.lease.id
    assert send == Send(world.session().id, Assign(
        lease=lease, task="task-1", attempt=1, model="m", options={"color": "#fff"},
        inputs=[Input("video", f"/videos/video-1?job={lease}", SHA, 1000)], upload_url=f"/uploads?job={lease}",
    ))
    assert publish == Publish(save.record, ASSIGNED)


def test_no_worker_at_create_time_the_task_says_so_and_starts_when_one_joins(world: World) -> None:
    world.join()
    world.core.detach(world.session().id, world.now)
    assert kinds(world.submit()) == ["Save", "Publish"]
    assert world.core.outlook(world.task()).blocked_by == "no_worker_for_model"
    assert only(world.join("w2"), Offer).task == "task-1"


def test_a_task_that_runs_is_not_blocked(world: World) -> None:
    world.running()
    assert world.core.outlook(world.task()).blocked_by is None


def test_a_busy_worker_blocks_and_its_end_frees(world: World) -> None:
    lease = world.running()
    world.submit("task-2")
    assert world.core.outlook(world.task("task-2")).blocked_by == "all_busy"
    assert only(world.complete(lease), Offer).task == "task-2"


def test_a_declined_task_goes_to_another_worker(world: World) -> None:
    world.join("w1")
    offered = world.submit()
    world.join("w2")
    again = world.say(Decline(offer=only(offered, Offer).offer, reason="no memory"))
    assert [effect.session for effect in again if isinstance(effect, Send)] == [world.session("w2").id]
    assert world.accept(again, "w2").task == "task-1"


def test_who_declined_is_asked_again_only_after_a_while(world: World) -> None:
    world.join()
    assert sent(world.say(Decline(offer=only(world.submit(), Offer).offer))) == []
    assert sent(world.wait(LEFT_OUT_S - 1)) == []
    assert only(world.wait(2), Offer).task == "task-1"


def test_silence_counts_as_no_and_another_worker_is_tried(world: World) -> None:
    world.join("w1")
    world.submit()
    world.join("w2")
    assert sent(world.wait(RULES.offer_s - 1)) == []
    effects = world.wait(1)
    assert [effect.session for effect in effects if isinstance(effect, Send)] == [world.session("w2").id]
    assert saved_tasks(effects) == [], "an offer is not a state"


def test_who_is_silent_again_and_again_is_asked_less_often_until_it_accepts(world: World) -> None:
    world.join()
    for number in range(40):
        world.submit(f"task-{number:02}", created_at=START + number)
    times = []
    while len(times) < 7:
        world.say(Status())
        if any(isinstance(message, Offer) for message in sent(world.wait(1, 1.0))):
            times.append(world.now)
    rests = [after - before - RULES.offer_s for before, after in pairwise(times)]
    assert rests == [10, 20, 40, 60, 60, 60]
    world.say(Accept(offer=next(iter(world.session().offers))))
    assert world.session().rest_s == 0
    assert only(world.join(slots=2), Offer).task


def test_who_was_silent_and_says_hello_anew_is_asked_at_once(world: World) -> None:
    world.join()
    world.submit()
    world.wait(RULES.offer_s)
    world.submit("task-2")
    assert only(world.join(), Offer).task == "task-2"


@pytest.mark.parametrize("mute", [1, 2, 5])
def test_nobody_starves_behind_workers_that_let_all_offers_pass(world: World, mute: int) -> None:
    """They are never busy, so they are always the freest; who takes everything finds the first in line waiting."""
    world.join("good")
    lease: str | None = world.accept(world.submit("task-0"), "good").lease
    for number in range(mute):
        world.join(f"mute{number}")
    world.submit("first")
    for number in range(100):
        world.submit(f"later-{number:03}", created_at=START + 1 + number)
    overtook = 0
    while world.task("first").lease is None and overtook < 100:
        world.wait(7, 0.25)
        for number in range(mute):
            world.say(Status(), f"mute{number}")
        if lease is not None:
            world.say(Failed(lease=lease, code="x", retryable=False), "good")
            lease = None
        for offer, what in list(world.session("good").offers.items()):
            overtook += what.task_id != "first"
            lease = only(world.say(Accept(offer=offer), "good"), Assign).lease
    assert overtook <= 1 + mute


def test_who_has_less_running_is_served_first(world: World) -> None:
    """Ann's tasks fill ten slots. Bob comes with none: what becomes free is his until both have as many."""
    world.join(slots=10)
    leases = [world.accept(world.submit(f"ann-{number:02}")).lease for number in range(10)]
    for number in range(10, 20):
        world.submit(f"ann-{number:02}")
        world.submit(f"bob-{number:02}", owner="bob")
    served = []
    for lease in leases[:5]:
        effects = world.say(Failed(lease=lease, code="x", retryable=False))
        served.append(world.accept(effects).task[:3])
    assert served == ["bob"] * 5


def test_what_an_admin_takes_from_a_worker_is_offered_to_another_first(world: World) -> None:
    world.join("w1", slots=3)
    world.join("w2")
    world.accept(world.submit(), "w1")
    effects = world.take(world.core.requeue(world.task(), world.now))
    offers = [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Offer)]
    assert [offer.session for offer in offers] == [world.session("w2").id]


def test_what_an_admin_takes_from_the_only_worker_is_offered_to_it_again(world: World) -> None:
    world.join("w1", slots=2)
    world.join("w2", models=["m", "n"])
    world.say(Drain(reason="maintenance"), "w2")
    world.accept(world.submit(), "w1")
    assert only(world.take(world.core.requeue(world.task(), world.now)), Offer).task == "task-1"


def test_a_late_yes_is_told_that_the_offer_is_over(world: World) -> None:
    world.join()
    offered = world.submit()
    world.wait(RULES.offer_s)
    effects = world.say(Accept(offer=only(offered, Offer).offer))
    assert [message.code for message in sent(effects) if isinstance(message, Problem)] == ["offer_gone"]
    assert world.task().state is State.WAITING


def test_an_offer_is_good_for_one_acceptance(world: World) -> None:
    world.join(slots=2)
    offer = only(world.submit(), Offer).offer
    assert only(world.say(Accept(offer=offer)), Assign).task == "task-1"
    problem = only(world.say(Accept(offer=offer)), Problem)
    assert (problem.code, problem.offer) == ("offer_gone", offer)


def test_nobody_can_accept_what_was_offered_to_another(world: World) -> None:
    world.join("w1")
    offer = only(world.submit(), Offer).offer
    world.join("w2")
    assert only(world.say(Accept(offer=offer), "w2"), Problem).code == "offer_gone"
    assert world.task().state is State.WAITING


def test_a_task_that_left_and_came_back_is_not_offered_twice(world: World) -> None:
    """Cancelled while it was offered, and retried: the first offer is over, so there is one again."""
    world.join("w1")
    world.submit()
    world.cancel()
    world.join("w2")
    offers = [message for message in sent(world.retry()) if isinstance(message, Offer)]
    offers += [message for message in sent(world.wait(RULES.offer_s - 1)) if isinstance(message, Offer)]
    assert len(offers) == 1


def test_the_slot_of_a_cancelled_offer_is_free_at_once(world: World) -> None:
    world.join()
    world.submit("task-1")
    assert kinds(world.submit("task-2")) == ["Save", "Publish"]
    assert only(world.cancel("task-1"), Offer).task == "task-2"


def test_slots_are_never_oversold(world: World) -> None:
    world.join(slots=3)
    offers = [message for number in range(5) for message in sent(world.submit(f"task-{number}"))]
    assert len(offers) == 3
    for offer in offers:
        assert isinstance(offer, Offer)
        assert kinds(world.say(Accept(offer=offer.offer))) == ["Save", "Assign", "Publish"]
    assert world.session().free == 0


def test_a_worker_that_came_back_with_work_has_fewer_slots(world: World) -> None:
    lease = world.running(worker="w1")
    world.join("w1", instance="i2", slots=2, running=[lease])
    assert world.session().free == 1


def test_a_task_adopted_from_the_store_still_fills_its_slot(world: World) -> None:
    world.running()
    world.core.adopt(world.stored(), world.now)
    assert world.session().free == 0
    assert kinds(world.submit("task-2")) == ["Save", "Publish"]


def test_p5_ten_workers_and_a_hundred_tasks_each_run_once(world: World) -> None:
    for number in range(10):
        world.join(f"w{number}", slots=2)
    waiting = [effect for number in range(100) for effect in world.submit(f"task-{number:03}")]
    runs: dict[str, int] = {}
    worker_of = {session.id: session.worker for session in world.core.sessions.values()}
    while waiting:
        effect = waiting.pop(0)
        if not isinstance(effect, Send):
            continue
        worker = worker_of[effect.session]
        match effect.message:
            case Offer(offer=offer):
                waiting += world.say(Accept(offer=offer), worker)
            case Assign(lease=lease, task=task):
                runs[task] = runs.get(task, 0) + 1
                waiting += world.progress(lease, 50, worker=worker)
                waiting += world.complete(lease, worker)
    assert runs == {f"task-{number:03}": 1 for number in range(100)}
    assert world.core.tasks == {} and world.core.leases == {}
    assert set(world.ledger.completed.values()) == {1} and len(world.ledger.completed) == 100


def test_a_draining_worker_gets_no_offers_and_its_task_lives_on(world: World) -> None:
    """Drained, and silent until just before its lease ends: the running task is not touched."""
    lease = world.running()
    world.say(Drain(reason="maintenance"))
    world.submit("task-2")
    effects = world.wait(RULES.lease_s - 1)
    assert sent(effects) == [] and saved_tasks(effects) == []
    assert published(world.complete(lease)) == [("task-1", COMPLETED)]


def test_a_drain_takes_back_what_was_offered(world: World) -> None:
    world.join("w1")
    world.submit()
    world.join("w2")
    effects = world.say(Drain(), "w1")
    assert [effect.session for effect in effects if isinstance(effect, Send)] == [world.session("w2").id]


def test_a_lost_connection_takes_back_what_was_offered(world: World) -> None:
    world.join("w1")
    world.submit()
    world.join("w2")
    effects = world.take(world.core.detach(world.session("w1").id, world.now))
    assert only(effects, Offer).task == "task-1"


def test_ready_workers_are_counted_by_model(world: World) -> None:
    world.join("w1", models=["m", "n"])
    world.join("w2", models=["m"])
    world.join("w3", models=["m"])
    world.say(Drain(), "w3")
    assert [world.core.ready_workers(name) for name in ("m", "n", "x")] == [2, 1, 0]


def test_a_lease_opens_its_task_while_it_lives(world: World) -> None:
    lease = world.running()
    assert world.core.lease_of(lease).id == "task-1"
    world.complete(lease)
    with pytest.raises(Conflict) as refusal:
        world.core.lease_of(lease)
    assert refusal.value.code == "lease_lost"


def test_a_decision_reads_no_clock_and_makes_no_ids_of_its_own() -> None:
    """The same words at the same times are the same effects, whenever they are said."""

    def play() -> list[object]:
        world = World()
        effects = [*world.join(), *world.submit(), *world.wait(6), *world.join("w2")]
        return [*effects, *world.wait(6), *world.cancel()]

    assert play() == play()


def test_what_an_offer_says_of_the_video_is_what_the_probe_measured(world: World) -> None:
    world.join()
    video = only(world.submit(), Offer).video
    assert {name: video[name] for name in ("width", "height", "fps", "frames", "duration")} == {
        name: getattr(FACTS, name) for name in ("width", "height", "fps", "frames", "duration")
    }
